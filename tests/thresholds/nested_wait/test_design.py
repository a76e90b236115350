"""Nested WAIT designs: the formulas recomputed, the searches against brute force, and the shape of the memory."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve
from thresholds.nested_wait.boundary_search import BoundarySearch
from thresholds.nested_wait.design import NestedDesign, nested
from thresholds.nested_wait.real_optimum import real_thresholds
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths, equal_widths, quantiles
from thresholds.nested_wait.threshold_search import whole_thresholds
from thresholds.policies import NestedWaitPolicy, from_json, to_json

PUBLISHED = IterationTime(0.0106, 4.013e-7)
OUTPUTS = np.arange(1, 501)


def chat(rate: float, prompt: int = 58) -> Workload:
    """Geometric output lengths of mean 147, given that they are at most 500."""
    weights = (1 - 1 / 147) ** OUTPUTS
    return Workload.from_arrays(np.full(500, prompt), OUTPUTS, rate * weights / weights.sum())


def large(rate: float = 600.0) -> tuple[Workload, Replica]:
    """Ten times the traffic on ten times the memory and bandwidth: thresholds of some twenty prompts."""
    return chat(rate), Replica(1_370_000, IterationTime(0.0106, 4.013e-8))


def small(seed: int) -> tuple[Workload, Replica]:
    """A few types with outputs of at most 10 tokens, at a fifth to half of the largest load."""
    rng = np.random.default_rng(seed)
    types = int(rng.integers(3, 7))
    outputs = rng.choice(np.arange(1, 11), types, replace=False)
    prompts = rng.integers(1, 30, types) if seed % 2 else np.full(types, rng.integers(5, 40))
    line = IterationTime(0.05, 1e-4 * rng.uniform(0.1, 3), 1e-4 * (seed % 3), 1e-3 * (seed % 2))
    tau = IterationTime.largest(line, IterationTime(0.03, 2e-4, 3e-4, 2e-3)) if seed % 4 == 0 else line
    mix = Workload.from_arrays(prompts, outputs, rng.uniform(0.1, 2.0, types))
    edge = solve(mix, Replica(10**9, tau)).max_rate_scale
    return mix.scaled(rng.uniform(0.1, 0.5) * edge), Replica(100_000, tau)


def lengths(workload: Workload, replica: Replica) -> UnknownLengths:
    """Over 100 s with probability 1%."""
    return UnknownLengths.of(workload, replica, 100.0, 0.01)


def by_the_page(workload: Workload, replica: Replica, boundaries: tuple[int, ...], counts: tuple[int, ...],
                horizon: float, delta: float) -> tuple[float, float, float]:
    """Base, buffers and Delta(n) of mathematics, section 5.4, prompt lengths segment-wise, stage by stage; drift is
    asserted.

    Whole prefill, blocks of one token, "decode". The buffer is the theorem's wherever n + x <= b + 1, with b = l + r; a
    waiting prompt counts b + 1 tokens in the simulator, which needs (b + 1)(n - 1 + x) where that is more.
    """
    starts = (0, *boundaries[:-1])
    o, rates = workload.output_tokens, workload.rates
    allowance = math.log(max(len(counts) - 1, 1) * (1 + horizon / replica.iteration_time.overheads.max()) / delta)
    base = buffers = size = 0.0
    for k, (n, start, end) in enumerate(zip(counts, starts, boundaries, strict=True)):
        longest = int(workload.prompt_tokens[o > start].max())
        stages = range(start + 1 if k else 0, end + 1)
        base += n * sum(longest + s for s in stages)
        size += n * len(stages)
        if k:
            p, q = rates[o > start].sum() / rates[o > starts[k - 1]].sum(), n / counts[k - 1]
            assert p < q < 1
            x, b = allowance / root(q, p), longest + start
            buffers += max(b * (n + x), (b + 1) * (n - 1 + x))
    time = replica.iteration_time(base, counts[0] * workload.prompt_tokens.max(), size)
    assert time < counts[0] / rates.sum()
    return base, buffers, time


def root(q: float, p: float) -> float:
    """The theta of mathematics, section 5.3, by Brent's method between half of [A]'s bound and ln(1/p)/(1 - q) + 1."""
    top = -math.log(p) / (1 - q) + 1
    return brentq(lambda t: t + math.log(p + (1 - p) * math.exp(-t)) - t * q, 4 * (q - p), top, xtol=1e-14)


@pytest.fixture(scope="module")
def big() -> NestedDesign:
    """The best design of eight segments of the large replica."""
    return nested(*large(), segments=8)


@pytest.mark.parametrize("seed", range(8))
def test_what_a_design_states_follows_from_the_page(seed: int) -> None:
    """Drift holds, and base, buffers and Delta(n), recomputed stage by stage, are those it states."""
    workload, replica = small(seed)
    design = nested(workload, replica, horizon=100.0, overflow_probability=0.01)
    base, buffers, time = by_the_page(workload, replica, design.boundaries, design.thresholds, 100.0, 0.01)
    assert design.kv_base == base
    assert design.kv_buffer == pytest.approx(buffers, rel=1e-9)
    assert design.kv_required == design.kv_base + design.kv_buffer
    assert design.iteration_time == pytest.approx(time, rel=1e-12)


def test_a_large_design_follows_from_the_page_too(big: NestedDesign) -> None:
    """The same with 500 decode stages; the token more that a waiting prompt counts is below a thousandth of it all."""
    workload, replica = large()
    base, buffers, time = by_the_page(workload, replica, big.boundaries, big.thresholds, 3600.0, 1e-3)
    assert (big.kv_base, big.iteration_time) == (base, pytest.approx(time))
    assert big.kv_buffer == pytest.approx(buffers, rel=1e-9)
    allowance = math.log(7 * (1 + 3600 / 0.0106) / 1e-3)
    literal = sum((57 + each.start) * (each.threshold + allowance / each.theta) for each in big.segments[1:])
    assert literal <= big.kv_buffer < literal + 1e-3 * big.kv_required


def test_the_segments_tile_the_stages(big: NestedDesign) -> None:
    """Segment 1 begins with the prefill, stage 0; every other one after the last; the buffers add up."""
    first, *others = big.segments
    assert (first.start, first.continuation, first.theta, first.buffer_tokens) == (0, 1.0, None, 0.0)
    for before, segment in itertools.pairwise(big.segments):
        assert segment.start == before.end + 1
        assert segment.theta is not None
        assert segment.continuation * before.threshold < segment.threshold < before.threshold
    assert others[-1].end == 500
    assert sum(segment.buffer_tokens for segment in big.segments) == pytest.approx(big.kv_buffer)


def test_a_waiting_prompt_is_counted_at_the_stage_it_executes_next() -> None:
    """n = (10, 6), l = 1, r = (1, 2), half of the prompts go on: the theorem's b (n + x) = 2 (6 + x) is too small.

    x = B/theta; at most 2 n - 1 + x prompts wait at stage 2 with 3 tokens each, of which the base holds n = 6: 3 (5 +
    x) tokens are needed, which is more since 6 + x > 3.
    """
    mix = Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)])
    segments = DecodeSegments(lengths(mix, Replica(1000, IterationTime(0.01, 1e-6))), np.array([1, 2]))
    counts = np.array([10.0, 6.0])
    x = float(segments.tails(np.array([0.6]), np.array([0.5]))[0])
    assert segments.buffers(counts).tolist() == [0.0, 3 * (5 + x)]


def test_without_the_token_more_overflows_are_too_many() -> None:
    """The same, saturated over 1,000 iterations with delta = 0.1: base 10 (1 + 2) + 6 x 3 = 48, KV = 30 + 3 Q.

    Section 5 to the letter keeps 2 (6 + x) tokens, which a share of 2,000 runs overflows that lies more than four
    standard errors above delta; with 3 (5 + x) the share is below delta.
    """
    rng = np.random.default_rng(3)
    x = math.log(1000 / 0.1) / root(0.6, 0.5)
    waiting, peak = np.zeros(2000, dtype=int), np.zeros(2000, dtype=int)
    for _ in range(1000):
        waiting = waiting - 6 * (waiting >= 6) + rng.binomial(10, 0.5, 2000)
        peak = np.maximum(peak, waiting)
    assert np.mean(30 + 3 * peak > 48 + 2 * (6 + x)) > 0.1 + 4 * math.sqrt(0.1 * 0.9 / 2000)
    assert np.mean(30 + 3 * peak > 48 + 3 * (5 + x)) < 0.1


@pytest.mark.parametrize("seed", range(6))
def test_a_boundary_queue_stays_below_its_bound_path_by_path(seed: int) -> None:
    """Q' = Q + A - n 1{Q >= n} never exceeds 2 n - 1 plus the reflected walk X' = (X + A - n)^+."""
    rng = np.random.default_rng(seed)
    before, after, share = 8, 5, 0.55
    waiting = walk = 0
    for arrivals in rng.binomial(before, share, 5000).tolist():
        waiting += arrivals - (after if waiting >= after else 0)
        walk = max(walk + arrivals - after, 0)
        assert waiting <= 2 * after - 1 + walk


@pytest.mark.parametrize("seed", range(8))
def test_whole_thresholds_are_those_of_a_search_through_all_chains(seed: int) -> None:
    """For up to four segments: every chain with n_1 up to two more than that found is tried."""
    workload, replica = small(seed)
    law = lengths(workload, replica)
    for count in range(1, min(4, law.ends.size) + 1):
        for cuts in itertools.combinations(law.ends[:-1].tolist(), count - 1):
            segments = DecodeSegments(law, np.array([*cuts, law.longest]))
            real = real_thresholds(segments)
            found = None if real is None else whole_thresholds(segments, real)
            if found is None or found[0] > 8:
                continue
            chains = (np.array(c, float) for c in itertools.combinations(range(int(found[0]) + 2, 0, -1), count))
            best = min(segments.required(chain) for chain in chains if segments.drifts(chain))
            assert segments.required(found.astype(float)) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_boundaries_are_within_a_percent_of_all_boundaries(seed: int) -> None:
    """Tiny instances: the best chain of every set of cuts (up to five segments) against the search."""
    workload, replica = small(seed)
    law = lengths(workload, replica)
    best = math.inf
    for count in range(1, min(5, law.ends.size) + 1):
        for cuts in itertools.combinations(law.ends[:-1].tolist(), count - 1):
            segments = DecodeSegments(law, np.array([*cuts, law.longest]))
            real = real_thresholds(segments)
            found = None if real is None else whole_thresholds(segments, real)
            if found is not None:
                best = min(best, segments.required(found.astype(float)))
    design = nested(workload, replica, horizon=100.0, overflow_probability=0.01)
    assert design.kv_required <= 1.01 * best


@pytest.mark.parametrize("count", [2, 4, 7])
def test_real_thresholds_are_a_minimum(count: int) -> None:
    """Nelder and Mead's search from the optimum and from elsewhere finds nothing below (1e-6)."""
    workload, replica = large()
    segments = DecodeSegments(UnknownLengths.of(chat(200.0) if count == 2 else workload, replica, 3600.0, 1e-3),
                        equal_widths(lengths(workload, replica), count))
    real = real_thresholds(segments)
    value = segments.required(real)

    def memory(share: np.ndarray) -> float:
        products = np.cumprod([1.0, *(segments.continuation[1:] ** (1 / (1 + np.exp(-share))))])
        load = segments.rate * float(segments.time[0] @ products)
        return math.inf if load >= 1 else segments.required(0.0106 * segments.rate / (1 - load) * products)

    at = np.log(real[1:] / real[:-1]) / np.log(segments.continuation[1:])
    for start in (at, 0.5 + 0.5 * at):
        found = minimize(memory, np.log(start / (1 - start)), method="Nelder-Mead",
                         options={"maxiter": 4000, "maxfev": 4000, "xatol": 1e-6, "fatol": 1e-3})
        assert found.fun >= value * (1 - 1e-6)


