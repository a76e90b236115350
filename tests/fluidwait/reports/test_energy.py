"""Energy and money on the command line: what the file gives, arithmetic by hand, silence where nothing is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import ONE_TYPE, answer, written

from fluid import FileError, Power
from fluid.hardware.power_law import OTHERS
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import load, parse

SHORT = ("--horizon", "60", "--replications", "2")
POWER = """
[replica.power]
idle = 80.0
busy = 300.0
price = 0.1
"""
NAMED = """
[replica]
model = "llama-3.1-8b"
gpu = "{gpu}"
tensor_parallel = 2
{more}
[[workload.type]]
prompt_tokens = 100
output_tokens = 100
rate = 1.0
"""


def priced(rate: float = 20.0) -> str:
    """A file with watts and two prices."""
    text = ONE_TYPE.format(rate=rate)
    return text.replace("kv_capacity", "price = 3.6\nkv_capacity").replace("[[workload", POWER + "[[workload")


def named(gpu: str, *more: str) -> Power | None:
    """The power of two GPUs of a name, with keys of [replica.power]."""
    table = "[replica.power]\n" + "\n".join(more) if more else ""
    return parse(NAMED.format(gpu=gpu, more=table).encode(), "mix.toml").replica.power


def test_solve_says_joules_and_money_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """20 requests/s of 20 tokens: 3.6 an hour are 0.001 a second and 2.5 a million tokens; J/3.6e6 kWh at 0.1."""
    file = written(tmp_path, priced())
    _, found = answer(capsys, "solve", file)
    assert found["energy"]["watts"] == pytest.approx(sum(found["energy"]["parts"].values()))
    assert found["energy"]["per_output_token"] == pytest.approx(found["energy"]["watts"] / 400)
    assert found["energy"]["power"] == {"idle": 80, "overhead": 300, "busy": 300, "source": "given", "error": None}
    assert found["money"]["replica"] == pytest.approx(2.5)
    assert found["money"]["electricity"] == pytest.approx(found["energy"]["per_output_token"] / 3.6 * 0.1)
    assert status(["solve", str(file)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "J an output token" in shown
    assert "a million output tokens cost 2.5 and 0.02" in shown


def test_verify_says_what_was_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Money at the throughput measured; nothing was evicted, so that nothing was wasted."""
    file = written(tmp_path, priced())
    _, found = answer(capsys, "verify", file, "--policy", "greedy", *SHORT)
    assert found["energy"]["lost_joules"]["mean"] == 0
    assert found["money"]["replica"] == pytest.approx(1000 / found["throughput"]["mean"])
    assert found["energy"]["joules"]["mean"] == pytest.approx(found["busy_share"]["mean"] * 300 / 400, rel=0.05)
    status(["verify", str(file), "--policy", "greedy", *SHORT])
    assert "J an output token" in capsys.readouterr().out


def test_a_sweep_keeps_energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cell of `sweep` says what `verify` says at its rate."""
    file = written(tmp_path, priced())
    _, verified = answer(capsys, "verify", file, "--policy", "greedy", *SHORT)
    _, found = answer(capsys, "sweep", file, "--policies", "greedy", "--rates", "20", "--out", tmp_path / "out", *SHORT)
    assert found["cells"][0]["joules"] == verified["energy"]["joules"]
    assert found["cells"][0]["money"] == verified["money"]
    _, again = answer(capsys, "sweep", file, "--policies", "greedy", "--rates", "20", "--out", tmp_path / "out", *SHORT)
    assert again == found


def test_a_plan_adds_up_its_replicas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """n replicas at rate/n each, and what a million tokens cost at n x 3.6 an hour."""
    _, found = answer(capsys, "plan", written(tmp_path, priced(500.0)))
    n = found["kinds"][0]["count"]
    _, one = answer(capsys, "solve", written(tmp_path, priced(500.0 / n)))
    assert found["cost"] == pytest.approx(3.6 * n)
    assert found["energy"]["watts"] == pytest.approx(n * one["energy"]["watts"], rel=1e-4)
    assert found["energy"]["million_tokens"]["replicas"] == pytest.approx(found["cost"] / 3600 / 0.01)
    assert found["energy"]["electricity"] == pytest.approx(found["energy"]["watts"] / 1000 * 0.1)


def test_a_plan_without_a_price_says_nothing_of_money(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The price of 1 that counts replicas then is nobody's; with no watts known either nothing is said."""
    file = written(tmp_path, priced().replace("price = 3.6\n", ""))
    _, found = answer(capsys, "plan", file)
    assert found["energy"]["million_tokens"]["replicas"] is None
    assert found["energy"]["million_tokens"]["electricity"] > 0
    _, bare = answer(capsys, "plan", written(tmp_path, ONE_TYPE.format(rate=20.0)))
    assert bare["energy"] is None
    assert status(["plan", str(tmp_path / "mix.toml")]) == 0
    shown = capsys.readouterr().out
    assert "million" not in shown
    assert "requests/s in 1 type\n" in shown


