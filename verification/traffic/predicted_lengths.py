"""Predicted output lengths: the type that a rule by prompt types takes a request for when it arrives.

WAIT, and paced WAIT with a window per type, must know a request's type (l, R) on arrival. The prompt length l is known;
the output length R is predicted as R~, and the request is taken for the type with its prompt length whose output length
is nearest in ratio: |ln R_k - ln R~| least, a tie for the longer, which errs on the side of memory. With
R_1 < ... < R_K the output lengths at that prompt length,

    taken for R_k   iff   sqrt(R_{k-1} R_k) <= R~ < sqrt(R_k R_{k+1})          R_0 = 0, R_{K+1} = inf

A tie needs a rational root, so a square R_k R_{k+1}, which a float holds exactly (lengths end at 2^24), as it does its
root: ties are decided exactly. Of several types with equal lengths a request is taken for its own, else for the first.
Models of the error; with Phi the normal distribution function and U(x) = min(max(x, 0), 1),

    LogNormalError(sigma, bias)   R~ = bias R e^{sigma Z}, Z normal    P(R~ < x) = Phi(ln(x/(bias R))/sigma)
    Overestimate(ratio)           R~ uniform on [R, ratio R]           P(R~ < x) = U((x/R - 1)/(ratio - 1))
    Misclassified(share)          P(j taken for k) = (1 - share) 1{j = k} + share lambda_k / sum_{i: l_i = l_j} lambda_i

R~ is real and may lie below 1: the nearest type is then the shortest, as for R~ = 1. Errors are independent of each
other and of the arrivals. Nothing is learned: these are errors, not predictors.

**Never short.** If R~ >= R, as [J] assumes, no request is taken for a type with a shorter output: R' < R <= R~ gives
ln R~ - ln R' > ln R~ - ln R. At every age it then holds the KV of the type it is taken for, or none any more: what WAIT
and windows by type bound on every path stays bounded. With other errors it does not, since a request taken for a
shorter type outlives it.

**The mix as seen.** lambda~_k = sum_j lambda_j P(j taken for k): independent Poisson streams again (splitting), with
the total kept; `Misclassified` keeps every rate. A type that is hardly ever seen gets at least 1e-9 of its own rate: a
design by types needs one threshold for each, the least one for such a type, and 1e-9 is what designs round by anyway.
The load of the seen mix is that of its lengths; the server carries the true one, whatever is seen.
Source: mathematics, section 6.12; the nearest type in ratio is ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.special import ndtr

from fluid import Workload
from fluid.arrays import TOLERANCE, Floats, Ints, bounded
from fluid.errors import InputError, real
from verification.traffic.arrivals import type_indices
from verification.traffic.same_prompt_length import Lookalikes

LEAST_RATE = float(np.nextafter(0.0, 1.0))
MOST_ENTRIES = 2**25  # of a confusion matrix: about a GB while it is made


class Predictor(Protocol):
    """What `seen_types`, `confusion` and `seen_workload` ask of a model of the error."""

    def draw(self, alike: Lookalikes, types: Ints, generator: np.random.Generator) -> Ints:
        """The type that each request is taken for, shape (N,): one with the prompt length of its own."""

    def chances(self, alike: Lookalikes, own: Ints, other: Ints) -> Floats:
        """P(own taken for other), element by element, of types with equal prompt lengths."""

    @property
    def never_short(self) -> bool:
        """Whether no request is ever taken for a type with a shorter output."""


class _LengthPrediction(ABC):
    """A prediction R~ of the output length: the request is taken for the nearest type."""

    @abstractmethod
    def predict(self, output_tokens: Ints, generator: np.random.Generator) -> Floats:
        """Predictions R~ (tokens, real) of output lengths, shape (N,): request i has the i-th error of the stream."""

    @abstractmethod
    def between(self, output_tokens: Ints, low: Floats, high: Floats) -> Floats:
        """P(low <= R~ < high), element by element."""

    def draw(self, alike: Lookalikes, types: Ints, generator: np.random.Generator) -> Ints:
        """The type nearest to each request's prediction."""
        return alike.nearest(types, self.predict(alike.workload.output_tokens[types], generator))

    def chances(self, alike: Lookalikes, own: Ints, other: Ints) -> Floats:
        """P(R~ is nearest to the lengths of `other`), where it stands for them: itself, or the first of others."""
        pair = alike.pair[other]
        found = self.between(alike.workload.output_tokens[own], alike.low[pair], alike.high[pair])
        stands = (own == other) | ((alike.pair[own] != pair) & (alike.first[pair] == other))
        return np.where(stands, found, 0.0)