def test_the_real_optimum_lies_on_the_edge_of_drift() -> None:
    """n_1 = d0 Lambda/(1 - d1 Lambda A), the least that drifts: Lambda Delta(n) = n_1."""
    segments = DecodeSegments(UnknownLengths.of(*large(), 3600.0, 1e-3), equal_widths(lengths(*large()), 6))
    real = real_thresholds(segments)
    assert segments.rate * segments.iteration_time(real) == pytest.approx(real[0], rel=1e-12)


def test_whole_thresholds_never_need_less_than_real_ones() -> None:
    """Whole thresholds that drift are real ones that drift."""
    law = UnknownLengths.of(*large(), 3600.0, 1e-3)
    for count in (5, 7, 9):
        segments = DecodeSegments(law, equal_widths(law, count))
        real = real_thresholds(segments)
        assert segments.required(whole_thresholds(segments, real).astype(float)) >= segments.required(real)


def test_a_search_that_is_cut_short_still_drifts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs at least the optimum, and here at most 5% more."""
    law = UnknownLengths.of(*large(), 3600.0, 1e-3)
    segments = DecodeSegments(law, equal_widths(law, 9))
    real = real_thresholds(segments)
    least = segments.required(whole_thresholds(segments, real).astype(float))
    needs = []
    for most in (0, 1, 20):
        monkeypatch.setattr("thresholds.nested_wait.threshold_search.MOST_TAKEN", most)
        chain = whole_thresholds(segments, real).astype(float)
        assert segments.drifts(chain)
        needs.append(segments.required(chain))
    assert least <= min(needs)
    assert max(needs) <= 1.05 * least


@pytest.mark.parametrize("seed", range(6))
def test_the_price_of_a_shortest_path_is_below_the_memory_of_every_design(seed: int) -> None:
    """Lagrange: whatever a second costs, on one line of the iteration time or several."""
    workload, replica = small(seed)
    search = BoundarySearch(lengths(workload, replica))
    for count in range(2, min(5, search.lengths.ends.size + 1)):
        best = search.on_grid(count)
        if best is None or best.counts.max() > 24:
            continue
        start, inner, last = search.grid_edges
        layers, edges = [search.grid[0], *[search.grid[1]] * (count - 1)], [start, *[inner] * (count - 2), last]
        for price in (0.0, 1.0, 100.0, 1e4):
            assert next(search._at(layers, edges, price)).priced(price) <= best.required * (1 + 1e-9)


def test_optimised_ratios_beat_midpoints() -> None:
    """q = (1 + p)/2 with its least n_1 needs more, far more than twice for eight segments."""
    law = UnknownLengths.of(*large(), 3600.0, 1e-3)
    segments = DecodeSegments(law, equal_widths(law, 8))
    products = np.cumprod([1.0, *(1 + segments.continuation[1:]) / 2])
    load = segments.rate * float(segments.time[0] @ products)
    midpoint = segments.required(0.0106 * segments.rate / (1 - load) * products) if load < 1 else math.inf
    assert midpoint > 2 * segments.required(real_thresholds(segments))


def test_optimised_boundaries_beat_the_rules(big: NestedDesign) -> None:
    """With as many segments: whole thresholds, equal widths and quantiles."""
    for rule in ("equal", "quantile"):
        assert big.kv_required <= (nested(*large(), segments=8, boundaries=rule).kv_required or math.inf)


def test_boundaries_given_by_hand_are_kept() -> None:
    """Thresholds are optimised, boundaries are not; the optimised design needs no more."""
    workload, replica = large()
    design = nested(workload, replica, boundaries=(60, 120, 180, 250, 350, 500))
    assert design.boundaries == (60, 120, 180, 250, 350, 500)
    assert nested(workload, replica, segments=6).kv_required <= design.kv_required


def test_the_memory_is_u_shaped_in_the_number_of_segments() -> None:
    """Real thresholds, equal widths: falls to the best L, rises after it; few segments cannot drift at all."""
    law = UnknownLengths.of(*large(), 3600.0, 1e-3)
    needs = []
    for count in range(1, 41):
        segments = DecodeSegments(law, equal_widths(law, count))
        real = real_thresholds(segments)
        needs.append(math.inf if real is None else segments.required(real))
    best = int(np.argmin(needs))
    assert needs[0] == math.inf
    assert 3 < best < 30
    finite = [need for need in needs if need < math.inf]
    turn = int(np.argmin(finite))
    assert all(a > b for a, b in itertools.pairwise(finite[: turn + 1]))
    assert all(a < b for a, b in itertools.pairwise(finite[turn:]))


def test_near_the_best_number_of_segments_equal_widths_are_good_and_quantiles_are_not() -> None:
    """Section 5: equal widths about 1% above the optimum, quantile cuts 13 to 29%."""
    law = UnknownLengths.of(*large(2500.0 / 4), 3600.0, 1e-3)
    search, needs = BoundarySearch(law), {}
    for count in range(9, 19):
        needs[count] = [segments.required(counts) for segments, counts in (
            search.real(count), *((s, real_thresholds(s)) for s in (DecodeSegments(law, rule(law, count))
                                                                   for rule in (equal_widths, quantiles))))]
    best = min(needs, key=lambda count: needs[count][0])
    optimised, equal, quantile = needs[best]
    assert 1.0 <= equal / optimised < 1.03
    assert min(need[2] for need in needs.values()) / optimised > 1.10
    assert quantile / optimised > 1.13


@pytest.mark.parametrize("change", [{"horizon": 36_000.0}, {"overflow_probability": 1e-6}])
def test_a_stronger_guarantee_needs_more_memory(change: dict[str, float]) -> None:
    """B = ln((L - 1)(1 + T/d0)/delta) grows with T and 1/delta, and every buffer with B."""
    workload, replica = large()
    weak = nested(workload, replica, segments=5, boundaries="equal")
    strong = nested(workload, replica, segments=5, boundaries="equal", **change)
    assert weak.kv_required < strong.kv_required


def test_more_traffic_needs_more_memory() -> None:
    """Drift at a rate implies drift at every lower one, so the least memory cannot fall."""
    needs = [nested(*large(rate), segments=6, boundaries="equal").kv_required for rate in (300.0, 450.0, 600.0)]
    assert needs[0] < needs[1] < needs[2]


def test_longer_prompts_count_only_in_segments_they_can_enter() -> None:
    """10 prompts/s of 50 + 20 tokens, 1 of 400 + 20, 5 of 50 + 100, cut at (20, 100): l = 400, then 50.

    a_1 = 21 (400 + 10), a_2 = 80 (50 + (21 + 100)/2), and the queue's weight is 50 + 20; p = 5/16.
    """
    mix = Workload([PromptType(50, 20, 10.0), PromptType(400, 20, 1.0), PromptType(50, 100, 5.0)])
    design = nested(mix, Replica(10**6, PUBLISHED), boundaries=(20, 100))
    n1, n2 = design.thresholds
    assert design.kv_base == n1 * 21 * 410 + n2 * 80 * 50 + n2 * 40 * 121
    last = design.segments[1]
    assert last.continuation == pytest.approx(5 / 16)
    x = math.log((1 + 3600 / 0.0106) / 1e-3) / last.theta
    assert last.buffer_tokens == pytest.approx(70 * (n2 + x))


def test_a_single_output_length_is_a_single_segment() -> None:
    """Nobody leaves before the end: one threshold, the least n with lambda Delta(n) < n, and no buffer."""
    mix = Workload([PromptType(10, 5, 3.0)])
    design = nested(mix, Replica(10_000, IterationTime(0.2, 1e-3)))
    work = 6 * 10 + 15
    n = next(n for n in itertools.count(1) if 3.0 * (0.2 + 1e-3 * n * work) < n)
    assert (design.boundaries, design.thresholds, design.kv_buffer) == ((5,), (n,), 0.0)
    assert design.kv_required == n * work
    assert design.feasible


@pytest.mark.parametrize(("options", "stages"), [
    ({"prefill": "decode-only"}, range(1, 9)), ({"prefill": 4}, None), ({"block": 16}, range(9)),
    ({"first_token": "prefill"}, range(8)),
])
def test_other_servers_are_other_sums_of_kv(options: dict[str, object], stages: range | None) -> None:
    """One segment, 10 + 8 tokens: base n times the KV over the stages; chunks of 4 hold 4, 8, 10, then 11..18."""
    mix = Workload([PromptType(10, 8, 1.0)])
    design = nested(mix, Replica(10_000, IterationTime(0.01, 1e-6), **options))
    block = options.get("block", 1)
    held = [4, 8, 10, *range(11, 19)] if stages is None else [-(-(10 + s) // block) * block for s in stages]
    assert design.kv_base == design.thresholds[0] * sum(held)
    assert design.segments[0].start == (1 if options.get("prefill") == "decode-only" else 0)


def test_chunks_of_different_numbers_are_refused() -> None:
    """Prompts of 10 and 20 tokens in chunks of 8 take 2 and 3 prefill stages: cohorts would mix when they decode."""
    mix = Workload([PromptType(10, 8, 1.0), PromptType(20, 8, 1.0)])
    with pytest.raises(InputError, match=r"^prefill must be a chunk that prefills every prompt in equally many"):
        nested(mix, Replica(10_000, PUBLISHED, prefill=8))


def test_a_response_made_by_the_prefill_alone_counts_as_one_stage() -> None:
    """first_token "prefill", one token: no decode stage. The policy still needs a boundary, 1, and one stage of KV."""
    design = nested(Workload([PromptType(10, 1, 1.0)]), Replica(1000, PUBLISHED, first_token="prefill"))
    assert (design.boundaries, design.kv_base) == ((1,), 10 + 11)


def test_no_single_gpu_fits_what_whole_thresholds_need() -> None:
    """58 + up to 500 tokens on 137,000: threshold 1 everywhere already holds 501 (58 + 250) = 154,308 tokens."""
    design = nested(chat(20.0), Replica(137_000, PUBLISHED))
    assert not design.feasible
    assert design.kv_required >= 154_308
    assert f"{design.kv_required:,.0f} KV tokens" in design.reason
    assert 'policy "paced"' in design.reason
    assert design.max_rate_scale == 0.0


def test_an_overloaded_replica_has_no_thresholds() -> None:
    """rho >= 1: the sentence is that of the equilibrium, and every number is absent."""
    design = nested(chat(20_000.0), Replica(137_000, PUBLISHED))
    assert (design.thresholds, design.kv_required, design.iteration_time, design.segments) == ((), None, None, ())
    assert not design.feasible
    assert design.reason == design.equilibrium.reason


def test_one_segment_too_few_is_said_so() -> None:
    """One threshold for all 500 stages: Lambda d1 a_1 = 60 x 4.013e-7 x 154,308 > 1, so no n_1 keeps up."""
    design = nested(chat(60.0), Replica(137_000, PUBLISHED), segments=1)
    assert design.thresholds == ()
    assert "no whole thresholds keep up" in design.reason
    assert 'policy "paced"' in design.reason


def test_a_type_that_never_fits_is_named() -> None:
    """Its last stage needs 110 tokens of 100."""
    design = nested(Workload([PromptType(100, 10, 1.0, "long")]), Replica(100, PUBLISHED))
    assert not design.feasible
    assert "never fits" in design.reason


def test_a_feasible_design_serves_its_largest_scale_and_no_much_larger_one() -> None:
    """At 0.999 of the stated factor a design fits; the fluid edge, which no policy passes, lies above."""
    mix = Workload([PromptType(50, 20, 10.0), PromptType(50, 100, 2.0)])
    replica = Replica(30_000, PUBLISHED)
    design = nested(mix, replica)
    assert design.feasible
    assert 1.0 <= design.max_rate_scale < design.equilibrium.max_rate_scale
    assert nested(mix.scaled(0.999 * design.max_rate_scale), replica).feasible
    assert not nested(mix.scaled(1.05 * design.max_rate_scale), replica).feasible


@pytest.mark.parametrize(("longest", "count"), [(512, 16), pytest.param(4096, 64, marks=pytest.mark.slow)])
def test_many_steps_and_segments_are_designed(longest: int, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A long-tailed law over so many decode steps; progress ends at (all, all)."""
    steps = np.arange(1, longest + 1)
    weights = 1.0 / (200.0 + steps)
    mix = Workload.from_arrays(np.full(longest, 100), steps, 5000 * weights / weights.sum())
    replica = Replica(10**9, IterationTime(0.01, 1e-11))
    calls: list[tuple[int, int]] = []
    design = nested(mix, replica, segments=count, progress=lambda done, total: calls.append((done, total)))
    assert len(design.thresholds) == count
    assert design.boundaries[-1] == longest
    by_the_page(mix, replica, design.boundaries, design.thresholds, 3600.0, 1e-3)
    assert calls[-1][0] == calls[-1][1]
    assert capsys.readouterr().out == ""


