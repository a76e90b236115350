"""What a design says of itself: memory, growth and delay."""

from __future__ import annotations

from fluid import IterationTime, PromptType, Replica, Workload
from fluidwait.reports.wording import growth, memory, predicted
from thresholds import PacedPolicy, auto, nested, paced, wait
from thresholds.delay.dispersion import POISSON_DISPERSION

REPLICA = Replica(137_000, IterationTime(0.0106, 4.01e-7))


def of_one(prompt: int, output: int, rate: float) -> Workload:
    """A workload of one type."""
    return Workload([PromptType(prompt, output, rate)])


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
    latencies = {type(each).__name__: predicted(each, POISSON_DISPERSION).latency for each in choice.candidates}  # type: ignore[union-attr]
    assert latencies["PacedDesign"] < latencies["WaitDesign"]
    assert "predicted latency" in choice.why


def test_nested_wait_has_no_predicted_delay() -> None:
    """There is no formula: None, not a number."""
    assert predicted(nested(of_one(512, 20, 20.0), REPLICA), POISSON_DISPERSION) is None