@dataclass(frozen=True)
class LogNormalError(_LengthPrediction):
    """R~ = `bias` R e^{sigma Z} with Z standard normal: `sigma` is the standard deviation of ln(R~/R).

    The median of R~ is bias R, its mean bias R e^{sigma^2/2}. With sigma = 0 and bias = 1 predictions are the truth.
    Raises InputError unless sigma >= 0 and bias > 0 are finite.

    >>> LogNormalError(sigma=0.0).predict(np.array([7, 300]), np.random.default_rng(0)).tolist()
    [7.0, 300.0]
    """

    sigma: float
    bias: float = 1.0

    @property
    def never_short(self) -> bool:
        return self.sigma == 0 and self.bias >= 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", real("sigma", self.sigma, "LogNormalError", zero=True))
        object.__setattr__(self, "bias", real("bias", self.bias, "LogNormalError"))

    def predict(self, output_tokens: Ints, generator: np.random.Generator) -> Floats:
        with np.errstate(over="ignore"):
            factor = self.bias * np.exp(self.sigma * generator.standard_normal(len(output_tokens)))
            return np.asarray(output_tokens * factor)

    def between(self, output_tokens: Ints, low: Floats, high: Floats) -> Floats:
        with np.errstate(over="ignore", divide="ignore"):
            if self.sigma == 0:
                return _at(output_tokens * self.bias, low, high)
            z, to = ((np.log(x / output_tokens) - np.log(self.bias)) / self.sigma for x in (low, high))
        upper = z > 0  # there the tail keeps its digits, not the distribution function
        return np.asarray(ndtr(np.where(upper, -z, to)) - ndtr(np.where(upper, -to, z)))


@dataclass(frozen=True)
class Overestimate(_LengthPrediction):
    """R~ uniform on [R, `ratio` R]: never below the truth, as [J] assumes of predictions.

    Raises InputError unless ratio >= 1 is finite.

    >>> Overestimate(ratio=1.0).predict(np.array([7, 300]), np.random.default_rng(0)).tolist()
    [7.0, 300.0]
    """

    ratio: float

    @property
    def never_short(self) -> bool:
        return True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", real("ratio", self.ratio, "Overestimate"))
        if self.ratio < 1:
            raise InputError("ratio", "at least 1", self.ratio, "Overestimate")

    def predict(self, output_tokens: Ints, generator: np.random.Generator) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray(output_tokens * (1 + (self.ratio - 1) * generator.random(len(output_tokens))))

    def between(self, output_tokens: Ints, low: Floats, high: Floats) -> Floats:
        if self.ratio == 1:
            return _at(output_tokens, low, high)
        below, at_most = (np.clip((x / output_tokens - 1) / (self.ratio - 1), 0.0, 1.0) for x in (low, high))
        return np.asarray(at_most - below)


