"""What `--install` writes: windows by prompt length, a file that Python reads, a gateway that admits as simulated."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import answer, status

from fluid import IterationTime, PromptType, Replica, Workload
from fluidwait.deployment.deployment import Deployment, load
from fluidwait.study.plugin import design_by_prompt, gateway, plugin, rows
from thresholds import PacedPolicy
from verification import Arrivals, simulate

FILE = """[replica]
kv_capacity = 137000
block = 16
first_token = "prefill"
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
{types}
"""
TYPE = """[[workload.type]]
name = "{name}"
prompt_tokens = {prompt}
output_tokens = {output}
rate = {rate}
"""


def deployment(tmp_path: Path, *types: tuple[str, int, int, float]) -> Deployment:
    """A deployment of (name, prompt, output, rate)."""
    keys = ("name", "prompt", "output", "rate")
    text = "".join(TYPE.format(**dict(zip(keys, each, strict=True))) for each in types)
    path = tmp_path / "deployment.toml"
    path.write_text(FILE.format(types=text))
    return load(path)


def constants(text: str) -> dict[str, Any]:
    """The tables of a scheduler file."""
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned  # type: ignore[attr-defined]
            if node.targets[0].id.endswith("WINDOWS")}  # type: ignore[attr-defined]


def test_types_that_differ_by_prompt_have_windows_by_prompt(tmp_path: Path) -> None:
    """A request counts with the shortest prompt that is no shorter than its own."""
    given = deployment(tmp_path, ("long", 800, 300, 1.0), ("short", 100, 50, 4.0))
    design = design_by_prompt(given, given.workload)
    (first, second) = rows(design)
    assert first == (0, design.entries[1], design.iterations[1])
    assert second == (101, design.entries[0], design.iterations[0])
    tables = constants(plugin(given))
    assert tables["WINDOWS"] == (tuple(first), tuple(second))
    assert [row[0] for row in tables["ASYNC_WINDOWS"]] == [0, 101]


def test_types_alike_in_their_prompts_have_one_window_for_unknown_lengths(tmp_path: Path) -> None:
    given = deployment(tmp_path, ("long", 100, 300, 1.0), ("short", 100, 50, 4.0))
    assert len(constants(plugin(given))["WINDOWS"]) == 1
    assert "but with probability 0.001" in plugin(given)


def test_windows_of_async_scheduling_hold_a_token_more_and_still_fit(tmp_path: Path) -> None:
    """At the edge of what fits: where 1,000 tokens take (2, 15), 1,001 may take less, never more."""
    given = deployment(tmp_path, ("long", 512, 1000, 1.9))
    tables = constants(plugin(given))
    ((_, n, g),), ((_, more, longer),) = tables["WINDOWS"], tables["ASYNC_WINDOWS"]
    assert more / longer <= n / g
    assert "hold at most 1" in plugin(given)


def test_the_file_is_short_and_overrides_one_method(tmp_path: Path) -> None:
    """Under 60 lines; besides its start it defines `schedule`, nothing else of the engine's."""
    text = plugin(deployment(tmp_path, ("long", 512, 1000, 1.0)))
    assert text.count("\n") < 60
    classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    assert list(classes) == ["Paced", "PacedScheduler", "AsyncPacedScheduler"]
    methods = [node.name for node in classes["Paced"].body if isinstance(node, ast.FunctionDef)]
    assert methods == ["__init__", "schedule"]


class Requests(list[Any]):
    """A waiting queue as vLLM's: requests in order, taken from the front."""

    remove_request, add_request = list.remove, list.append

    def prepend_request(self, request: Any) -> None:
        """Before all others."""
        self.insert(0, request)


