"""Closed loops in a deployment file: users who think, limits on concurrency, and what the commands say of them."""

from pathlib import Path

import pytest
from command_line import answer, written

from fluid import IterationTime, PromptType, Replica, Workload, solve_users
from fluid.errors import FileError
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import parse
from fluidwait.study.designs import choose
from verification import ClosedLoop, GammaBursts, Limited, Poisson

REPLICA = """
[replica]
kv_capacity = 20000
iteration_time = { overhead = 0.0106, per_kv_token = 4.013e-7, per_prefill_token = 5e-5, per_sequence = 8e-5 }
[workload]
"""
TYPES = """
[[workload.type]]
name = "chat"
prompt_tokens = 256
output_tokens = 60
rate = 3.0
[[workload.type]]
name = "summary"
prompt_tokens = 600
output_tokens = 20
rate = 1.0
"""
GPU = Replica(20_000, IterationTime(0.0106, 4.013e-7, 5e-5, 8e-5))
MIX = Workload([PromptType(256, 60, 3.0, "chat"), PromptType(600, 20, 1.0, "summary")])


def test_users_send_what_is_in_balance() -> None:
    """The rates of the workload are those of `solve_users`, in the proportions of the file."""
    read = parse((REPLICA + "users = 40\nthink = 5.0\n" + TYPES).encode(), "mix.toml")
    loop = solve_users(MIX, GPU, 40, 5.0)
    assert read.traffic == ClosedLoop(40, 5.0)
    assert read.rate == pytest.approx(loop.rate)
    assert read.workload.rates / read.rate == pytest.approx([0.75, 0.25])
    assert read.mix.closed is not None
    assert read.mix.closed.saturating == pytest.approx(loop.saturating)


def test_another_rate_is_another_number_of_users() -> None:
    """`at` gives a closed loop about as many users as send the rate; they think as long."""
    read = parse((REPLICA + "users = 40\nthink = 5.0\n" + TYPES).encode(), "mix.toml")
    half = read.at(read.rate / 2)
    assert isinstance(half.traffic, ClosedLoop)
    assert half.traffic.think == 5.0
    assert half.rate == pytest.approx(read.rate / 2, rel=0.05)  # users are whole
    assert read.at(read.rate) == read


@pytest.mark.parametrize(("keys", "traffic"), [
    ("max_concurrency = 32", Limited(32, Poisson())),
    ("max_concurrency = 32\narrivals = { burstiness = 0.5 }", Limited(32, GammaBursts(0.5))),
    ("max_concurrency = 1", ClosedLoop(1, 0.0)),  # 4 requests/s are due, one at a time serves 1.5
])
def test_a_limit_is_a_closed_loop_where_requests_are_due_faster_than_they_are_served(
        keys: str, traffic: object) -> None:
    """Else requests are held back now and then, and come at their own rate."""
    read = parse((REPLICA + keys + TYPES).encode(), "mix.toml")
    assert read.traffic == traffic
    if isinstance(traffic, Limited):
        assert read.rate == 4.0


@pytest.mark.parametrize(("keys", "key", "problem"), [
    ("think = 3.0", "think", "must go with workload.users"),
    ("users = 0", "users", "must be a whole number of users from 1"),
    ("users = 1.5", "users", "a whole number of users, at least 1"),
    ("users = 5\nthink = -1.0", "think", "nonnegative"),
    ("users = 5\nmax_concurrency = 3", "max_concurrency", "must stand without workload.users"),
    ("users = 5\narrivals = { burstiness = 0.5 }", "arrivals", "must stand without workload.users"),
    ("users = 5\nwindow = [ { duration = 60.0, scale = 1.0 } ]", "window", "must stand without workload.users"),
    ("max_concurrency = 0", "max_concurrency", "must be a whole number of requests from 1"),
    ("max_concurrency = 3\narrivals = { batch = 9 }", "max_concurrency", "must stand beside Poisson arrivals"),
])
def test_keys_that_do_not_go_together_are_refused_in_one_line(keys: str, key: str, problem: str) -> None:
    """The line names the key and what is wrong."""
    with pytest.raises(FileError) as caught:
        parse((REPLICA + keys + TYPES).encode(), "mix.toml")
    line = str(caught.value)
    assert line.startswith(f"mix.toml: workload.{key} ")
    assert problem in line
    assert "\n" not in line


def test_a_design_for_more_users_than_it_carries_is_one_for_those_it_does() -> None:
    """A closed loop is stable under any windows: those that are designed carry what they can, the others wait."""
    read = parse((REPLICA + "users = 4000\nthink = 5.0\n" + TYPES).encode(), "mix.toml")
    assert read.mix.closed is not None
    assert read.mix.closed.saturated
    design = choose(read, "paced").design
    assert design.feasible
    assert design.equilibrium.workload.rate < read.rate


def test_the_commands_judge_a_closed_loop_by_throughput(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`solve` says N*, `verify` that it is stable and what it carries, `sweep` takes rates, `capacity` refuses."""
    file = written(tmp_path, REPLICA + "users = 40\nthink = 5.0\n" + TYPES)
    code, solved = answer(capsys, "solve", file)
    assert code == 0
    loop = solve_users(MIX, GPU, 40, 5.0)
    assert solved["closed_loop"]["saturating_users"] == pytest.approx(loop.saturating)
    assert status(["solve", str(file)]) == 0
    assert "users saturate it" in " ".join(capsys.readouterr().out.split())
    code, found = answer(capsys, "verify", file, "--policy", "greedy", "--horizon", 200, "--replications", 4)
    assert code == 0
    assert found["verdict"] == "stable"
    checks = {each["name"]: each for each in found["checks"]}
    assert checks["throughput"]["predicted"] == pytest.approx(loop.rate * (0.75 * 60 + 0.25 * 20))
    assert checks["throughput at most"]["agrees"]
    rates = f"{loop.rate / 2:.3f}"
    code, swept = answer(capsys, "sweep", file, "--rates", rates, "--policies", "greedy", "--horizon", 100,
                         "--replications", 2)
    assert code == 0
    assert [cell["verdict"] for cell in swept["cells"]] == ["stable"]
    assert status(["capacity", str(file)]) == 2
    assert "must be open traffic for capacity" in capsys.readouterr().err


def test_requests_that_a_limit_holds_back_for_ever_are_told() -> None:
    """4 requests/s are due and one at a time serves fewer: a remark; with room for 32 none."""
    held, free = (parse((REPLICA + f"max_concurrency = {limit}" + TYPES).encode(), "mix.toml") for limit in (1, 32))
    assert held.mix.closed is not None
    assert held.remarks == (f"workload.max_concurrency = 1 sends at most {held.mix.closed.most:.4g} requests/s, and 4 "
                            "are due: they are sent later and later",)
    assert free.remarks == ()
