"""Each policy by hand on a few requests, and what is known of it in cases that can be solved."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from small_rounds import exact

from fluid import InputError
from verification.rounds import (
    MCSF,
    AMin,
    Clearing,
    Instance,
    MCBenchmark,
    Protected,
    SortedF,
    all_at_once,
    needed,
    over_time,
    play,
)
from verification.rounds.sorted_f import batches


def runs(schedule) -> list[tuple[int, int, int]]:
    """(request, start, end) in order of start."""
    return list(zip(*(each.tolist() for each in (schedule.requests, schedule.starts, schedule.ends)), strict=True))


def test_mc_sf_by_hand() -> None:
    """M = 7, (s, o) = (1, 4), (2, 1), (1, 2), in order 1, 2, 0 of lengths 1, 2, 4.

    Moment 0: request 1 alone; with 2: 3 + 2 = 5 at moment 1, 3 at 2; with 0 too: 3 + 2 + 2 = 7 at 1, 3 + 3 = 6 at 2,
    5 at 4. All three start: finishes 4, 1, 2. With M = 6 request 0 waits for moment 1: 3 + 2 at 2, then 3, 4, 5.
    """
    assert play(MCSF(), Instance([0, 0, 0], [1, 2, 1], [4, 1, 2], memory=7)).finished.tolist() == [4, 1, 2]
    assert play(MCSF(), Instance([0, 0, 0], [1, 2, 1], [4, 1, 2], memory=6)).finished.tolist() == [5, 1, 2]


def test_the_first_that_fails_ends_the_admissions() -> None:
    """M = 9: (1, 4) runs from 0. At 1 the next by length, (5, 2), needs 4 + 7 at moment 3, and waits; so does (1, 3).

    Alone (1, 3) would fit: 5 + 4 at moment 4. At 4 the second starts; with the third it would need 7 + 3 at moment 6.
    """
    three, two = Instance([0, 1, 1], [1, 5, 1], [4, 2, 3], memory=9), Instance([0, 1], [1, 1], [4, 3], memory=9)
    assert play(MCSF(), two).started.tolist() == [0, 1]
    assert play(MCSF(), three).started.tolist() == [0, 4, 5]


def test_mc_benchmark_keeps_the_order_of_arrival() -> None:
    """M = 4: (1, 3) then (1, 2): together they need 3 + 3 at moment 2, so the second waits; MC-SF turns them round."""
    instance = Instance([0, 0], [1, 1], [3, 2], memory=4)
    assert play(MCBenchmark(), instance).finished.tolist() == [3, 5]
    assert play(MCSF(), instance).finished.tolist() == [5, 2]


def test_protection_lowers_the_limit_of_the_test() -> None:
    """Two of (1, 1) need all of M = 4; a quarter kept free leaves 3: they go one by one, the first in any case."""
    instance = Instance([0, 0], [1, 1], [1, 1], memory=4)
    assert play(MCSF(), instance).finished.tolist() == [1, 1]
    assert play(MCSF(0.25), instance).finished.tolist() == [1, 2]
    assert play(MCSF(0.9), instance).finished.tolist() == [1, 2]


def test_a_request_predicted_beyond_the_memory_runs_alone() -> None:
    """otilde = 9 in a memory of 5: it starts when nothing runs, and the other waits for its true end."""
    schedule = play(MCSF(), Instance([0, 0], [1, 1], [2, 2], memory=5, predicted=[9, 9]))
    assert schedule.finished.tolist() == [2, 4]


def test_short_predictions_clear_the_newest() -> None:
    """M = 6, two of (1, 3) seen as 1: both start (2 + 2), hold 3 + 3 at moment 2, and 4 + 4 would be too much.

    Request 1 goes at moment 2; its start needs 4 + 2 at moment 3, which is 6: it starts again at once, and ends at 5.
    """
    schedule = play(MCSF(), Instance([0, 0], [1, 1], [3, 3], memory=6, predicted=[1, 1]))
    assert runs(schedule) == [(0, 0, 3), (1, 0, 2), (1, 2, 5)]
    assert (schedule.clearings, schedule.lost_tokens) == (1, 2)


def test_mc_sf_orders_equal_prompts_by_length() -> None:
    """All there at the start, equal prompts, exact lengths: starts and finishes follow the lengths ([J], section 4)."""
    for seed in range(50):
        instance = all_at_once(seed, equal_prompts=True)
        schedule = play(MCSF(), instance)
        order = np.argsort(instance.outputs, kind="stable")
        assert np.all(np.diff(schedule.started[order]) >= 0)
        assert np.all(np.diff(schedule.finished[order]) >= 0)


@pytest.mark.parametrize(("s", "o", "k", "n"), [(2, 3, 4, 10), (0, 5, 3, 7), (5, 1, 2, 9), (3, 4, 1, 4)])
def test_mc_sf_serves_identical_requests_in_cohorts(s: int, o: int, k: int, n: int) -> None:
    """M = k (s + o): k start together and fill M when they end, so that nobody enters before: o (1 + i // k) each."""
    instance = Instance(np.zeros(n), np.full(n, s), np.full(n, o), memory=k * (s + o))
    for policy in (MCSF(), MCBenchmark(), SortedF(), AMin()):
        assert play(policy, instance).finished.tolist() == [o * (1 + i // k) for i in range(n)]


def test_all_start_at_once_where_all_fit() -> None:
    """With M = max_tau K(tau) everybody starts on arrival: the total latency is sum o, and no less is possible."""
    for seed in range(50):
        small = exact(seed, at_once=True)
        instance = Instance(small.arrivals, small.prompts, small.outputs, needed(small.prompts, small.outputs))
        for policy in (MCSF(), MCBenchmark(), SortedF(), AMin()):
            assert play(policy, instance).total_latency == small.outputs.sum()


def test_mc_sf_meets_the_bound_of_its_theorem() -> None:
    """Equal prompts at the start, M >= 2 max (s + o): (1536/M) sum_i sum_{o_j <= o_i} vol_j + 24 sum o bounds it.

    vol_j = s o_j + o_j (o_j + 1)/2; [J], Lemma 4.4, as reported by readers of it.
    """
    for seed in range(20):
        drawn = all_at_once(seed, equal_prompts=True)
        instance = Instance(drawn.arrivals, drawn.prompts, drawn.outputs, 2 * drawn.memory)
        o, s = np.sort(instance.outputs), int(instance.prompts[0])
        shorter = np.cumsum(s * o + o * (o + 1) // 2)[np.searchsorted(o, o, side="right") - 1]
        assert play(MCSF(), instance).total_latency <= 1536 / instance.memory * shorter.sum() + 24 * o.sum()


def test_protected_greedy_by_hand_with_its_rescue() -> None:
    """M = 6, alpha = 0, three of (1, 3), which start at 2 tokens each: 0, 1 and 2 at 0, and 9 tokens are needed at 1.

    1: all go, all start again. 2: 9 again, and nobody has finished: the published rule repeats itself for ever. Request
    0 is kept, the others go, 1 starts (3 + 2), 2 does not. 3: 4 + 3 needed: 1 goes and starts again. 4: request 0 ends.
    Request 2 starts (3 + 2). 5: 4 + 3 needed: both go, both start. 7: 4 + 4 needed, nobody has finished: 1 is kept, 2
    goes and starts again, and ends at 10.
    """
    schedule = play(Protected(0.0), Instance([0, 0, 0], [1, 1, 1], [3, 3, 3], memory=6))
    assert schedule.finished.tolist() == [4, 8, 10]
    assert (schedule.clearings, schedule.rescues) == (5, 3)


def test_protection_that_suffices_needs_no_rescue() -> None:
    """With alpha = 1/2 the same three go one by one: 2 + 2 > 3."""
    schedule = play(Protected(0.5), Instance([0, 0, 0], [1, 1, 1], [3, 3, 3], memory=6))
    assert (schedule.finished.tolist(), schedule.clearings) == ([3, 6, 9], 0)


def test_a_clearing_repeats_itself_where_nobody_finishes() -> None:
    """The published rule, without rescue, round by round: two clearings in a row that finish nobody leave one state.

    Of instances that are all there, the rule ends if and only if no schedule of ours has a rescue.
    """
    ended, rescued = 0, 0
    for seed in range(150):
        instance = exact(seed, at_once=True)
        schedule = play(Protected(0.2), instance)
        assert _published_greedy_ends(instance, 0.2) == (schedule.rescues == 0)
        ended, rescued = ended + (schedule.rescues == 0), rescued + (schedule.rescues > 0)
    assert min(ended, rescued) > 20


def _published_greedy_ends(instance: Instance, alpha: float) -> bool:
    """Whether alpha-protection greedy ends: not if a state (who is unfinished, who has made what) comes back."""
    made: dict[int, int] = {}
    left, seen = list(range(len(instance))), set()
    s, o, memory = instance.prompts.tolist(), instance.outputs.tolist(), instance.memory
    while left:
        state = (tuple(left), tuple(sorted(made.items())))
        if state in seen:
            return False
        seen.add(state)
        if sum(s[i] + made[i] + 1 for i in made) > memory:
            made = {}
        for i in (i for i in left if i not in made):
            if made and sum(s[k] + made[k] + 1 for k in made) + s[i] + 1 > (1 - alpha) * memory + 1e-9:
                break
            made[i] = 0
        made = {i: tokens + 1 for i, tokens in made.items()}
        left = [i for i in left if made.get(i, 0) < o[i]]
        made = {i: tokens for i, tokens in made.items() if i in left}
    return True


def test_each_is_cleared_with_its_chance() -> None:
    """Three of (1, 2) in M = 7 hold 6 at moment 1 and would need 9: passes go on until somebody is cleared.

    The number that goes is binomial (3, beta) given that it is at least 1: mean 3 beta / (1 - (1 - beta)^3).
    """
    beta, instance = 0.3, Instance([0, 0, 0], [1, 1, 1], [2, 2, 2], memory=7)
    gone = np.array([np.count_nonzero(play(Clearing(0.0, beta), instance, seed).ends == 1) for seed in range(2000)])
    assert gone.min() >= 1
    assert gone.mean() == pytest.approx(3 * beta / (1 - (1 - beta)**3), abs=4 * gone.std() / np.sqrt(len(gone)))


def test_a_chance_of_one_is_greedy() -> None:
    """beta-clearing with beta = 1 clears everybody."""
    for seed in range(30):
        instance = exact(seed)
        assert runs(play(Clearing(0.1, 1.0), instance, seed)) == runs(play(Protected(0.1), instance))


def test_a_min_by_hand() -> None:
    """M = 12, two of (1, 10) with bound 5: both start, 6 + 6 = 12 at moment 5, and 14 would be needed at 6.

    5: equal bounds, 1 goes with bound 5 and starts again (7 + 2 at 6, then 0 is thought to end). 7: 9 + 4 needed, 0 has
    made 7 > 5: 1 goes, keeps its bound 5, and starts again, as at 8 (10 + 3 needed). 9: 11 + 3 needed: 1 goes, and
    waits, for 11 + 2 is too much. 10: request 0 ends.
    """
    schedule = play(AMin(), Instance([0, 0], [1, 1], [10, 10], memory=12, predicted=[5, 5]))
    assert runs(schedule) == [(0, 0, 10), (1, 0, 5), (1, 5, 7), (1, 7, 8), (1, 8, 9), (1, 10, 20)]
    assert schedule.clearings == 4


def test_a_min_on_the_truth_is_mc_sf() -> None:
    """Bounds that are the lengths never rise, and nothing is cleared."""
    for seed in range(30):
        for instance in (exact(seed), over_time(seed)):
            assert runs(play(AMin(), instance)) == runs(play(MCSF(), instance))


def test_sorted_f_starts_the_many_short_before_the_few_shorter() -> None:
    """M = 20, five of (18, 1) and ten of (0, 2): F = 1 for each of the five, 2/10 for the ten, which fill M.

    Sorted-F serves the ten at 0, the five one by one from 2: 10 * 2 + (3 + 4 + 5 + 6 + 7) = 45. MC-SF serves the five
    from 0 to 5; from 4 on one of the ten fits beside (19 + 1), the others from 5: 15 + 6 + 9 * 7 = 84.
    """
    instance = Instance(np.zeros(15), [18] * 5 + [0] * 10, [1] * 5 + [2] * 10, memory=20)
    assert [play(SortedF(search), instance).total_latency for search in ("exact", "sweep")] == [45, 45]
    assert play(MCSF(), instance).total_latency == 84


def test_sorted_f_is_mc_sf_where_prompts_are_equal() -> None:
    """The shortest are the best batch of every size: with either search the starts are those of MC-SF, up to ties."""
    for seed in range(30):
        for instance in (all_at_once(seed, equal_prompts=True), over_time(seed, equal_prompts=True)):
            starts = [sorted(zip(instance.outputs, play(policy, instance).started, strict=True))
                      for policy in (MCSF(), SortedF(), SortedF("sweep"))]
            assert starts[0] == starts[1] == starts[2]


def test_the_exact_batch_has_the_least_f_of_all_sets() -> None:
    """Against all subsets; the sweep is never better, and equal where memory binds nobody."""
    for seed in range(60):
        instance = exact(seed, most=8)
        s, o, memory = instance.prompts, instance.outputs, instance.memory
        sets = [list(c) for k in range(1, len(o) + 1) for c in combinations(range(len(o)), k)]
        least = min(o[x].sum() / len(x)**2 for x in sets if (s + o)[x].sum() <= memory)
        first, swept = batches(s, o, memory)[0], batches(s, o, memory, "sweep")[0]
        assert (s + o)[first].sum() <= memory
        assert o[first].sum() / len(first)**2 == pytest.approx(least, rel=1e-12)
        assert o[swept].sum() / len(swept)**2 >= least * (1 - 1e-12)
        assert (s + o)[swept].sum() <= memory
        wide = int((s + o).sum())
        assert sorted(batches(s, o, wide)[0]) == sorted(batches(s, o, wide, "sweep")[0])


def test_batches_are_of_everybody_once() -> None:
    """Whatever the search: a partition, each batch by ascending output and within the memory."""
    for seed in range(30):
        instance = all_at_once(seed)
        for search in ("exact", "sweep"):
            found = batches(instance.prompts, instance.outputs, instance.memory, search)
            assert sorted(i for batch in found for i in batch) == list(range(len(instance)))
            assert all(np.all(np.diff(instance.outputs[batch]) >= 0) for batch in found)


def test_a_dynamic_program_too_large_is_refused() -> None:
    """The sweep is named as the way out."""
    many = Instance(np.zeros(3000), np.ones(3000), np.ones(3000), memory=2000)
    with pytest.raises(InputError, match="sweep"):
        play(SortedF(), many)


@pytest.mark.parametrize("make", [lambda: MCSF(1.0), lambda: MCBenchmark(-0.1), lambda: Protected(1.0),
                                  lambda: Clearing(0.1, 0.0), lambda: Clearing(0.1, 1.1), lambda: SortedF("quick")])
def test_policies_check_their_numbers(make) -> None:
    """Shares in [0, 1), a chance in (0, 1], a search that exists."""
    with pytest.raises(InputError):
        make()
