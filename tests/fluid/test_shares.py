"""What an iteration is spent on, and what prefills take of the region: by hand, and as invariants."""

import pytest
from hypothesis import given
from strategies import replicas, sampled, workloads

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluid.equilibrium import scale_without_prefill_cost, time_shares


def test_prefill_takes_most_of_the_region_of_512_and_20_tokens_on_an_a100():
    """By hand, one line with d0 = 10.1 ms, d1 = 0.4 us, d2 = 58.8 us, C = 137,000. A prompt holds w = 21 (512 + 10) =
    10,962 token-iterations, so it takes 4.3848 ms of KV reading, 30.1056 ms of prefilling, and holds memory worth
    10.1 ms x 10,962/137,000 = 0.80815 ms: the edge is 1/35.29855 ms with prefill cost and 1/5.19295 ms without."""
    replica = Replica(137_000, IterationTime(0.0101, 4e-7, 58.8e-6))
    balance = solve(Workload([PromptType(512, 20, 1.0)]), replica)
    assert balance.max_rate_scale == pytest.approx(1 / 0.0352985510, rel=1e-6)
    assert scale_without_prefill_cost(balance) == pytest.approx(1 / 0.0051929510, rel=1e-6)


@sampled
@given(workloads(least=2), replicas())
def test_the_shares_of_an_iteration_add_up_to_one(workload, replica):
    balance = solve(workload, replica)
    shares = time_shares(balance)
    if shares is not None:
        assert sum(shares) == pytest.approx(1.0)
        assert min(shares) >= 0
    else:
        assert balance.load >= 1 - 1e-9


@sampled
@given(workloads(least=2), replicas())
def test_free_prefills_never_shrink_the_region(workload, replica):
    balance = solve(workload, replica)
    assert scale_without_prefill_cost(balance) >= balance.max_rate_scale * (1 - 1e-12)
