"""Kinds of replicas, and what a request of each type takes of each.

A fleet has n_k replicas of kind k, which share evenly the rates x_kj (requests/s) of type j that are sent to the kind.
By the half-spaces h^k of one replica (`fluid.region`) they carry them when

    sum_j h^k_ij x_kj <= n_k      for every row i of kind k;      x_kj = 0 where type j fits no replica of kind k

An even split is best: the region is convex, and all replicas of a kind have the same. A row below another one of its
kind for every type says nothing and is left out.

**Time between tokens.** In the fluid limit it is the iteration time, which must not exceed tau (`tpot`). With lines i,
overheads a_i and the work c_ij of a request, Delta* = max_i a_i / (1 - rho_i) <= tau is rho_i <= 1 - a_i/tau for all i:

    sum_j x_kj c_ij tau / (tau - a_i) <= n_k        exactly; where tau <= a_i no replica of the kind is fast enough

**Use.** Where only the share `use` of every other limit may be filled, their rows are h / use.

**Prices.** Let y_ki >= 0 be a price of each row: what a replica-second of that limit is worth. Then a request of type j
costs at least mu_j, and a replica of kind k is worth a_k,

    mu_j = min_k sum_i y_ki h^k_ij  over the kinds that it fits,       a_k = sum_i y_ki

and whatever is carried, at rates x_j, costs no more than the fleet is worth:

    sum_j mu_j x_j <= sum_k a_k n_k

Every bound of this room follows from that line, for any prices: they need no solver to be true. Source: derived here,
by the duality of linear programs; mathematics, section 16.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fluid.arrays import Bools, Floats, Ints
from fluid.errors import InputError, real, whole
from fluid.planning.parts import Part
from fluid.region import Region, region_of
from fluid.replica import Replica
from fluid.stages import StageProfile, stage_profile
from fluid.workload import Workload

MOST_REPLICAS = 10**6  # of a kind, and that a type alone may need
TPOT = "tpot"  # the limit of rows for the time between tokens
HOPELESS = 1e9  # replicas that a type alone would need of a kind, to which it is then never sent


@dataclass(frozen=True)
class Kind:
    """One kind of replica: its `price` (of an hour, in any currency), the `most` there are, the `count` one has.

    `start_up` are the seconds from ordering a replica until it serves, `least_time` those that it is paid for at least,
    from its order on (`fluid.scheduling`); `tpot` (s) bounds the mean time between tokens, and `use` is the share of
    the other limits that may be filled, above 0 and at most 1; `part` says which stages of a request it serves, where
    those are not all (`fluid.planning.parts`). Raises InputError unless the price is positive, 0 <= count <= most
    (None: as many as one likes) and times are nonnegative.

    >>> from fluid import IterationTime
    >>> Kind("a100", Replica(137_000, IterationTime(0.0106, 4.013e-7)), price=2.5)
    Kind("a100", 137,000 KV tokens, price 2.5)
    """

    name: str
    replica: Replica
    price: float = 1.0
    most: int | None = None
    count: int = 0
    start_up: float = 0.0
    least_time: float = 0.0
    tpot: float | None = None
    use: float = 1.0
    part: Part | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError("name", "text", self.name, "kind")
        where = f'kind "{self.name}"'
        if not isinstance(self.replica, Replica):
            raise InputError("replica", "a Replica", self.replica, where)
        if not isinstance(self.part, Part | None):
            raise InputError("part", "a Part, or None", self.part, where)
        object.__setattr__(self, "price", real("price", self.price, where))
        if self.most is not None:
            most = whole("most", self.most, where, unit="replicas", least=0, most=MOST_REPLICAS)
            object.__setattr__(self, "most", most)
        count = whole("count", self.count, where, unit="replicas", least=0,
                      most=MOST_REPLICAS if self.most is None else self.most)
        object.__setattr__(self, "count", count)
        for name in ("start_up", "least_time"):
            object.__setattr__(self, name, real(name, getattr(self, name), where, unit="seconds", zero=True))
        if self.tpot is not None:
            object.__setattr__(self, "tpot", real("tpot", self.tpot, where, unit="seconds"))
        if not 0 < real("use", self.use, where) <= 1:
            raise InputError("use", "a share above 0 and at most 1", self.use, where)

    def __repr__(self) -> str:
        most = "" if self.most is None else f", at most {self.most:,}"
        count = f", {self.count:,} there" if self.count else ""
        role = f", {self.part.role}" if self.part else ""
        return f'Kind("{self.name}"{role}, {self.replica.kv_capacity:,} KV tokens, price {self.price:g}{most}{count})'

    def seen(self, workload: Workload) -> tuple[Workload, Replica]:
        """The requests and the replica as it serves them: those given, or its part of them."""
        return (workload, self.replica) if self.part is None else self.part.of(workload, self.replica)

    def profile(self, workload: Workload) -> StageProfile:
        """The stages that it serves of every type, however long the engine lets requests be."""
        mine, replica = self.seen(workload)
        return stage_profile(mine, replace(replica, max_model_len=None))

    def region(self, profile: StageProfile) -> Region:
        """The half-spaces of one replica for requests of these stages."""
        return region_of(profile, self.replica) if self.part is None else self.part.region(profile, self.replica)


@dataclass(frozen=True, eq=False)
class Rows:
    """The half-spaces of all kinds: `values` h (R, J) in seconds, and for each row its `kind`, `limit` and `piece`.

    `fits` (K, J) says which types a kind serves; `profiles` are the stages of the types on each kind.
    """

    values: Floats
    kind: Ints
    limit: tuple[str, ...]
    piece: Ints
    fits: Bools
    profiles: tuple[StageProfile, ...]

    @property
    def served(self) -> Bools:
        """The types that fit some kind, shape (J,)."""
        return np.logical_or.reduce(self.fits, axis=0)  # type: ignore[no-any-return]

    def worth(self, prices: Floats) -> Floats:
        """mu, what a request of each type costs at least at prices (R,): shape (J,), infinite where none serves it."""
        least: Floats = self.costs(prices).min(axis=0)
        return least

    def costs(self, prices: Floats) -> Floats:
        """What a request of each type costs on each kind, infinite where it does not fit: shape (K, J)."""
        cost = np.full(self.fits.shape, np.inf)
        for k in range(len(cost)):
            mine = self.kind == k
            cost[k] = np.where(self.fits[k], prices[mine] @ self.values[mine], np.inf)
        return cost

    def of_kinds(self, per_row: Floats) -> Floats:
        """Sums over the rows of each kind, shape (K,): of prices, what a replica is worth."""
        sums = np.zeros(len(self.fits))
        np.add.at(sums, self.kind, per_row)
        return sums

    def loads(self, rates: Floats) -> Floats:
        """Replicas that rates (K, J) take of each row: shape (R,)."""
        taken: Floats = np.einsum("rj,rj->r", self.values, rates[self.kind])
        return taken

    def fullest(self, rates: Floats) -> Floats:
        """Replicas that rates (K, J) need of each kind, the largest over its rows: shape (K,)."""
        needs = np.zeros(len(self.fits))
        np.maximum.at(needs, self.kind, self.loads(rates))
        return needs


def prices_of(kinds: Sequence[Kind]) -> Floats:
    """p, shape (K,)."""
    return np.array([each.price for each in kinds])


def counts_of(kinds: Sequence[Kind]) -> Floats:
    """The replicas that are there already, shape (K,)."""
    return np.array([float(each.count) for each in kinds])


def most_of(kinds: Sequence[Kind]) -> Floats:
    """The most replicas of each kind, infinite where there is no limit: shape (K,)."""
    return np.array([np.inf if each.most is None else float(each.most) for each in kinds])


def rows_of(workload: Workload, kinds: Sequence[Kind]) -> Rows:
    """Return the half-spaces of the kinds over the types of a workload.

    Raises InputError where there is no kind, two have one name, a type has no stage at all on one of them, or a type
    alone needs over a million replicas.
    """
    _check(kinds)
    blocks, fits, profiles, needs = [], [], [], np.full(len(workload), np.inf)
    for k, each in enumerate(kinds):
        mine, replica = each.seen(workload)
        profile = each.profile(workload)
        region = each.region(profile)
        half_spaces, names = _half_spaces(each, region, profile)
        own = np.full(len(workload), fast_enough(each))
        own[region.never_fits] = False
        if each.replica.max_model_len is not None:
            own &= mine.prompt_tokens + mine.output_tokens <= each.replica.max_model_len
        alone = half_spaces.max(axis=0) * workload.rates
        needs = np.minimum(needs, np.where(own, alone, np.inf))
        own &= alone <= HOPELESS
        kept = _undominated(half_spaces)
        pieces = np.arange(len(names)) % len(replica.iteration_time.pieces)
        blocks.append((np.where(own, half_spaces, 0.0)[kept], np.full(len(kept), k), [names[i] for i in kept],
                       pieces[kept]))
        fits.append(own)
        profiles.append(profile)
    values, kind, limits, piece = zip(*blocks, strict=True)
    rows = Rows(np.concatenate(values), np.concatenate(kind), tuple(name for each in limits for name in each),
                np.concatenate(piece), np.array(fits), tuple(profiles))
    _refuse_too_much(workload, needs)
    return rows


def fast_enough(kind: Kind) -> bool:
    """Whether an iteration without any work is within the time between tokens that is asked for."""
    return kind.tpot is None or bool(kind.replica.iteration_time.overheads.max() < kind.tpot)


def _half_spaces(kind: Kind, region: Region, profile: StageProfile) -> tuple[Floats, list[str]]:
    """Those of the region, of which the share `use` may be filled, and of the time between tokens, a row a line."""
    values, names = region.half_spaces / kind.use, list(region.limits)
    if kind.tpot is None or not fast_enough(kind):
        return values, names
    overheads = kind.replica.iteration_time.overheads[:, None]
    paced = profile.time_work(kind.replica.iteration_time) * (kind.tpot / (kind.tpot - overheads))
    return np.concatenate([values, paced]), names + [TPOT] * len(paced)


def _check(kinds: Sequence[Kind]) -> None:
    if not isinstance(kinds, Sequence) or not kinds or not all(isinstance(each, Kind) for each in kinds):
        raise InputError("kinds", "a sequence of at least one Kind", kinds, "fleet")
    names = [each.name for each in kinds]
    for name in names:
        if names.count(name) > 1:
            raise InputError("kinds", "of different names", name, "fleet")


def _undominated(values: Floats) -> Ints:
    """The rows that no other row is above for every type, of equal ones the first."""
    above = np.all(values[:, None, :] <= values[None, :, :], axis=2)  # [i, other]
    equal = above & above.T
    first = np.tri(len(values), k=-1, dtype=bool)  # [i, other]: other comes before
    covered = (above & ~equal) | (equal & first)
    kept: Ints = np.flatnonzero(~covered.any(axis=1))
    return kept


def _refuse_too_much(workload: Workload, needs: Floats) -> None:
    """Of a type that fits some kind, no more than so many replicas alone: `needs` (J,), infinite where it fits none."""
    for j in np.flatnonzero(np.isfinite(needs) & (needs > MOST_REPLICAS))[:1]:
        raise InputError("rate", f"a demand of at most {MOST_REPLICAS:,} replicas", float(workload.rates[j]),
                         f'prompt type "{workload.names[j]}"')
