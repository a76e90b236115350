"""Stage profiles: the KV tokens a prompt holds, and the prompt tokens it prefills, at each stage of its life.

On every kind of server (mathematics, section 1.2) a prompt passes through K prefill stages, each taking a chunk of q
prompt tokens, then o decode stages. With i = 1..K and s = 1..o the tokens of its context are

    prefill stage i   x = min(q i, l),  prefilled = min(q, l - q (i - 1))
    decode stage s    x = l + s,        prefilled = 0

Whole prefill is K = 1; chunked prefill K = ceil(l / q); decode only K = 0. Where the first p tokens of a prompt are in
the cache already, l and x are those of the rest (`fluid.shared_prefixes`). Memory counts held(x) KV tokens, in whole
cache blocks; time counts read(p + x), unrounded (`fluid.replica`; both are x where all layers attend to everything,
b = 1 and p = 0). Over its S = K + o stages a prompt costs

    KV work   w = sum of the KV held          (whole prefill, b = 1: (o + 1)(l + o/2) token-iterations)
    time work c = d1 (sum of the KV read) + d2 (tokens prefilled) + d3 S      seconds, one per piece

The sums are closed forms in integers, exact, vectorised over the types: in layers with an attention window of z the KV
grows over the decode stages with l + s < z and is z in the others, and sums of layers are weighted sums. Where windowed
and global layers mix the integers are units of KV (`KVLayout`). KV never decreases from stage to stage. Source:
mathematics, sections 1.2 to 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid.arrays import Floats, Ints, bounded
from fluid.errors import InputError
from fluid.replica import DECODE_ONLY, UNLIMITED, WHOLE, IterationTime, KVLayout, Replica, whole_blocks
from fluid.workload import Workload


@dataclass(frozen=True, eq=False)
class StageProfile:
    """The stages of each prompt type; every array has shape (J,).

    `prompt` l (behind the cached `prefix` p), `output` R (response tokens), `decode` o (decode stages),
    `prefill_stages` K, `chunk` q (tokens per prefill stage), `first_token_stage` (the stage whose end makes the first
    token; -1: before arrival); `layout` is what a context holds and reads. Tokens of KV are integers where all layers
    are alike, floats where they are not.
    """

    prompt: Ints
    prefix: Ints
    output: Ints
    decode: Ints
    prefill_stages: Ints
    chunk: Ints
    first_token_stage: Ints
    layout: KVLayout

    def __repr__(self) -> str:
        return f"StageProfile({len(self.prompt):,} types of up to {self.stages.max():,} stages)"

    @cached_property
    def stages(self) -> Ints:
        """S = K + o, the iterations a prompt takes."""
        return self.prefill_stages + self.decode

    @cached_property
    def kv_work(self) -> Ints | Floats:
        """w, the KV tokens held (in whole blocks) summed over the stages: token-iterations."""
        return self.layout.tokens(self.kv_units)

    @cached_property
    def kv_units(self) -> Ints:
        """w in units of KV, exact: unit-iterations."""
        return self._work(self.layout.block, np.zeros_like(self.prompt))

    @cached_property
    def kv_read(self) -> Ints | Floats:
        """The KV tokens read (unrounded) summed over the stages: token-iterations."""
        return self.layout.tokens(self._work(1, self.prefix))

    @cached_property
    def prefilled(self) -> Ints:
        """Prompt tokens prefilled over a prompt's life: l behind the prefix, or 0 where the replica only decodes."""
        return np.where(self.prefill_stages > 0, self.prompt, 0)

    @cached_property
    def tokens(self) -> Ints:
        """Tokens computed over a prompt's life: those prefilled, and one at each decode stage."""
        return self.prefilled + self.decode

    @cached_property
    def peak(self) -> Ints:
        """The most KV a prompt holds, which is that of its last stage, in whole blocks: tokens, rounded up to whole."""
        most: Ints = self.layout.whole(self.layout.held(self.prompt + self.decode))
        return most

    def whole_held(self, counts: Floats) -> int:
        """sum_j n_j w_j for `counts` n of prompts in every stage, shape (J,): whole tokens, rounded up."""
        return int(self.layout.whole(counts @ self.kv_units))

    def time_work(self, iteration_time: IterationTime) -> Floats:
        """c, the iteration time one prompt adds over its life, by piece: shape (pieces, J), seconds."""
        per_token = iteration_time.coefficients[:, 1:]
        with np.errstate(over="ignore"):
            return bounded(per_token @ np.stack([self.kv_read, self.prefilled, self.stages]).astype(np.float64))

    @cached_property
    def most_by_age(self) -> Ints:
        """m_a, the largest KV that any type holds at its stage a: units, shape (the most stages,)."""
        held = np.zeros(self.stages.max(), dtype=np.int64)
        order = np.argsort(self.stages)
        for j in order[self._undominated(order)]:
            kv = self.units_held(int(j))
            np.maximum(held[: len(kv)], kv, out=held[: len(kv)])
        return held

    def _undominated(self, order: Ints) -> Ints:
        """Places in `order` of types that no type with a longer prompt lives longer than."""
        prompt, stages = self.prompt[order], self.stages[order]
        longest_after = np.maximum.accumulate(prompt[::-1])[::-1]
        after = np.concatenate([longest_after[1:], np.zeros(1, dtype=np.int64)])
        last_of_kind = np.concatenate([stages[1:] != stages[:-1], np.ones(1, dtype=bool)])
        return np.flatnonzero((prompt > after) | (last_of_kind & (prompt >= after)))

    def stage_read(self, j: int) -> Ints | Floats:
        """KV tokens type j reads at each of its stages, unrounded: shape (S_j,)."""
        return self.layout.tokens(self.units_read(j))

    def stage_kv(self, j: int) -> Ints | Floats:
        """KV tokens type j holds at each of its stages, in whole blocks: shape (S_j,)."""
        return self.layout.tokens(self.units_held(j))

    def units_read(self, j: int) -> Ints:
        """`stage_read` in units of KV, exact: shape (S_j,)."""
        return self.layout.read(self.prefix[j] + self._context(j))

    def units_held(self, j: int) -> Ints:
        """`stage_kv` in units of KV, exact: shape (S_j,)."""
        return self.layout.held(self._context(j))

    def stage_prefill(self, j: int) -> Ints:
        """Prompt tokens type j prefills at each of its stages: shape (S_j,)."""
        return np.concatenate([np.diff(self._done(j), prepend=0), np.zeros(self.decode[j], dtype=np.int64)])

    def _context(self, j: int) -> Ints:
        """Tokens of the context of type j, behind its cached prefix, at each of its stages."""
        return np.concatenate([self._done(j), np.arange(1, self.decode[j] + 1) + self.prompt[j]])

    def _done(self, j: int) -> Ints:
        """Prompt tokens of type j prefilled by the end of each prefill stage."""
        done: Ints = np.minimum(np.arange(1, self.prefill_stages[j] + 1) * self.chunk[j], self.prompt[j])
        return done

    def _work(self, block: int, before: Ints) -> Ints:
        """The units of KV over all stages, in blocks of so many tokens, with so many tokens before those of the prompt:
        layers of each kind, and the state.
        """
        layout = self.layout
        work = self._layer_work(block, before, layout.window)
        if layout.everywhere:
            work = layout.windowed * work + layout.everywhere * self._layer_work(block, before, UNLIMITED)
        return work + layout.unit * layout.state * self.stages if layout.state else work

    def _layer_work(self, block: int, before: Ints, window: int) -> Ints:
        """The tokens over all stages in layers with an attention window."""
        start, final = before + self.prompt, before + self.prompt + self.decode
        prompt = np.minimum(start, window)
        growing = _rounded_sum(np.minimum(final, window), block) - _rounded_sum(prompt, block)
        full = np.maximum(final - np.maximum(start, window), 0)  # decode stages beyond the window
        at_window = whole_blocks(np.minimum(final, window), block)
        last = np.where(self.prefill_stages > 0, whole_blocks(prompt, block), 0)
        work: Ints = growing + full * at_window + last + self._chunks_before_last(block, before, window)
        return work

    def _chunks_before_last(self, block: int, before: Ints, window: int) -> Ints:
        full = np.maximum(self.prefill_stages - 1, 0)
        if not full.any():
            return full
        total = np.zeros_like(full)
        for tokens in np.unique(before).tolist():
            mine = before == tokens
            done = np.arange(1, full[mine].max() + 1) * self.chunk.max()
            held = whole_blocks(np.minimum(tokens + done, window), block)
            total[mine] = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(held)])[full[mine]]
        return total


