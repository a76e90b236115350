"""The same questions to a planner of others, to this package, and to the simulator, on the peer's own step times.

    python3.11 -m venv peer && peer/bin/pip install '.[kernels]' aiconfigurator==0.12.0
    peer/bin/python benchmarks/peer_planner.py [--questions 1 4] [--replications 10] [--horizon 1800]

The peer is NVIDIA's AIConfigurator (Apache-2.0), in an environment of its own; vLLM, 16 bits, one engine that does
prefills and decodes. It searches tensor parallel degrees and batches b for the most tokens a second and GPU with TTFT
and TPOT within targets: with steps t_mix of c prompt tokens beside b - ceil(c/l) decodes, and t_gen of b decodes,

    TPOT = (M t_mix + (o - M) t_gen) / o,  M = ceil(l b / c)         rate = min(b / (o TPOT), b / (TTFT + (o - 1) TPOT))

TTFT being a prefill step and 0.8 ms a layer, times 1 + log2(b)/8, and b (l + o) KV tokens having to fit. It knows no
arrivals and one pair of lengths.

For each question: that answer; then, with the peer's steps as this package fits them (`replica.times = "kernels"`) and
with the law, on the same GPUs and share of the memory, the fluid edge, what nobody exceeds, and the fluid rate up to
the TPOT; a closed loop of b requests, fluid and simulated; what Poisson arrivals at the peer's rate, and at the share
of 100 requests/s that each of its replicas gets, do with b sequences at most; and the capacity with the targets, TTFT
as a 99th percentile (vLLM V1's rule and default limits). `benchmarks/peer_measured.py` sets both beside an engine.
"""

from __future__ import annotations

import argparse
import logging
import math
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fluid import Lengths, PromptType, Replica, Workload, solve, solve_users
from fluid.errors import InputError
from fluid.hardware.catalogue import find_gpu, find_model
from fluid.hardware.kernel_tables import SYSTEMS
from fluid.hardware.placement import Placement
from fluidwait.deployment.timing import Timing, by_kernels, by_law, timed
from verification import Bound, ClosedLoop, Effort, Targets, Verification, VllmV1, capacity, verify

try:
    import aiconfigurator
    from aiconfigurator.cli.api import cli_default, cli_estimate
    from aiconfigurator_core.sdk.memory import estimate_kv_cache
except ImportError:
    raise SystemExit("the peer is missing: install it in an environment of its own, "
                     "pip install '.[kernels]' aiconfigurator==0.12.0") from None

DEMAND = 100.0  # requests/s, of all replicas
HUB = {"llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B", "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
       "qwen3-32b": "Qwen/Qwen3-32B"}
SHARE = {"a100-80gb": 0.90, "h100-80gb": 0.92}  # of the memory: the default of the vLLM of the peer's tables
DEGREES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Question:
    """A model, a GPU, tokens of prompts and responses, and targets in seconds."""

    model: str
    gpu: str
    prompt: int
    output: int
    tpot: float
    ttft: float = 2.0

    @property
    def text(self) -> str:
        return (f"{self.model} on {self.gpu}, {self.prompt} + {self.output} tokens, TTFT {self.ttft:g} s, "
                f"TPOT {1000 * self.tpot:g} ms")

    @property
    def mix(self) -> Workload:
        return Workload([PromptType(self.prompt, self.output, 1.0)])

    @property
    def varied(self) -> Workload:
        """The same means: log-normal prompts with a coefficient of variation of 1, geometric responses."""
        return Workload.from_lengths(Lengths.lognormal(mean=self.prompt, cv=1.0, max=8 * self.prompt),
                                     Lengths.geometric(mean=self.output, max=8 * self.output), 1.0, bins=400)

    @property
    def targets(self) -> Targets:
        return Targets((Bound("ttft_p99", self.ttft), Bound("tpot", self.tpot)))


QUESTIONS = (
    Question("llama-3.1-8b", "h100-80gb", 2000, 400, 0.050),
    Question("llama-3.1-8b", "h100-80gb", 2000, 400, 0.020),
    Question("llama-3.1-8b", "a100-80gb", 1000, 500, 0.050),
    Question("qwen3-32b", "h100-80gb", 4096, 512, 0.050),
    Question("llama-3.1-70b", "h100-80gb", 2000, 300, 0.050),
)


@dataclass(frozen=True)
class Answer:
    """What the peer says: GPUs of a replica, its batch, prompt tokens of a step, requests/s, seconds; of which vLLM."""

    gpus: int
    batch: int
    chunk: int
    rate: float
    ttft: float
    tpot: float
    version: str
    apart: float | None
    degrees: str

    @property
    def replicas(self) -> int:
        return math.ceil(DEMAND / self.rate)