class Engine:
    """A scheduler that admits whoever waits up to its cap on running requests."""

    def __init__(self) -> None:
        self.running: list[Any] = []
        self.waiting, self.requests, self.max_num_active_reqs = Requests(), {}, 1000
        self.scheduler_config = SimpleNamespace(async_scheduling=False)

    def schedule(self) -> SimpleNamespace:
        """The requests that start now."""
        started, skipped = [], Requests()
        while self.waiting and len(self.running) < self.max_num_active_reqs:
            head = self.waiting.pop(0)
            if head.status.name.startswith("WAITING_"):
                skipped.append(head)
                continue
            started.append(head)
            self.running.append(head)
        self.waiting[:0] = skipped
        new = [SimpleNamespace(req_id=each.req_id) for each in started if each.status.name == "WAITING"]
        return SimpleNamespace(scheduled_new_reqs=new, total_num_scheduled_tokens=len(self.running))


@pytest.fixture
def paced_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """The class of the file on top of `Engine`, with windows of one's own."""
    for name, cls in (("async_scheduler", "AsyncScheduler"), ("scheduler", "Scheduler")):
        module = ModuleType(f"vllm.v1.core.sched.{name}")
        setattr(module, cls, type(cls, (Engine,), {}))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    text = plugin(deployment(tmp_path, ("long", 512, 1000, 1.0)))

    def made(*windows: tuple[int, int, int]) -> Any:
        names: dict[str, Any] = {}
        exec(text, names)
        engine = names["PacedScheduler"]
        engine.windows = windows
        return engine()

    return made


def request(engine: Any, number: int, prompt: int = 5, status: str = "WAITING") -> SimpleNamespace:
    """A request that waits."""
    made = SimpleNamespace(req_id=str(number), num_prompt_tokens=prompt, status=SimpleNamespace(name=status),
                           num_preemptions=int(status == "PREEMPTED"))
    engine.requests[made.req_id] = made
    engine.waiting.append(made)
    return made


@pytest.mark.parametrize(("entries", "iterations"), [(1, 3), (2, 5), (3, 1)])
def test_the_scheduler_lets_start_what_the_simulated_policy_lets(
        paced_engine: Callable[..., Any], entries: int, iterations: int) -> None:
    """60 requests at once that stay: step by step as many run as `PacedPolicy` has admitted."""
    engine = paced_engine((0, entries, iterations))
    for number in range(60):
        request(engine, number)
    running = []
    for _ in range(70):
        engine.schedule()
        running.append(len(engine.running))
    run = simulate(PacedPolicy((entries,), (iterations,)), Workload([PromptType(5, 2000, 1.0)]),
                   Replica(10**9, IterationTime(1.0, 0.0)), arrivals=Arrivals(np.zeros(60), np.zeros(60, dtype=int)))
    assert running == [int(np.count_nonzero(run.admitted <= t)) for t in range(70)]
    assert engine.max_num_active_reqs == 1000


def test_preempted_requests_come_back_first_and_are_no_starts(paced_engine: Callable[..., Any]) -> None:
    """Two come back beside the one that may start; the next may start in the next window."""
    engine = paced_engine((0, 1, 10))
    back = [request(engine, number, status="PREEMPTED") for number in (0, 1)]
    first, second = request(engine, 2), request(engine, 3)
    engine.schedule()
    assert engine.running == [*back, first]
    engine.schedule()
    assert engine.running == [*back, first]
    assert list(engine.waiting) == [second]


def test_a_closed_row_is_not_in_the_way_of_an_open_one(paced_engine: Callable[..., Any]) -> None:
    """Long prompts wait for their window, a short one behind them starts, and the queue keeps its order."""
    engine = paced_engine((0, 1, 10), (101, 1, 10))
    first, second, short = request(engine, 0, 800), request(engine, 1, 800), request(engine, 2, 50)
    engine.schedule()
    assert engine.running == [first, short]
    assert list(engine.waiting) == [second]


def test_requests_that_wait_for_something_else_take_a_place_but_not_for_ever(paced_engine: Callable[..., Any]) -> None:
    """One whose grammar compiles is skipped by the engine; the row opens to no second one in that step, and in the next
    to those that are ready.
    """
    engine = paced_engine((0, 1, 10), (101, 5, 1))
    slow, ready = request(engine, 0, status="WAITING_FOR_FSM"), request(engine, 1)
    engine.schedule()
    assert engine.running == []
    engine.schedule()
    assert engine.running == [ready]
    slow.status.name = "WAITING"
    for _ in range(9):
        engine.schedule()
    assert engine.running == [ready]
    engine.schedule()
    assert engine.running == [ready, slow]