@dataclass(frozen=True)
class Misclassified:
    """With probability `share` the type is drawn anew, by rates, among those with its prompt length (itself included).

    So type j is mistaken with probability share (1 - lambda_j / sum_{i: l_i = l_j} lambda_i): a classifier's error
    rate. Raises InputError unless 0 <= share <= 1.

    >>> confusion(Workload.from_arrays([10, 10], [1, 4], [1.0, 3.0]), Misclassified(share=0.4)).toarray().tolist()
    [[0.7, 0.30000000000000004], [0.1, 0.9]]
    """

    share: float

    @property
    def never_short(self) -> bool:
        return self.share == 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", real("share", self.share, "Misclassified", zero=True))
        if self.share > 1:
            raise InputError("share", "a probability, at most 1", self.share, "Misclassified")

    def draw(self, alike: Lookalikes, types: Ints, generator: np.random.Generator) -> Ints:
        """The type itself, or one drawn anew."""
        mistaken, which = generator.random((len(types), 2)).T
        return np.where(mistaken < self.share, alike.anew(types, which), types)

    def chances(self, alike: Lookalikes, own: Ints, other: Ints) -> Floats:
        """(1 - share) 1{own = other} + share lambda_other / (rate of the group)."""
        return np.asarray((1 - self.share) * (own == other) + self.share * alike.share[other])


def seen_types(workload: Workload, types: ArrayLike, predictor: Predictor, generator: np.random.Generator) -> Ints:
    """Draw the type that each request is taken for, shape (N,), from the true `types` (indices, shape (N,)).

    Request i has the i-th error of `generator`, which should be its own: the arrivals are then the same with and
    without predictions. Raises InputError for indices that have no prompt type.

    >>> mix = Workload.from_arrays([10, 10, 20], [1, 4, 9], [1.0, 3.0, 5.0])
    >>> seen_types(mix, [0, 1, 2], LogNormalError(sigma=0.0, bias=2.0), np.random.default_rng(0)).tolist()
    [1, 1, 2]
    """
    own = type_indices("types", types, "predictions", len(workload))
    return predictor.draw(Lookalikes.of(workload), own, generator)


def confusion(workload: Workload, predictor: Predictor) -> csr_array:
    """Return P(j taken for k), exact: a sparse matrix of shape (J, J) whose rows sum to 1.

    Raises InputError where more than 2^25 of its entries are positive.

    >>> confusion(Workload.from_arrays([10, 10], [1, 4], [1.0, 3.0]), Overestimate(ratio=5.0)).toarray().tolist()
    [[0.25, 0.75], [0.0, 1.0]]
    """
    alike = Lookalikes.of(workload)
    kept, entries = [(np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))], 0
    for own, other in alike.blocks():
        chance = predictor.chances(alike, own, other)
        some = np.flatnonzero(chance)
        entries += some.size
        if entries > MOST_ENTRIES:
            raise InputError("workload", f"one with at most {MOST_ENTRIES:,} ways to take a type for another", workload,
                             "confusion")
        kept.append((chance[some], own[some], other[some]))
    values, rows, columns = (np.concatenate(each) for each in zip(*kept, strict=True))
    return csr_array((values, (rows, columns)), shape=(len(workload), len(workload)))


def seen_workload(workload: Workload, predictor: Predictor) -> Workload:
    """Return the mix as it looks on arrival: the same types at rates lambda~_k = sum_j lambda_j P(j taken for k).

    A type never or hardly ever seen has 1e-9 of its own rate, so that a design has a threshold for it; the total is
    kept to within as much.

    >>> mix = Workload.from_arrays([10, 10], [1, 4], [1.0, 3.0])
    >>> seen_workload(mix, Overestimate(ratio=5.0)).rates.tolist()
    [0.25, 3.75]
    """
    alike, rates = Lookalikes.of(workload), np.zeros(len(workload))
    with np.errstate(over="ignore"):
        for own, other in alike.blocks():
            flow = workload.rates[own] * predictor.chances(alike, own, other)
            rates += np.bincount(other, flow, minlength=len(workload))
    least = np.maximum(TOLERANCE * workload.rates, LEAST_RATE)
    return workload.at_rates(np.maximum(bounded(rates), least))


def _at(values: np.ndarray, low: Floats, high: Floats) -> Floats:
    """1 where low <= values < high, else 0; the last interval holds an infinite value too."""
    return np.asarray((low <= values) & ((values < high) | np.isinf(high)), dtype=np.float64)