def ask_peer(question: Question) -> Answer:
    """Its best aggregated replica; `apart` is its best rate for each GPU with prefill and decode apart."""
    found = cli_default(HUB[question.model], 8, SYSTEMS[question.gpu], backend="vllm", isl=question.prompt,
                        osl=question.output, ttft=1000 * question.ttft, tpot=1000 * question.tpot, strict_sla=True)
    table, apart = found.best_configs["agg"], found.best_configs.get("disagg")
    best, each = table.iloc[0], table.sort_values("tp")
    return Answer(int(best["tp"]), int(best["bs"]), int(best["ctx_tokens"]), float(best["seq/s"]),
                  best["ttft"] / 1000, best["tpot"] / 1000, str(best["version"]),
                  None if apart is None or apart.empty else float(apart.iloc[0]["seq/s/gpu"]),
                  ", ".join(f"TP {row.tp} {row['seq/s/gpu']:.3f}/s" for _, row in each.iterrows()))


def peer_at(question: Question, gpus: int, batch: int, chunk: int | None = None) -> Any:
    """Its estimate of one batch."""
    return cli_estimate(HUB[question.model], SYSTEMS[question.gpu], backend_name="vllm", isl=question.prompt,
                        osl=question.output, batch_size=batch, ctx_tokens=chunk or question.prompt, tp_size=gpus)


@dataclass(frozen=True)
class Machine:
    """Our replica for a question on so many GPUs, `share` of their memory, with each of the two iteration times."""

    question: Question
    gpus: int
    share: float

    @cached_property
    def placement(self) -> Placement:
        bare = Placement(find_model(self.question.model), find_gpu(self.question.gpu), self.gpus, block=16,
                         memory_fraction=self.share)
        return replace(bare, max_num_batched_tokens=bare.limits.max_num_batched_tokens)

    @cached_property
    def bare(self) -> Replica:
        return self.placement.replica(float(self.question.prompt), first_token="prefill")

    @cached_property
    def law(self) -> Timing:
        return by_law(self.placement, self.question.mix)

    @cached_property
    def kernels(self) -> Timing:
        return by_kernels(self.placement, self.question.mix, self.bare)

    def replica(self, timing: Timing) -> Replica:
        return timed(self.bare, timing)


def within(question: Question, replica: Replica) -> float:
    """The fluid rate up to which the replica is stable and its iteration no longer than the TPOT, requests/s."""
    low, high = 0.0, solve(question.mix, replica).max_rate_scale
    for _ in range(40):
        rate = (low + high) / 2
        time = solve(question.mix.scaled(rate), replica).iteration_time
        low, high = (rate, high) if time is not None and time <= question.tpot else (low, rate)
    return low


def degrees(question: Question, law: bool) -> str:
    """The fluid rate with the TPOT for each GPU, by tensor parallel degree, where the model fits."""
    told = []
    for gpus in DEGREES:
        machine = Machine(question, gpus, SHARE[question.gpu])
        try:
            rate = within(question, machine.replica(machine.law if law else machine.kernels))
        except InputError:
            continue
        told.append(f"TP {gpus} {rate / gpus:.3f}/s")
    return ", ".join(told)


def beside_steps(question: Question, answer: Answer, machine: Machine) -> str:
    """How far our line is from the peer's two steps, and its KV cache from ours."""
    steps = peer_at(question, answer.gpus, answer.batch, answer.chunk).per_ops_data["scheduling"]
    context = question.prompt + question.output / 2
    prompts = math.ceil(answer.chunk / question.prompt)
    batches = {"t_gen": (answer.batch * context, 0, answer.batch),
               "t_mix": ((answer.batch - prompts) * context, answer.chunk, answer.batch)}
    told = []
    for name, seconds in (("t_gen", steps["genonly_step_latency_ms"] / 1000),
                          ("t_mix", steps["mix_step_latency_ms"] / 1000)):
        fitted, law = (timing.iteration_time(*batches[name]) for timing in (machine.kernels, machine.law))
        told.append(f"{name} {1000 * seconds:.1f} ms (fitted {fitted / seconds - 1:+.1%}, "
                    f"law {law / seconds - 1:+.1%})")
    cache = estimate_kv_cache(HUB[question.model], SYSTEMS[question.gpu], "vllm", answer.version,
                              max_num_tokens=machine.placement.limits.max_num_batched_tokens,
                              max_batch_size=machine.placement.limits.max_num_seqs, tp_size=answer.gpus,
                              memory_fraction_kind="of_total", memory_fraction_value=machine.placement.memory_fraction)
    return f"{', '.join(told)}; KV {cache['total_kv_size_tokens']:,}, ours {machine.bare.kv_capacity:,}"