def test_a_class_for_the_other_mode_refuses_to_start(paced_engine: Callable[..., Any],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Async scheduling is on by default, whatever class the engine is told to use."""
    start = Engine.__init__

    def asynchronous(self: Engine) -> None:
        start(self)
        self.scheduler_config.async_scheduling = True

    monkeypatch.setattr(Engine, "__init__", asynchronous)
    with pytest.raises(ValueError, match="PacedScheduler needs --no-async-scheduling"):
        paced_engine((0, 1, 1))


def test_when_nothing_runs_the_past_is_forgotten(paced_engine: Callable[..., Any]) -> None:
    engine = paced_engine((0, 1, 10))
    request(engine, 0)
    engine.schedule()
    engine.running.clear()
    request(engine, 1)
    engine.schedule()
    assert len(engine.running) == 1


@pytest.mark.parametrize(("entries", "iterations"), [(1, 3), (2, 5), (3, 3)])
def test_the_gateway_admits_what_the_simulated_policy_admits(entries: int, iterations: int, tmp_path: Path) -> None:
    """200 prompts queued at once, iterations of 1 s: the file, asked in each iteration, lets the same ones enter.

    Prompts last longer than the whole test, so the count never starts anew.
    """
    workload, policy = Workload([PromptType(5, 2000, 1.0)]), PacedPolicy((entries,), (iterations,))
    run = simulate(policy, workload, Replica(10**9, IterationTime(1.0, 0.0)),
                   arrivals=Arrivals(np.zeros(200), np.zeros(200, dtype=int)))
    names: dict[str, Any] = {}
    exec(gateway(deployment(tmp_path, ("one", 5, 2000, 1.0)), policy), names)  # type: ignore[arg-type]
    gate = names["windows"]["all"]
    entered: list[int] = []
    iteration = 0
    while len(entered) < 200:
        while len(entered) < 200 and gate.may_enter(iteration):
            entered.append(iteration)
        iteration += 1
    np.testing.assert_array_equal(run.admitted, entered)


def test_the_gateway_of_several_types_has_a_window_for_each(tmp_path: Path) -> None:
    """Names are keys; an emptied engine starts the count anew."""
    given = deployment(tmp_path, ("chat", 5, 20, 1.0), ("it's", 9, 30, 1.0))
    names: dict[str, Any] = {}
    exec(gateway(given, PacedPolicy((1, 2), (4, 5))), names)  # type: ignore[arg-type]
    assert list(names["windows"]) == ["chat", "it's"]
    gate = names["windows"]["chat"]
    assert gate.may_enter(0)
    assert not gate.may_enter(3)
    gate.engine_is_empty()
    assert gate.may_enter(3)


@pytest.mark.parametrize("what", ["vllm", "gateway"])
def test_the_command_writes_the_file(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says where it is; an overloaded mix has no windows to install."""
    deployment(tmp_path, ("long", 512, 1000, 1.0))
    file, out = str(tmp_path / "deployment.toml"), tmp_path / "out"
    code, found = answer(capsys, "thresholds", file, "--install", what, "--out", out)
    assert code == 0
    compile(Path(found["file"]).read_text(), found["file"], "exec")
    deployment(tmp_path, ("long", 512, 1000, 10.0))
    assert status(["thresholds", file, "--install", what, "--out", str(tmp_path / "none")]) == 2
    assert "there are no windows to install: overloaded" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("flags", "message"), [
    (["--install", "sglang", "--out", "x"], '--install must be "vllm" or "gateway"'),
    (["--install", "vllm"], "--install must have --out FOLDER beside it"),
    (["--out", "x"], "--out goes with --install"),
    (["--install", "vllm", "--out", "x", "--policy", "wait"], '--policy must be "auto" or "paced"'),
])
def test_flags_that_do_not_go_together_are_one_line(
        flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["thresholds", *flags]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err
