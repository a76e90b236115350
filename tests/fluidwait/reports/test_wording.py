"""What a design says of itself: memory, growth, and an installation that does what it promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluidwait.reports.installation import advice, full_cap, gateway, safe_cap
from fluidwait.reports.wording import growth, memory, predicted
from thresholds import PacedPolicy, WaitPolicy, auto, nested, paced, wait
from verification import Arrivals, simulate

REPLICA = Replica(137_000, IterationTime(0.0106, 4.01e-7))


def of_one(prompt: int, output: int, rate: float) -> Workload:
    """A workload of one type."""
    return Workload([PromptType(prompt, output, rate)])


def window(text: str) -> Any:
    """The windows that the text of a gateway makes."""
    names: dict[str, Any] = {}
    exec(text, names)
    return names["windows"]


@pytest.mark.parametrize(("entries", "iterations"), [(1, 3), (2, 5), (3, 3)])
def test_the_gateway_admits_what_the_simulated_policy_admits(entries: int, iterations: int) -> None:
    """200 prompts queued at once, iterations of 1 s: the snippet, asked in each iteration, lets the same ones enter.

    Prompts last longer than the whole test, so the count never starts anew.
    """
    workload, policy = of_one(5, 2000, 1.0), PacedPolicy((entries,), (iterations,))
    replica = Replica(10**9, IterationTime(1.0, 0.0))
    run = simulate(policy, workload, replica, arrivals=Arrivals(np.zeros(200), np.zeros(200, dtype=int)))
    gate = window(gateway(solve(workload, replica), policy))["all"]
    entered: list[int] = []
    iteration = 0
    while len(entered) < 200:
        while len(entered) < 200 and gate.may_enter(iteration):
            entered.append(iteration)
        iteration += 1
    np.testing.assert_array_equal(run.admitted, entered)


def test_the_gateway_of_several_types_has_a_window_for_each() -> None:
    """Names are keys; an emptied engine starts the count anew."""
    workload = Workload([PromptType(5, 20, 1.0, "chat"), PromptType(9, 30, 1.0, "it's \"quoted\"")])
    windows = window(gateway(solve(workload, REPLICA), PacedPolicy((1, 2), (4, 5))))
    assert list(windows) == ["chat", "it's \"quoted\""]
    gate = windows["chat"]
    assert gate.may_enter(0)
    assert not gate.may_enter(3)
    gate.engine_is_empty()
    assert gate.may_enter(3)


def test_the_safe_cap_never_overflows_and_says_what_it_loses() -> None:
    """512 + 1000 tokens: floor(137,000/1,512) = 90 sequences admit 90/1001 prompts per iteration, 67% of 2/15."""
    equilibrium = solve(of_one(512, 1000, 1.0), REPLICA)
    policy = PacedPolicy((2,), (15,))
    found = safe_cap(equilibrium, policy)
    assert found.sequences == 90
    assert found.share == pytest.approx(90 / 1001 / (2 / 15))
    assert full_cap(equilibrium, policy).sequences == 2 * 67  # ceil(1001/15) = 67 windows live at once
    assert "--max-num-seqs 90" in advice(equilibrium, policy)["vllm"]
    assert full_cap(equilibrium, WaitPolicy((3,))).sequences == 3 * 1001


def test_growth_tells_whether_the_same_thresholds_still_carry_ten_percent_more() -> None:
    """One type at a tenth of the edge has room; at 95% of what windows carry 10% more does not fit."""
    scale = paced(of_one(512, 1000, 1.0), REPLICA).max_rate_scale
    roomy, tight = (paced(of_one(512, 1000, share * scale), REPLICA) for share in (0.1, 0.95))
    assert "these thresholds still carry it" in growth(roomy)
    assert "does not fit" in growth(tight)
    overloaded = paced(of_one(512, 1000, 1.2 * scale), REPLICA)
    assert "it would fit at 0.8333 of these rates" in growth(overloaded)  # 1/1.2


def test_memory_names_base_and_buffer() -> None:
    """Base is (2/15) x 1,013,012 = 135,068, the buffer what the phases add: 136,278 - 135,068 = 1,210."""
    text = memory(paced(of_one(512, 1000, 1.5), REPLICA))
    assert "135,068 KV tokens base + 1,210 buffer = 136,278 of 137,000" in text
    assert "on every path" in text
    assert memory(wait(of_one(512, 1000, 100.0), REPLICA)) == "no thresholds carry this load"


def test_auto_takes_the_faster_of_two_that_fit_and_names_both() -> None:
    """512 + 20 at 20 requests/s: WAIT waits 20 batches of one (1 s), continuous batching takes 21 short iterations."""
    choice = auto(of_one(512, 20, 20.0), REPLICA)
    assert isinstance(choice.design, PacedPolicy)
    assert {type(each).__name__ for each in choice.candidates} == {"WaitDesign", "PacedDesign"}
    latencies = {type(each).__name__: predicted(each).latency for each in choice.candidates}  # type: ignore[union-attr]
    assert latencies["PacedDesign"] < latencies["WaitDesign"]
    assert "predicted latency" in choice.why


def test_nested_wait_has_no_predicted_delay() -> None:
    """There is no formula: None, not a number."""
    assert predicted(nested(of_one(512, 20, 20.0), REPLICA)) is None