def stage_profile(workload: Workload, replica: Replica) -> StageProfile:
    """Return the stages of every type of the workload on the replica.

    Raises InputError when a type has no stage at all: one output token, made by a prefill that happens elsewhere; and
    when its prompt and output are longer than the replica's `max_model_len`.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=100, iteration_time=IterationTime(1.0, 0.0), prefill=4)
    >>> profile = stage_profile(Workload([PromptType(10, 2, 1.0)]), replica)
    >>> profile.stage_kv(0).tolist(), profile.stage_prefill(0).tolist(), profile.kv_work.tolist()
    ([4, 8, 10, 11, 12], [4, 4, 2, 0, 0], [45])
    """
    prompt, output = workload.prompt_tokens - workload.cached_prefix, workload.output_tokens
    in_prefill = replica.first_token == "prefill"
    decode = output - 1 if in_prefill else output
    if replica.prefill == DECODE_ONLY:
        chunk, prefill_stages = prompt, np.zeros_like(prompt)
    else:
        most = replica.prefill_chunk
        chunk = prompt if most is None else np.minimum(prompt, most) if replica.prefill == WHOLE else (
            np.full_like(prompt, most))
        prefill_stages = -(-prompt // chunk)
    _refuse_without_stages(workload, prefill_stages + decode)
    _refuse_too_long(workload, replica.max_model_len)
    first = prefill_stages - 1 if in_prefill else prefill_stages
    return StageProfile(prompt, workload.cached_prefix, output, decode, prefill_stages, chunk, first, replica.layout)


def _refuse_without_stages(workload: Workload, stages: Ints) -> None:
    for j in np.flatnonzero(stages == 0)[:1]:
        requirement = 'at least 2 tokens where prefill is "decode-only" and makes the first token'
        raise InputError("output_tokens", requirement, int(workload.output_tokens[j]),
                         f'prompt type "{workload.names[j]}"')


def _refuse_too_long(workload: Workload, longest: int | None) -> None:
    if longest is None:
        return
    tokens = workload.prompt_tokens + workload.output_tokens
    for j in np.flatnonzero(tokens > longest)[:1]:
        raise InputError("prompt_tokens + output_tokens", f"at most {longest:,}, the replica's max_model_len",
                         int(tokens[j]), f'prompt type "{workload.names[j]}"')


def _rounded_sum(last: Ints, block: int) -> Ints:
    """sum_{m=1}^{last} of m rounded up to whole blocks."""
    blocks, rest = np.divmod(last, block)
    total: Ints = block * (block * (blocks * (blocks + 1) // 2) + rest * (blocks + 1))
    return total
