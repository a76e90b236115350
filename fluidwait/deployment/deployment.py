"""A deployment: the workload, the replica and the target that a TOML file describes.

Numbers in the file take precedence over the catalogue: `kv_capacity` over the capacity, a [replica.iteration_time]
table over the times, of the named model and GPU. A file that cannot be used is a `FileError`, one line.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from fluid.errors import FileError, InputError, one_of, probability, real
from fluid.hardware.catalogue import find_gpu, find_model
from fluid.hardware.huggingface import model_from_config
from fluid.hardware.model import Model
from fluid.hardware.placement import Placement
from fluid.replica import IterationTime, Replica
from fluid.traces.trace import read_trace
from fluid.workload import Workload
from fluidwait.deployment.mix import Mix, trace_mix
from fluidwait.deployment.read_workload import read_mix, read_predictor, with_windows
from fluidwait.deployment.schema import ChunkTable, DeploymentTable, IterationTimeTable, LineTable, ReplicaTable
from fluidwait.deployment.timing import KERNELS, Timing, by_kernels, by_law, timed
from fluidwait.deployment.toml import check, found, keys_of, read_bytes, read_toml
from fluidwait.progress import reading
from verification.traffic.predicted_lengths import Predictor, confusion, seen_workload
from verification.traffic.processes import Predicted, Traffic

EMBEDDED = "embedded"
ITERATION_TIME = "replica.iteration_time"  # the table, as messages name it
TRACE_ENDINGS = (".csv", ".jsonl", ".json")
PLACEMENT_KEYS = ("tensor_parallel", "memory_fraction", "activation_memory", "kv_dtype", "weight_dtype", "engine")
CATALOGUE_KEYS = (*PLACEMENT_KEYS, "times")


@dataclass(frozen=True)
class Deployment:
    """What a deployment file says, checked.

    `horizon` is in seconds; `lengths` is what a policy may see on arrival, "known", "predicted" or "unknown" output
    lengths; `predictor` is the model of the error of predicted ones; `placement` is the model on its GPUs where the
    file names them, `timing` where the iteration time comes from; `source` is the file's name ("embedded" for
    the built-in one), `digest` the SHA-256 of its bytes.
    """

    mix: Mix
    replica: Replica
    horizon: float = 3600.0
    overflow_probability: float = 1e-3
    lengths: str = "known"
    predictor: Predictor | None = None
    placement: Placement | None = None
    timing: Timing | None = field(default=None, compare=False)
    source: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizon", real("horizon", self.horizon, unit="seconds"))
        object.__setattr__(self, "overflow_probability", probability("overflow_probability", self.overflow_probability))
        one_of("lengths", self.lengths, ("known", "predicted", "unknown"))

    @property
    def workload(self) -> Workload:
        """The prompt types and their rates."""
        return self.mix.workload

    @cached_property
    def seen(self) -> Workload:
        """The prompt types, each at the rate at which requests are taken for it."""
        return self.workload if self.predictor is None else seen_workload(self.workload, self.predictor)

    @cached_property
    def taken_for_shorter(self) -> float:
        """The share of requests that are taken for a type with a shorter output, and then outlive it."""
        if self.predictor is None or self.predictor.never_short:
            return 0.0
        chances = confusion(self.workload, self.predictor).tocoo()
        own, other = chances.coords
        shorter = self.workload.output_tokens[other] < self.workload.output_tokens[own]
        return float((self.workload.rates[own] * chances.data)[shorter].sum() / self.workload.rate)

    @property
    def traffic(self) -> Traffic:
        """How requests arrive, and the type that each is taken for."""
        return self.mix.traffic if self.predictor is None else Predicted(self.predictor, self.mix.traffic)

    @property
    def rate(self) -> float:
        """Requests/s of the whole mix; over a long time, where rates change."""
        return self.mix.rate

    def at(self, rate: float) -> Deployment:
        """The same mix on the same replica at another total rate (requests/s)."""
        return replace(self, mix=self.mix.at(rate, self.replica))


def load(path: str | Path) -> Deployment:
    """Read the deployment file at `path`; raises FileError, one line, for anything that cannot be used.

    A trace (a name in .csv, .jsonl, .json, with or without .gz) is served by the replica of the built-in deployment.
    """
    path = Path(path)
    if path.name.lower().removesuffix(".gz").endswith(TRACE_ENDINGS):
        return _serving(path)
    return parse(read_bytes(path), str(path), path.parent)


def deployment_of(file: Path | None) -> Deployment:
    """The deployment of a command: that of its file, or the built-in one."""
    return embedded() if file is None else load(file)


def _serving(path: Path) -> Deployment:
    builtin = embedded()
    with reading(str(path)) as progress:
        trace = read_trace(path, progress=progress)
    mix = trace_mix(trace, builtin.replica)
    timing = by_law(builtin.placement, mix.workload) if builtin.placement else builtin.timing
    replica = timed(builtin.replica, timing) if timing else builtin.replica
    return replace(builtin, mix=mix, replica=replica, timing=timing, source=str(path), digest=trace.digest)


def embedded() -> Deployment:
    """The built-in deployment: a mix of short requests for Llama-2-7B on an A100-80GB.

    >>> embedded().workload.names
    ('chat', 'retrieval', 'classify')
    """
    return parse(embedded_text().encode(), EMBEDDED)


def embedded_text() -> str:
    """The built-in deployment as the commented file `fluidwait init` writes."""
    return files("fluidwait").joinpath("a100.toml").read_text(encoding="utf-8")


def parse(data: bytes, source: str, folder: Path = Path()) -> Deployment:
    """Make a deployment of the bytes of a file called `source`; paths in it start from `folder`.

    >>> parse(b"[replica]\\nkv_capacty = 9", "mix.toml")
    Traceback (most recent call last):
    fluid.errors.FileError: mix.toml: replica.kv_capacty is not a known key (got 9); did you mean "kv_capacity"?
    """
    tables = check(DeploymentTable, read_toml(data, source), source)
    placement = _placement(tables.replica, source, folder)
    mix, replica = read_mix(tables.workload, _replica(tables.replica, placement, source), source, folder)
    timing = _timing(tables.replica, placement, mix.workload, replica, source)
    replica = timed(replica, timing)
    mix = with_windows(mix, tables.workload, replica, source)
    with keys_of(source, "target"):
        return Deployment(mix, replica, tables.target.horizon, tables.target.overflow_probability,
                          tables.workload.lengths, read_predictor(tables.workload, source), placement, timing, source,
                          hashlib.sha256(data).hexdigest())


def _placement(table: ReplicaTable, source: str, folder: Path) -> Placement | None:
    """The model on its GPUs; None where the file gives numbers only."""
    if table.model is None and table.gpu is None:
        _refuse_catalogue_keys(table, source)
        return None
    for key in ("model", "gpu"):
        if getattr(table, key) is None:
            raise FileError(source, f"replica.{key}", "is missing: model and gpu go together")
    model = _model(str(table.model), source, folder)
    keys = (*PLACEMENT_KEYS, "max_num_seqs", "max_num_batched_tokens", "block")
    given = {key: getattr(table, key) for key in keys if getattr(table, key) is not None}
    with keys_of(source, "replica"):
        return Placement(model, find_gpu(str(table.gpu)), **given)


def _refuse_catalogue_keys(table: ReplicaTable, source: str) -> None:
    for key in CATALOGUE_KEYS:
        if getattr(table, key) is not None:
            raise FileError(source, f"replica.{key}",
                            f"needs replica.model and replica.gpu beside it (got {found(getattr(table, key))})")


def _model(name: str, source: str, folder: Path) -> Model:
    if name.lower().endswith(".json"):
        try:
            return model_from_config(folder / name)
        except InputError as error:
            raise FileError(source, "replica.model", f"cannot be used: {error}") from None
    try:
        return find_model(name)
    except InputError as error:
        raise FileError(source, "replica.model", "must be the path of a Hugging Face config.json, or "
                        f"{error.requirement} (got {found(name)})") from None


def _replica(table: ReplicaTable, placement: Placement | None, source: str) -> Replica:
    time = _iteration_time(table.iteration_time, source)
    prefill = table.prefill.chunk if isinstance(table.prefill, ChunkTable) else table.prefill
    with keys_of(source, "replica"):
        capacity, window, most = table.kv_capacity, table.attention_window, table.max_num_seqs
        if placement is not None:
            capacity = placement.kv_capacity if capacity is None else capacity
            window = placement.attention_window if window is None else window
            time = time or placement.time_by_law().iteration_time
            most = most or placement.limits.max_num_seqs
        if capacity is None:
            raise _missing(source, "kv_capacity", "a whole number of tokens")
        if time is None:
            raise _missing(source, "iteration_time", "a table of seconds")
        return Replica(capacity, time, prefill, table.block, table.first_token, most, window,
                       table.max_num_batched_tokens, _windowed_layers(table, placement), _state(table, placement))


def _windowed_layers(table: ReplicaTable, placement: Placement | None) -> tuple[int, int] | None:
    """The layers that the file says, or those of the model, unless the file gives a window of its own."""
    if table.windowed_layers is not None:
        return table.windowed_layers.windowed, table.windowed_layers.layers
    return None if placement is None or table.attention_window is not None else placement.windowed_layers


def _state(table: ReplicaTable, placement: Placement | None) -> int:
    if table.state is not None:
        return table.state
    return 0 if placement is None else placement.state


def _timing(table: ReplicaTable, placement: Placement | None, workload: Workload, replica: Replica,
            source: str) -> Timing:
    """The iteration time for this mix and where it comes from; `replica` has the one the file gives, if it does."""
    if table.iteration_time is not None:
        return Timing(replica.iteration_time)
    if placement is None:
        raise _missing(source, "iteration_time", "a table of seconds")
    if table.times != KERNELS:
        return by_law(placement, workload)
    with keys_of(source, "replica"):
        return by_kernels(placement, workload, replica)


def _missing(source: str, key: str, requirement: str) -> FileError:
    return FileError(source, f"replica.{key}",
                     f"is missing: it must be {requirement}, unless replica.model and replica.gpu are given")


def _iteration_time(table: IterationTimeTable | None, source: str) -> IterationTime | None:
    if table is None:
        return None
    given: dict[str, Any] = table.model_dump(exclude_none=True, exclude={"pieces"})
    if table.pieces is None:
        return _one_line(given, source)
    if given:
        key = next(iter(given))
        raise FileError(source, f"{ITERATION_TIME}.pieces",
                        f"must stand without {ITERATION_TIME}.{key} (got {found(given[key])})")
    return _largest(table.pieces, source)


def _one_line(given: dict[str, Any], source: str) -> IterationTime:
    for key in ("overhead", "per_kv_token"):
        if key not in given:
            requirement = IterationTimeTable.model_fields[key].description
            raise FileError(source, f"{ITERATION_TIME}.{key}", f"is missing: it must be {requirement}")
    with keys_of(source, ITERATION_TIME):
        return IterationTime(**given)


def _largest(pieces: list[LineTable], source: str) -> IterationTime:
    lines = []
    for i, piece in enumerate(pieces):
        with keys_of(source, f"{ITERATION_TIME}.pieces[{i}]"):
            lines.append(IterationTime(**piece.model_dump()))
    return IterationTime.largest(*lines)