def test_a_design_is_a_policy_that_can_be_written() -> None:
    """What a scheduler installs is the boundaries and the thresholds alone."""
    design = nested(*small(1), horizon=100.0, overflow_probability=0.01)
    policy = from_json(to_json(design))
    assert policy == NestedWaitPolicy(design.boundaries, design.thresholds)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"horizon": 0.0}, "horizon must be"), ({"overflow_probability": 1.0}, "overflow_probability must be"),
    ({"segments": 65}, "segments must be a whole number of segments from 1 to 64"),
    ({"boundaries": "thirds"}, 'boundaries must be "equal", "quantile", "optimised" or whole numbers of stages'),
    ({"boundaries": (20, 90)}, r"boundaries\[1\] must be 100, the largest number of decode stages"),
    ({"boundaries": (10, 100)}, r"boundaries\[0\] must be such that some prompt ends in its segment"),
    ({"boundaries": (50, 20, 100)}, "boundaries must be increasing stages"),
    ({"boundaries": (20, 100), "segments": 3}, "segments must be 2, the number of boundaries"),
])
def test_unusable_arguments_are_refused_by_name(arguments: dict[str, object], message: str) -> None:
    """One line: which argument, what it must be, what was found."""
    mix = Workload([PromptType(50, 20, 1.0), PromptType(50, 100, 1.0)])
    with pytest.raises(InputError, match=f"^{message}"):
        nested(mix, Replica(137_000, PUBLISHED), **arguments)
