"""Flags that say what they guarantee and cost, and hold it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluidwait.reports.installation import flags, kept_under_cap, least_tokens, safe_sequences, worth_of_cache
from thresholds import PacedPolicy, WaitPolicy, paced
from verification import Arrivals, VllmV1, simulate

REPLICA = Replica(137_000, IterationTime(0.0106, 4.01e-7), block=16, first_token="prefill")
LONG = Workload([PromptType(512, 1000, 1.5)])


def test_a_cap_at_the_longest_requests_that_fit_is_never_preempted_and_says_what_it_carries() -> None:
    """512 + 1000 tokens hold 95 blocks at the end: 90 of them fit, 91 do not; nothing is preempted under vLLM V1."""
    equilibrium = solve(LONG, REPLICA)
    assert safe_sequences(equilibrium) == 90
    arrivals = Arrivals(np.zeros(300), np.zeros(300, dtype=int))
    capped = [simulate(VllmV1(8192), LONG, replace(REPLICA, max_num_seqs=cap), arrivals=arrivals) for cap in (90, 91)]
    assert [run.evictions > 0 for run in capped] == [False, True]
    kept = kept_under_cap(equilibrium, 90)
    rate = solve(LONG, replace(REPLICA, max_num_seqs=90)).max_rate_scale
    assert kept == pytest.approx(rate / equilibrium.max_rate_scale)
    assert capped[0].completed / capped[0].end_time == pytest.approx(rate * LONG.rate, rel=0.2)  # filling and emptying


def test_the_flags_of_windows_contradict_each_other_nowhere() -> None:
    """Where windows hold more than can never overflow both caps are named, the larger without a guarantee; else one."""
    two = flags(solve(LONG, REPLICA), PacedPolicy((2,), (15,)))
    assert [flag.flag for flag in two[:2]] == ["--max-num-seqs 90", "--max-num-seqs 134"]
    assert two[0].guarantees.startswith("nothing is preempted while none is longer")
    assert two[1].guarantees.startswith("nothing: ")
    one = flags(solve(LONG, REPLICA), PacedPolicy((1,), (20,)))
    assert [flag.flag for flag in one if "seqs" in flag.flag] == ["--max-num-seqs 50"]
    capped = flags(solve(LONG, replace(REPLICA, max_num_seqs=64)), WaitPolicy((3,)))
    assert [flag.flag for flag in capped if "seqs" in flag.flag] == ["--max-num-seqs 64"]
    assert capped[0].costs == "0.0% of the largest rate"


def test_a_budget_at_the_least_tokens_binds_nowhere_before_the_edge() -> None:
    """With a little more tokens do not bind at the edge, with 5% less they do."""
    tokens = least_tokens(solve(LONG, REPLICA))
    binding = [solve(LONG, replace(REPLICA, max_num_batched_tokens=round(share * tokens))).region.binding([1.0])
               for share in (1.01, 0.95)]
    assert binding == ["memory", "tokens"]


def test_one_percent_of_cache_is_worth_what_the_region_says() -> None:
    """At 512 + 1000 it is mostly time that binds: far less than 1%."""
    assert 0 < worth_of_cache(solve(LONG, REPLICA)) < 0.01
    assert paced(LONG, REPLICA).feasible
