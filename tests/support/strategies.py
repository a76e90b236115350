"""Random problems for hypothesis: iteration times, replicas, workloads, and both together at a chosen load.

Sizes are kept where floating point can decide: overheads of 1 ms to 1 s, capacities to 1e5 tokens and slopes to 1e-4
s per token and 1e-3 s per sequence, so that at the region's edge 1 - rho = d0 W / C is at least 1e-3 / (1e-3 + 2e-4 *
1e5 + 1e-3 * 1e5) > 8e-6 (a prompt holds at least a token in each stage, so c_j <= (d1 + d2 + d3) w_j). An answer
divided by 1 - rho then keeps nine or ten of a float's sixteen digits.

`examples` makes the setting of a property test: the same examples on every run, on every machine, and so many times
more where FLUIDWAIT_EXAMPLES says so.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fluid import IterationTime, PromptType, Replica, Workload, stage_profile

MORE = int(os.environ.get("FLUIDWAIT_EXAMPLES", "1"))


def examples(count: int) -> settings:
    """The setting of a property test: no clock decides, neither that of an example nor that of drawing it."""
    return settings(max_examples=count * MORE, deadline=None, derandomize=True, database=None,
                    suppress_health_check=[HealthCheck.too_slow])


sampled = examples(60)

LONGEST = 200
LARGEST_CAPACITY = 100_000


class Instance(NamedTuple):
    """A workload on a replica it fits, type by type."""

    workload: Workload
    replica: Replica


def slopes(most: float) -> st.SearchStrategy[float]:
    """A coefficient of the iteration time: 0 now and then, else within five decades of `most`."""
    return st.one_of(st.just(0.0), st.floats(most * 1e-5, most))


def lines(extras: bool = True) -> st.SearchStrategy[IterationTime]:
    """One affine piece; without `extras`, d2 = d3 = 0 as in [A]."""
    zero = st.just(0.0)
    return st.builds(IterationTime, st.floats(1e-3, 1.0), slopes(1e-4), slopes(1e-4) if extras else zero,
                     slopes(1e-3) if extras else zero)


def max_affine(least: int = 2, most: int = 4) -> st.SearchStrategy[IterationTime]:
    """The largest of several affine pieces."""
    return st.lists(lines(), min_size=least, max_size=most).map(lambda pieces: IterationTime.largest(*pieces))


def iteration_times() -> st.SearchStrategy[IterationTime]:
    """One line or several."""
    return st.one_of(lines(), max_affine())


def replicas(times: st.SearchStrategy[IterationTime] | None = None, plain: bool = False) -> st.SearchStrategy[Replica]:
    """A replica of the largest capacity; `plain` is whole prefill with blocks of one token."""
    prefill = st.one_of(st.sampled_from(["whole", "decode-only"]), st.integers(1, 2 * LONGEST))
    block = st.one_of(st.just(1), st.integers(2, 64))
    return st.builds(Replica, st.just(LARGEST_CAPACITY), iteration_times() if times is None else times,
                     st.just("whole") if plain else prefill, st.just(1) if plain else block,
                     st.sampled_from(["decode", "prefill"]))


def prompt_types(least: int = 1, most: int = LONGEST) -> st.SearchStrategy[PromptType]:
    """A prompt type with lengths from `least` to `most` tokens, named or not."""
    return st.builds(PromptType, st.integers(least, most), st.integers(least, most), st.floats(1e-3, 1e3),
                     st.sampled_from(["", "chat", "summary"]))


def workloads(least: int = 1, most_types: int = 5) -> st.SearchStrategy[Workload]:
    """One to `most_types` prompt types; some may be alike."""
    return st.lists(prompt_types(least), min_size=1, max_size=most_types).map(Workload)


@st.composite
def instances(draw: Any, load: tuple[float, float] = (0.01, 0.95), replica: st.SearchStrategy[Replica] | None = None,
              least: int = 2, most_types: int = 5) -> Instance:
    """A workload whose load rho lies in `load` (0 where no work takes time), on a replica that every type fits.

    The capacity is drawn apart from the rates: memory may suffice or not. Lengths start at `least`: with 1 the types
    of a decode-only replica may be left without a stage.
    """
    server = draw(replicas() if replica is None else replica)
    mix = draw(workloads(least, most_types))
    work = stage_profile(mix, server)
    server = replace(server, kv_capacity=draw(st.integers(int(work.peak.max()), LARGEST_CAPACITY)))
    rho = (work.time_work(server.iteration_time) @ mix.rates).max()
    return Instance(mix.scaled(draw(st.floats(*load)) / rho) if rho > 0 else mix, server)


@st.composite
def capped(draw: Any, **options: Any) -> Instance:
    """An instance whose replica runs at most B sequences together: a few, or up to five times those at equilibrium."""
    mix, server = draw(instances(**options))
    work = stage_profile(mix, server)
    loads = work.time_work(server.iteration_time) @ mix.rates
    counts = mix.rates * (server.iteration_time.overheads / (1 - loads)).max() if loads.max() < 1 else mix.rates
    most = max(1, min(int(5 * counts @ work.stages), 2**40))
    cap = draw(st.one_of(st.integers(1, 20), st.floats(0.0, 1.0).map(lambda share: 1 + int(share * most))))
    return Instance(mix, replace(server, max_num_seqs=cap))


@st.composite
def near_edge(draw: Any, within: float = 1e-6, replica: st.SearchStrategy[Replica] | None = None,
              least: int = 2) -> tuple[Instance, float]:
    """An instance and the factor at which its rates stand to the region's edge, at most `within` from 1 but not 1.

    The edge is max_i sum_j lambda_j (c_ij + a_i w_j / C) = 1 (mathematics, section 2.2), worked out here from the
    profile.
    """
    mix, server = draw(instances(replica=replica, least=least))
    work, time = stage_profile(mix, server), server.iteration_time
    edge = (work.time_work(time) @ mix.rates + time.overheads * (work.kv_work @ mix.rates) / server.kv_capacity).max()
    factor = draw(st.sampled_from([1 - within, 1 - within / 3, 1 + within / 3, 1 + within]))
    return Instance(mix.scaled(factor / edge), server), factor
