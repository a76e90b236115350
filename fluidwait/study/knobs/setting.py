"""A setting of the engine's flags: the replica and the rule it makes, and the lines to paste.

The flags cost memory as well as time. vLLM samples once for `max_num_seqs` sequences and runs `max_num_batched_tokens`
tokens when it starts, and gives the KV cache what is left (`fluid.hardware.memory`): where the capacity comes from the
catalogue, a setting has its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fluid import Replica
from fluidwait.deployment.deployment import Deployment
from verification import VllmV1
from verification.rules.vllm_v1 import as_it_comes

NAMES = {"max_num_seqs": "--max-num-seqs", "max_num_batched_tokens": "--max-num-batched-tokens",
         "watermark": "--watermark", "memory_fraction": "--gpu-memory-utilization"}


@dataclass(frozen=True)
class Setting:
    """Flags of vLLM; `max_num_seqs` is None without a cap, `memory_fraction` where the file gives no model and GPU."""

    max_num_seqs: int | None
    max_num_batched_tokens: int
    watermark: float = 0.0
    memory_fraction: float | None = None

    @classmethod
    def of(cls, deployment: Deployment) -> Setting:
        """The engine as it comes, with what the deployment sets."""
        replica, placed = deployment.replica, deployment.placement
        own = None if placed is None or not _from_catalogue(deployment) else placed.memory_fraction
        return cls(replica.max_num_seqs, as_it_comes(replica).max_num_batched_tokens, memory_fraction=own)

    @property
    def possible(self) -> bool:
        """Whether the engine takes it: no more sequences than tokens."""
        return self.max_num_seqs is None or self.max_num_seqs <= self.max_num_batched_tokens

    @property
    def policy(self) -> VllmV1:
        """The rule of the engine."""
        return VllmV1(self.max_num_batched_tokens, watermark=self.watermark)

    def replica(self, deployment: Deployment) -> Replica:
        """The replica with these flags."""
        own, tokens = deployment.replica, self.max_num_batched_tokens
        chunk = min(own.prefill, tokens) if isinstance(own.prefill, int) else own.prefill
        return replace(own, prefill=chunk, max_num_seqs=self.max_num_seqs, max_num_batched_tokens=tokens,
                       kv_capacity=own.kv_capacity + self._more_cache(deployment))

    def _more_cache(self, deployment: Deployment) -> int:
        """KV tokens that these flags leave beyond what the deployment has."""
        placed = deployment.placement
        if placed is None or self.memory_fraction is None:
            return 0
        there = replace(placed, max_num_seqs=self.max_num_seqs, memory_fraction=self.memory_fraction,
                        max_num_batched_tokens=self.max_num_batched_tokens)
        return there.kv_capacity - placed.kv_capacity

    def changes(self, own: Setting) -> dict[str, int | float]:
        """The flags that differ from those of another setting."""
        return {NAMES[name]: getattr(self, name) for name in NAMES
                if getattr(self, name) != getattr(own, name) and getattr(self, name) is not None}

    def vllm(self, gpus: int = 1) -> str:
        """The command line of vLLM."""
        parts = [] if self.max_num_seqs is None else [f"--max-num-seqs {self.max_num_seqs}"]
        parts.append(f"--max-num-batched-tokens {self.max_num_batched_tokens}")
        parts += [] if self.memory_fraction is None else [f"--gpu-memory-utilization {self.memory_fraction:g}"]
        parts += [f"--watermark {self.watermark:g}"] if self.watermark else []
        parts += [f"--tensor-parallel-size {gpus}"] if gpus > 1 else []
        return " ".join(["vllm serve MODEL", *parts])

    def sglang(self, kv_capacity: int, gpus: int = 1) -> str:
        """The command line of SGLang that bounds the same: its cache is given in tokens."""
        parts = [] if self.max_num_seqs is None else [f"--max-running-requests {self.max_num_seqs}"]
        parts += [f"--chunked-prefill-size {self.max_num_batched_tokens}", f"--max-total-tokens {kv_capacity}"]
        parts += [f"--tp {gpus}"] if gpus > 1 else []
        return " ".join(["python -m sglang.launch_server --model-path MODEL", *parts])


def _from_catalogue(deployment: Deployment) -> bool:
    """Whether the KV capacity is what the catalogue says, shared prefixes apart, so that flags change it."""
    placed = deployment.placement
    return placed is not None and placed.kv_capacity == deployment.replica.kv_capacity + deployment.mix.reserved