def test_a_kind_may_have_a_power_of_its_own(tmp_path: Path) -> None:
    """Without other keys of [replica] it is that of the file; electricity costs what it does there."""
    kinds = ('[[fleet.kind]]\nname = "a"\nprice = 1.0\n'
             '[[fleet.kind]]\nname = "b"\nprice = 1.0\n[fleet.kind.power]\nidle = 10.0\nbusy = 20.0\nprice = 0.3\n')
    first, second = load(written(tmp_path, priced() + kinds)).fleet
    assert first.kind.replica.power == Power(idle=80, busy=300)
    assert second.kind.replica.power == Power(idle=10, busy=20)
    assert second.kind.replica.kv_capacity == first.kind.replica.kv_capacity
    assert (first.electricity, second.electricity) == (0.1, 0.3)


def test_what_is_not_known_is_null_and_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, ONE_TYPE.format(rate=20.0))
    for command in (("solve",), ("verify", "--policy", "greedy", *SHORT)):
        _, found = answer(capsys, command[0], file, *command[1:])
        assert (found["energy"], found["money"]) == (None, None)
    assert answer(capsys, "plan", file)[1]["energy"] is None
    status(["solve", str(file)])
    assert "energy" not in capsys.readouterr().out
    file = written(tmp_path, ONE_TYPE.format(rate=20.0).replace("kv_capacity", "price = 3.6\nkv_capacity"))
    _, found = answer(capsys, "plan", file)
    assert (found["energy"]["watts"], found["energy"]["electricity"]) == (None, None)
    assert found["energy"]["million_tokens"]["replicas"] == pytest.approx(2.5)
    status(["plan", str(file)])
    assert "energy" not in capsys.readouterr().out


def test_given_watts_are_those_of_one_gpu_and_win() -> None:
    """Two L4: 2 x 36 W idle by the catalogue, or as given; `busy` alone is constant while iterations run."""
    assert named("l4").idle == 72.0
    assert named("l4", "idle = 30.0").idle == 60.0
    assert named("l4", "idle = 30.0").busy == 2 * 72 * OTHERS.busy
    assert named("l4", "busy = 70.0") == Power(idle=36, busy=70).times(2)
    assert named("l4", "price = 0.1") == named("l4")
    assert named("a6000") is None
    assert named("a6000", "idle = 25.0").idle == 50.0


@pytest.mark.parametrize(("table", "said"), [
    ("idle = 80.0", "replica.power.busy is missing"), ("busy = 80.0", "replica.power.idle is missing"),
    ("idle = 9.0\noverhead = 10.0", "replica.power.overhead needs replica.power.busy"),
    ("idle = 90.0\nbusy = 80.0", "replica.power.idle must be at most overhead, 80 watts (got 90.0)"),
    ("price = 0.0", "replica.power.price must be a positive finite number"),
    ("watts = 1.0", "replica.power.watts is not a known key")])
def test_a_power_that_cannot_be_is_one_line(table: str, said: str) -> None:
    text = ONE_TYPE.format(rate=1.0).replace("[[workload", f"[replica.power]\n{table}\n[[workload")
    with pytest.raises(FileError) as error:
        parse(text.encode(), "mix.toml")
    assert said in str(error.value)