def closed(question: Question, replica: Replica, users: int, effort: Effort) -> Verification:
    """So many requests at a time, simulated; their lengths are fixed, and replications hardly differ."""
    return verify(VllmV1(), question.mix, replica, horizon=effort.horizon, replications=2, seed=effort.seed,
                  traffic=ClosedLoop(users, 0.0))


def terms(timing: Timing) -> str:
    """The lines of an iteration time."""
    return ", or ".join(f"{1000 * each.overhead:.2f} ms, {1e9 * each.per_kv_token:.0f} ns a KV token, "
                        f"{1e6 * each.per_prefill_token:.1f} us a prompt token, {1e6 * each.per_sequence:.0f} us a "
                        "sequence" for each in timing.iteration_time.pieces)


def loop(question: Question, replica: Replica, users: int, effort: Effort) -> str:
    """A closed loop of so many requests, in the fluid limit and simulated."""
    fluid = solve_users(question.mix, replica, users, 0.0).rate
    seen = closed(question, replica, users, effort)
    return (f"closed loop of {users}: fluid {fluid:.3f}/s, simulated {seen.throughput.mean / question.output:.3f}/s, "
            f"TTFT {seen.delays['ttft'].mean:.3f} s, TPOT {1000 * seen.delays['tpot'].mean:.1f} ms")


def advised(question: Question, replica: Replica, answer: Answer, effort: Effort) -> str:
    """Poisson arrivals at the peer's rate, and at its fleet's share of the demand, with its batch as `max_num_seqs`."""
    told = []
    for rate in (answer.rate, DEMAND / answer.replicas):
        seen = verify(VllmV1(), question.mix.scaled(rate), replace(replica, max_num_seqs=answer.batch),
                      horizon=effort.horizon, replications=effort.replications, seed=effort.seed)
        told.append(f"{rate:.3f}/s {seen.verdict.answer}, TTFT mean {seen.delays['ttft'].mean:.2f} s, p99 "
                    f"{seen.delays['ttft_p99'].mean:.1f} s")
    return f"Poisson, {answer.batch} sequences at most: {'; '.join(told)}"


def carried(question: Question, mix: Workload, replica: Replica, effort: Effort) -> str:
    """The capacity with the targets, an interval, and the replicas that its lower end takes."""
    found = capacity(VllmV1(), mix, replica, bound=question.targets, effort=effort)
    if found.low is None:
        return found.reason
    return (f"capacity {found.low:.3f} to {found.high:.3f}/s, {found.binds or 'the edge'} binds, "
            f"{math.ceil(DEMAND / found.low)} replicas for {DEMAND:g}/s")


def answer_all(question: Question, effort: Effort, varied: bool) -> None:
    """Print the answers to one question."""
    print(f"\n{question.text}", flush=True)
    answer = ask_peer(question)
    machine = Machine(question, answer.gpus, SHARE[question.gpu])
    apart = "no answer" if answer.apart is None else f"{answer.apart:.3f}/s a GPU"
    print(f"  peer: TP {answer.gpus}, batch {answer.batch}: {answer.rate:.3f}/s, TTFT {answer.ttft:.3f} s, TPOT "
          f"{1000 * answer.tpot:.1f} ms, {answer.replicas} replicas for {DEMAND:g}/s; apart {apart} (its vLLM "
          f"{answer.version})\n  {beside_steps(question, answer, machine)}")
    for name, timing in (("the peer's steps", machine.kernels), ("the law", machine.law)):
        replica = machine.replica(timing)
        fluid = solve(question.mix, replica)
        interval = timing.rate_interval(question.mix, replica)
        print(f"  by {name}: {terms(timing)}\n"
              f"    edge {fluid.max_rate_scale:.3f}/s{_interval(interval)}, nobody more than "
              f"{fluid.impossible.anyone.scale:.3f}/s, with the TPOT {within(question, replica):.3f}/s\n"
              f"    {loop(question, replica, answer.batch, effort)}\n"
              f"    {advised(question, replica, answer, effort)}\n"
              f"    {carried(question, question.mix, replica, effort)}", flush=True)
        if varied:
            print(f"    lengths of the same means: {carried(question, question.varied, replica, effort)}", flush=True)
    print(f"  for each GPU: peer {answer.degrees}\n    fluid with the TPOT, by the peer's steps "
          f"{degrees(question, False)}\n    by the law {degrees(question, True)}", flush=True)


def _interval(interval: tuple[float, float | None] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.2f}, {interval[1] or math.inf:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=range(1, len(QUESTIONS) + 1))
    parser.add_argument("--replications", type=int, default=10)
    parser.add_argument("--horizon", type=float, default=1800.0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"aiconfigurator {aiconfigurator.__version__}")
    for number in options.questions:
        answer_all(QUESTIONS[number - 1], Effort(options.horizon, options.replications), varied=number == 1)


if __name__ == "__main__":
    main()
