"""What a Python session sees: the names that are offered, results in one line and in plain values, files and names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from command_line import ONE_TYPE, answer, written

import fluidwait
from fluid import (
    Batches,
    InputError,
    IterationTime,
    PromptType,
    Replica,
    Trace,
    Workload,
    solve,
    stability_region,
    stage_profile,
)
from fluidwait.deployment.deployment import load
from thresholds import WaitPolicy, auto, look_ahead, nested, paced, predict, wait
from verification import Arrivals, Greedy, simulate, verify

PACKAGES = ("fluid", "fluid.planning", "fluid.uncertainty", "thresholds", "verification", "verification.asymptotics",
            "verification.hindsight", "verification.rounds", "fluidwait")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_lists_what_it_offers(name: str) -> None:
    """`dir` holds the names of `__all__`, all of them there, and no module that happens to be loaded."""
    package = import_module(name)
    offered = [each for each in dir(package) if not each.startswith("__")]
    assert offered == sorted(package.__all__)
    assert all(hasattr(package, each) for each in offered)


REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7))
MIX = Workload([PromptType(64, 20, 20.0, "chat"), PromptType(300, 40, 2.0)])
LONGEST = 130  # characters of a line: a long word may go over 120


def results() -> list[object]:
    """A result of each kind, also where nothing is stable, and for a thousand types or rows."""
    many = Workload.from_arrays(np.arange(1, 1001), np.full(1000, 20), np.full(1000, 0.02))
    found = verify(wait(MIX, REPLICA), MIX, REPLICA, horizon=20.0, replications=2)
    return [solve(MIX, REPLICA), solve(MIX.scaled(1000.0), REPLICA), wait(MIX, REPLICA), paced(many, REPLICA),
            wait(MIX.scaled(1000.0), REPLICA), paced(MIX, REPLICA, lengths="unknown"), look_ahead(MIX, REPLICA),
            nested(Workload([PromptType(64, 20, 5.0)]), REPLICA), auto(MIX, REPLICA), predict(wait(many, REPLICA)),
            found, found.verdict, found.summaries[0], found.runs[0], found.runs[0].timeline,
            solve(many, REPLICA).impossible,
            Trace([10] * 999, [20] * 999, np.arange(999.0)), Batches.from_arrays([1] * 99, [512] * 99, [0.0108] * 99),
            stage_profile(many, REPLICA), stability_region(many, REPLICA)]


def test_a_result_is_one_readable_line() -> None:
    """What it is, and the numbers that matter: no array, however many types there are."""
    for each in results():
        line = repr(each)
        assert line.startswith(type(each).__name__ + "(")
        assert len(line) <= LONGEST
        assert not re.search(r"\n|array\(|object at", line)


@pytest.mark.parametrize("replica", [
    REPLICA, Replica(9, IterationTime.largest(IterationTime(0.1, 0.2), IterationTime(0.3, 0.0, 1e-5)), prefill=512),
])
def test_a_replica_says_how_to_make_it(replica: Replica) -> None:
    """Its line is Python that gives it back, without what is the default anyway."""
    assert eval(repr(replica)) == replica
    assert "None" not in repr(replica)


@pytest.mark.parametrize("command", [
    ["solve"], *(["thresholds", "--policy", name] for name in ("wait", "paced", "nested")),
    ["verify", "--policy", "wait", "--horizon", "20", "--replications", "2"]])
def test_plain_values_have_the_names_of_the_command_line(command: list[str], tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    """`to_dict` is the JSON of the command, less what only the command knows."""
    file = written(tmp_path, ONE_TYPE.format(rate=5.0))
    code, answered = answer(capsys, command[0], file, *command[1:])
    read = load(file)
    design = {"wait": wait, "paced": paced, "nested": nested}.get(command[-1], wait)(read.workload, read.replica)
    result = {"solve": design.equilibrium, "thresholds": design}.get(command[0])
    if result is None:
        result = verify(design, read.workload, read.replica, horizon=20.0, replications=2)
    assert code in (0, 1)
    for name, value in result.to_dict().items():
        assert json.loads(json.dumps(value, allow_nan=False)) == answered[name], name


def test_a_run_is_a_table_of_its_requests_and_a_few_plain_numbers() -> None:
    """A row a request, NaN where it did not finish; means are over those that did: a prefill and two decodes of 1 s."""
    mix = Workload([PromptType(10, 2, 1.0), PromptType(99, 2, 1.0)])  # of which the second grows to 101 tokens
    run = simulate(Greedy(), mix, Replica(100, IterationTime(1.0, 0.0)), arrivals=Arrivals([0.0, 0.5], [0, 1]))
    said, frame = run.to_dict(), run.to_frame()
    assert frame["latency, s"].isna().tolist() == [False, True]
    assert (said["requests"], said["completed"], said["rejected"], said["latency"]) == (2, 1, 1, 3.0)
    assert run.caption() in unescape(run._repr_html_())


def test_what_a_run_does_not_know_is_none() -> None:
    """Nobody arrives: no mean, no NaN."""
    run = simulate(WaitPolicy((1,)), Workload([PromptType(10, 2, 1e-9)]), REPLICA, horizon=1.0)
    assert run.to_dict()["latency"] is None
    assert repr(run).startswith("Run(0 of 0 requests finished")


@pytest.mark.parametrize(("names", "options", "problem"), [
    (("llama-3.1-8", "h100-80gb"), {}, 'did you mean "llama-3.1-8b"'),
    (("llama-2-7b", "h100"), {}, 'did you mean "h100-80gb"'),
    (("llama-2-7b", "a100-80gb"), {"memory_fracton": 0.9}, 'did you mean "memory_fraction"'),
    (("llama-2-7b", "a100-80gb"), {"colour": 3}, "option must be one of tensor_parallel"),
    (("no/config.json", "a100-80gb"), {}, "readable config.json"),
    (("llama-2-7b", "a100-80gb"), {"prefill": "half"}, "prefill"),
])
def test_a_replica_of_names_says_which_name_is_near(names: tuple[str, str], options: dict[str, object],
                                                    problem: str) -> None:
    """An unknown model, GPU or option is refused with the nearest known one."""
    with pytest.raises(InputError, match=re.escape(problem)):
        Replica.of(*names, **options)


@pytest.mark.parametrize(("keys", "options"), [
    ("", {}),
    ("tensor_parallel = 2\nmemory_fraction = 0.8\nblock = 16\n",
     {"tensor_parallel": 2, "memory_fraction": 0.8, "block": 16}),
    ("kv_capacity = 5000\nmax_num_seqs = 7\nprefill = { chunk = 256 }\n",
     {"kv_capacity": 5000, "max_num_seqs": 7, "prefill": 256}),
    ("attention_window = 99\nkv_dtype = \"fp8\"\n", {"attention_window": 99, "kv_dtype": "fp8"}),
])
def test_a_replica_of_names_is_that_of_the_file(keys: str, options: dict[str, object], tmp_path: Path) -> None:
    """The same keys make the same replica, in TOML and in Python."""
    types = ONE_TYPE.format(rate=5.0).partition("[[")[2]
    file = written(tmp_path, f'[replica]\nmodel = "mistral-7b-v0.1"\ngpu = "a100-80gb"\n{keys}\n[[{types}')
    assert load(file).replica == Replica.of("mistral-7b-v0.1", "a100-80gb", **options)


def test_a_deployment_is_loaded_from_python(tmp_path: Path) -> None:
    """`fluidwait.load` gives the workload and the replica of the file, a line, a table and plain values."""
    file = written(tmp_path, ONE_TYPE.format(rate=5.0))
    read = fluidwait.load(file)
    assert (read.workload, read.replica) == (Workload([PromptType(512, 20, 5.0, "chat")]), REPLICA)
    assert repr(read) == f"Deployment({file}: 1 types, 5 requests/s; 137,000 KV tokens, iteration time given)"
    assert read.to_frame()["requests/s"].tolist() == [5.0]
    said = json.loads(json.dumps(read.to_dict(), allow_nan=False))
    assert said["types"] == [{"name": "chat", "prompt_tokens": 512, "output_tokens": 20, "rate": 5.0}]
    assert said["replica"]["iteration_time"]["pieces"][0]["overhead"] == 0.0106


def test_the_import_of_fluidwait_is_light() -> None:
    """Nothing is compiled or drawn before something is asked for; what does not exist is an AttributeError."""
    program = ("import sys, fluidwait; heavy = {'numba', 'numpy', 'typer'} & set(sys.modules); "
               "assert not heavy, heavy; assert fluidwait.load and not hasattr(fluidwait, 'lode')")
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_package_loads_what_is_used_of_it() -> None:
    """The three floors and their names are there at once; SciPy and numba come with what needs them."""
    program = ("import sys, fluid, thresholds, verification; from fluid import PromptType, Workload; "
               "Workload([PromptType(1, 1, 1.0)]); heavy = {'scipy', 'numba', 'sympy'} & set(sys.modules); "
               "assert not heavy, heavy; assert callable(thresholds.reachable)")
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_offered_is_never_covered_by_a_module_of_its_name() -> None:
    """Whoever loads `thresholds.look_ahead.design` first still finds the function, and the module's names."""
    program = ("import thresholds.look_ahead.design, thresholds.reachable\n"
               "from thresholds import look_ahead, reachable\n"
               "assert callable(look_ahead) and callable(reachable) and callable(thresholds.look_ahead)")
    subprocess.run([sys.executable, "-c", program], check=True)
