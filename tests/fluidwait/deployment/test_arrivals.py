"""How requests arrive, as a deployment file says it: bursts read, refused in one line, and served."""

from pathlib import Path
from typing import Any

import pytest
from command_line import answer, written

from fluid.errors import FileError
from fluidwait.deployment.deployment import parse
from fluidwait.study.fingerprint import asked
from fluidwait.study.outcomes import Plan
from thresholds import Dispersion, PacedPolicy, predict
from verification import Batch, GammaBursts, OnOff, Poisson

REPLICA = """
[replica]
kv_capacity = 137000
iteration_time = { overhead = 0.0106, per_kv_token = 4.013e-7 }
[workload]
"""
TYPE = """
[[workload.type]]
prompt_tokens = 512
output_tokens = 20
rate = 20.0
"""


@pytest.mark.parametrize(("value", "traffic", "dispersion"), [
    ("{ burstiness = 0.25 }", GammaBursts(0.25), Dispersion(4.0)),
    ("{ dispersion = 4.0 }", GammaBursts(0.25), Dispersion(4.0)),
    ("{ batch = 7 }", Batch(7), Dispersion()),
    ("{ on = 1, off = 3.0 }", OnOff(1.0, 3.0), Dispersion(91.0, 0.75)),  # 1 + 2 x 20 x 9 / 4
    ('"poisson"', Poisson(), Dispersion()),
])
def test_arrivals_are_those_of_the_file(value: str, traffic: object, dispersion: Dispersion) -> None:
    """Each word means one process, at the rates of the types."""
    read = parse((REPLICA + f"arrivals = {value}" + TYPE).encode(), "mix.toml")
    assert read.traffic == traffic
    assert read.dispersion == dispersion


@pytest.mark.parametrize(("value", "key", "problem"), [
    ("{ burstiness = 0.0 }", "arrivals.burstiness", "from 0.001 to 1000"),
    ("{ dispersion = 0.0 }", "arrivals.dispersion", "from 0.001 to 1000"),
    ("{ on = 1.0 }", "arrivals", "must hold burstiness, dispersion, on and off, or batch (got on)"),
    ("{ burstiness = 1.0, on = 1.0, off = 2.0 }", "arrivals", "(got burstiness, on, off)"),
    ("{ on = 0, off = 1.0 }", "arrivals.on", "a positive finite number of seconds"),
    ("{ of = 1 }", "arrivals.of", 'did you mean "off"?'),
    ("{}", "arrivals", "(got none)"),
    ('"bursty"', "arrivals", '"poisson", "trace"'),
    ("3", "arrivals", '"poisson", "trace"'),
    ('"trace"', "arrivals", "must go with workload.trace"),
    ("{ burstiness = 0.5 }\nwindow = [ { duration = 60.0, scale = 1.0 } ]", "window",
     "must stand without a table of workload.arrivals"),
    ("{ batch = 0 }", "arrivals.batch", "must be a whole number of requests from 1"),
])
def test_arrivals_that_cannot_be_used_are_refused_in_one_line(value: str, key: str, problem: str) -> None:
    """The line names the key, what it must be and what was found."""
    with pytest.raises(FileError) as caught:
        parse((REPLICA + f"arrivals = {value}" + TYPE).encode(), "mix.toml")
    line = str(caught.value)
    assert line.startswith(f"mix.toml: workload.{key} ")
    assert problem in line
    assert "\n" not in line


def test_the_cells_of_a_sweep_know_the_bursts() -> None:
    """Two burstinesses are two questions, the same one twice is one."""
    def question(value: str) -> object:
        read = parse((REPLICA + f"arrivals = {value}" + TYPE).encode(), "mix.toml")
        return asked(read, Plan.checked(read, None, 2, 0))

    assert question("{ burstiness = 0.5 }") == question("{ burstiness = 0.5 }")
    assert question("{ burstiness = 0.5 }") != question("{ burstiness = 0.25 }") != question('"poisson"')


def test_the_commands_predict_and_check_at_the_dispersion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`thresholds` predicts what `predict` does, `verify` simulates bursts and holds it against them."""
    text = REPLICA + "arrivals = { burstiness = 0.25 }" + TYPE
    file = written(tmp_path, text)
    read = parse(text.encode(), "mix.toml")
    code, designed = answer(capsys, "thresholds", file, "--policy", "paced")
    assert code == 0
    assert designed["arrivals"] == {"burstiness": 0.25, "dispersion": 4.0, "dispersion_seconds": 0.0}
    policy = windows_of(designed)
    expected = predict(policy, read.workload, read.replica, Dispersion(4.0)).latency
    assert designed["predicted"]["latency"] == pytest.approx(expected)
    code, found = answer(capsys, "verify", file, "--policy", "paced", "--horizon", 200, "--replications", 5)
    assert code == 0
    checked = {each["name"]: each for each in found["checks"]}
    assert checked["latency"]["predicted"] == pytest.approx(expected)


def windows_of(designed: dict[str, Any]) -> PacedPolicy:
    """The windows of an answer as a policy."""
    windows = designed["types"]
    return PacedPolicy(tuple(each["entries"] for each in windows), tuple(each["iterations"] for each in windows))
