"""How long residents live on: the law of their remaining iterations, given their prompt length and their age.

A prompt of l tokens takes K prefill iterations and o decode iterations. Its *life* R counts from the last prefill
iteration on (from the first decode, where prefill happens elsewhere), its *age* a is negative before: at age a >= 0 it
holds held(l + a) KV tokens (one more where prefill happens elsewhere), before at most held(l), and it lives in age a if
R > a. So the KV a resident holds in each coming iteration is known but for the moment at which it ends.

**The model.** l is known on arrival, R is not. Within a class of prompt lengths R is taken to be independent of l and
of everything else a scheduler sees, with the law of the class's types, each as likely as its rate:

    P(R > a + h | l, age a) = G_c(a + h) / G_c(a),      G_c(a) = P(R > a) in the class c of l

Where there are few prompt lengths each is a class of its own, and the model is the workload as it is. Else the classes
hold equal shares of the prompt tokens, and no less than `LEAST_PAIRS` length pairs on average; how long outputs are
inside a class may not depend on the prompt. Dependent lengths (bursts of long answers) break the model, and with it
what is proved: see `thresholds.look_ahead.exponents`.

**Steps.** Lives of up to `ROWS` iterations are kept age by age, longer ones in steps of s iterations. See mathematics,
section 13.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fluid import StageProfile
from fluid.arrays import Floats, Ints

CLASSES, LEAST_PAIRS, ROWS = 16, 100, 1024


@dataclass(frozen=True, eq=False)
class Lives:
    """Classes of prompt lengths: their `prompts` (least, most), shape (classes, 2); `share` of the arrivals; the mean
    `place` of a prompt between least and most, in [0, 1]; `alive` G_c(a) by age, shape (classes, A); and `prefilling`,
    P(K - 1 >= i) for i = 1, 2, .., the chance to be resident at age -i, shape (classes, most K - 1).
    """

    prompts: Ints
    share: Floats
    place: Floats
    alive: Floats
    prefilling: Floats

    @classmethod
    def of(cls, profile: StageProfile, rates: Floats) -> Lives:
        """The lives of a workload's types."""
        ends = _class_ends(profile, rates)
        kind = np.searchsorted(ends, profile.prompt)
        early = np.maximum(profile.prefill_stages - 1, 0)
        share = np.bincount(kind, rates, ends.size)
        least = np.full(ends.size, profile.prompt.max())
        np.minimum.at(least, kind, profile.prompt)
        place = (profile.prompt - least[kind]) / np.maximum(ends - least, 1)[kind]
        return cls(np.stack([least, ends], axis=1), share / share.sum(), np.bincount(kind, rates * place) / share,
                   _tails(profile.stages - early, kind, rates)[:, :-1], _tails(early, kind, rates)[:, :-1])

    @property
    def step(self) -> int:
        """s, the iterations of a row."""
        return -(-int(self.alive.shape[1]) // ROWS)

    @property
    def survival(self) -> Floats:
        """G_c(0), G_c(s), G_c(2 s), ..: shape (classes, rows)."""
        return self.alive[:, ::self.step]

    def resident(self, lead: int) -> Floats:
        """The mean number of ages of each row at which a prompt is resident, `lead` rows before age 0 first."""
        before = np.zeros((len(self.alive), lead * self.step))
        before[:, before.shape[1] - self.prefilling.shape[1]:] = self.prefilling[:, ::-1]
        after = np.zeros((len(self.alive), self.survival.shape[1] * self.step))
        after[:, : self.alive.shape[1]] = self.alive
        rows: Floats = np.concatenate([before, after], axis=1).reshape(len(self.alive), -1, self.step).sum(axis=2)
        return rows


def _class_ends(profile: StageProfile, rates: Floats) -> Ints:
    """The most prompt tokens of each class."""
    prompts = np.unique(profile.prompt)
    if prompts.size <= CLASSES:
        return prompts
    pairs = np.unique(np.stack([profile.prompt, profile.stages]), axis=1).shape[1]
    classes = min(CLASSES, max(pairs // LEAST_PAIRS, 1))
    order = np.argsort(profile.prompt, kind="stable")
    mass = np.cumsum(profile.prompt[order] * (rates[order] / rates.max()))
    last = np.searchsorted(mass, mass[-1] * np.arange(1, classes + 1) / classes)
    ends: Ints = np.unique(profile.prompt[order][np.minimum(last, order.size - 1)])
    ends[-1] = prompts[-1]
    return ends


def _tails(count: Ints, kind: Ints, rates: Floats) -> Floats:
    """P(count > 0), P(count > 1), .., 0 for each class, summed from the far end: shape (classes, most + 1)."""
    width = int(count.max()) + 1
    mass = np.bincount(kind * width + count, rates, (int(kind.max()) + 1) * width).astype(np.float64).reshape(-1, width)
    from_end = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    tails: Floats = np.append(from_end[:, 1:], np.zeros((len(mass), 1)), axis=1)
    return tails / from_end[:, :1]
