"""Windows under a budget of tokens: a prompt enters only where its first chunk fits beside those that decode."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import look_ahead, paced
from thresholds.paced_wait.unknown import paced_unknown
from verification import VllmV1, verify

REPLICA = Replica(137_000, IterationTime(0.0106, 4.01e-7, 58.5e-6), block=16, first_token="prefill", max_num_seqs=256,
                  max_num_batched_tokens=2048)
MIX = Workload([PromptType(2040, 100, 1.0), PromptType(500, 300, 2.0)])


def test_windows_do_not_promise_what_only_smaller_chunks_can_do() -> None:
    """2,040 of 2,048 tokens leave room for nine sequences: infeasible, and unstable; vLLM, which cuts prompts, is not.
    """
    design = paced(MIX, REPLICA)
    assert solve(MIX, REPLICA).sequences > 9
    assert not design.feasible
    assert "{ chunk = ... }" in design.reason
    assert verify(design, MIX, REPLICA, horizon=600.0, replications=2).verdict.answer != "stable"
    assert verify(VllmV1(2048), MIX, REPLICA, horizon=600.0, replications=2).verdict.answer == "stable"
    chunked = replace(REPLICA, prefill=512)
    assert paced(MIX, chunked).feasible
    assert verify(paced(MIX, chunked), MIX, chunked, horizon=600.0, replications=2).verdict.answer == "stable"


@pytest.mark.parametrize("budget", [2040, 2100, 4096])
def test_no_more_sequences_are_counted_on_than_fit_beside_the_longest_prefill(budget: int) -> None:
    """Of windows for a mix, of look-ahead admission and of windows by type: at most q + 1 - 2,040 on average."""
    replica = replace(REPLICA, max_num_batched_tokens=budget)
    for design in (paced_unknown(MIX, replica), look_ahead(MIX, replica)):
        assert design.sequences <= budget + 1 - 2040 + 1e-9
    known = paced(MIX.scaled(0.999 * paced(MIX, replica).max_rate_scale), replica)
    assert known.feasible
    assert known.rates @ known.equilibrium.profile.stages <= budget + 1 - 2040 + 1e-9
