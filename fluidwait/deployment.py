"""A deployment: the workload, the replica and the target that a TOML file describes.

Numbers in the file win over the catalogue: `kv_capacity` over the capacity, a [replica.iteration_time] table over
the whole roofline of the named model and GPU. What the file cannot be used for is a `FileError`, one line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fluid.catalogue import MODELS, Model, find_gpu, find_model
from fluid.errors import FileError, InputError, one_of, real
from fluid.hardware import Placement, model_from_config
from fluid.profile import stage_profile
from fluid.replica import IterationTime, Replica
from fluid.workload import PromptType, Workload
from fluidwait.files import check, found, read_bytes, read_toml
from fluidwait.schema import ChunkTable, DeploymentTable, IterationTimeTable, ReplicaTable, WorkloadTable

EMBEDDED = "embedded"
CATALOGUE_KEYS = ("tensor_parallel", "memory_fraction", "kv_dtype", "weight_dtype")


@dataclass(frozen=True)
class Deployment:
    """What a deployment file says, checked.

    `horizon` in seconds; `lengths` is what a policy may see on arrival, "known" or "unknown" output lengths;
    `placement` is the model on its GPUs where the file names them; `source` is the file's name ("embedded" for the
    built-in one) and `digest` the SHA-256 of its bytes.
    """

    workload: Workload
    replica: Replica
    horizon: float = 3600.0
    overflow_probability: float = 1e-3
    lengths: str = "known"
    placement: Placement | None = None
    source: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizon", real("horizon", self.horizon, unit="seconds"))
        chance = real("overflow_probability", self.overflow_probability)
        if chance >= 1:
            raise InputError("overflow_probability", "a probability above 0 and below 1", chance)
        object.__setattr__(self, "overflow_probability", chance)
        one_of("lengths", self.lengths, ("known", "unknown"))


def load(path: str | Path) -> Deployment:
    """Read the deployment file at `path`; raises FileError, one line, for anything that cannot be used."""
    path = Path(path)
    return parse(read_bytes(path), str(path), path.parent)


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
    replica = _replica(tables.replica, placement, source)
    workload = _workload(tables.workload, replica, source)
    with _keys(source, "target"):
        return Deployment(workload, replica, tables.target.horizon, tables.target.overflow_probability,
                          tables.workload.lengths, placement, source, hashlib.sha256(data).hexdigest())


@contextmanager
def _keys(source: str, table: str) -> Iterator[None]:
    """Turn an InputError about a field into a FileError about that key of the table."""
    try:
        yield
    except InputError as error:
        place = f" in {error.where}" if error.where.startswith("prompt type") else ""
        key = f"{table}.{error.field}".replace(" ", ".")
        raise FileError(source, key, f"must be {error.requirement} (got {found(error.value)}){place}") from None


def _placement(table: ReplicaTable, source: str, folder: Path) -> Placement | None:
    """The model on its GPUs; None where the file gives numbers only."""
    if table.model is None and table.gpu is None:
        _refuse_catalogue_keys(table, source)
        return None
    for key in ("model", "gpu"):
        if getattr(table, key) is None:
            raise FileError(source, f"replica.{key}", "is missing: model and gpu go together")
    model = _model(str(table.model), source, folder)
    given = {key: getattr(table, key) for key in CATALOGUE_KEYS if getattr(table, key) is not None}
    with _keys(source, "replica"):
        return Placement(model, find_gpu(str(table.gpu)), **given)


def _refuse_catalogue_keys(table: ReplicaTable, source: str) -> None:
    for key in CATALOGUE_KEYS:
        if getattr(table, key) is not None:
            raise FileError(source, f"replica.{key}",
                            f"needs replica.model and replica.gpu beside it (got {found(getattr(table, key))})")


def _model(name: str, source: str, folder: Path) -> Model:
    if not name.lower().endswith(".json"):
        if name.lower() not in MODELS:
            known = ", ".join(MODELS)
            raise FileError(source, "replica.model",
                            f"must be one of {known}, or the path of a Hugging Face config.json (got {found(name)})")
        return find_model(name)
    try:
        return model_from_config(folder / name)
    except InputError as error:
        raise FileError(source, "replica.model", f"cannot be used: {error}") from None


def _replica(table: ReplicaTable, placement: Placement | None, source: str) -> Replica:
    capacity, time = table.kv_capacity, _iteration_time(table.iteration_time, source)
    prefill = table.prefill.chunk if isinstance(table.prefill, ChunkTable) else table.prefill
    with _keys(source, "replica"):
        if placement is not None:
            capacity = placement.kv_capacity if capacity is None else capacity
            time = time or placement.iteration_time
        if capacity is None or time is None:
            key, what = ("kv_capacity", "a whole number of tokens") if capacity is None else (
                "iteration_time", "a table of seconds")
            raise FileError(source, f"replica.{key}",
                            f"is missing: it must be {what}, unless replica.model and replica.gpu are given")
        return Replica(capacity, time, prefill, table.block, table.first_token)


def _iteration_time(table: IterationTimeTable | None, source: str) -> IterationTime | None:
    if table is None:
        return None
    place = "replica.iteration_time"
    given: dict[str, Any] = table.model_dump(exclude_none=True, exclude={"pieces"})
    if table.pieces is None:
        for key in ("overhead", "per_kv_token"):
            if key not in given:
                requirement = IterationTimeTable.model_fields[key].description
                raise FileError(source, f"{place}.{key}", f"is missing: it must be {requirement}")
        with _keys(source, place):
            return IterationTime(**given)
    if given:
        key = next(iter(given))
        raise FileError(source, f"{place}.pieces", f"must stand without {place}.{key} (got {found(given[key])})")
    lines = []
    for i, piece in enumerate(table.pieces):
        with _keys(source, f"{place}.pieces[{i}]"):
            lines.append(IterationTime(**piece.model_dump()))
    return IterationTime.largest(*lines)


def _workload(table: WorkloadTable, replica: Replica, source: str) -> Workload:
    if table.trace is not None:
        raise FileError(source, "workload.trace", "is not usable yet: reading traces comes with a later version; "
                        f"give [[workload.type]] tables (got {found(table.trace)})")
    if table.type is None:
        raise FileError(source, "workload.type", "is missing: it must be at least one [[workload.type]] table")
    if table.rate is not None:
        raise FileError(source, "workload.rate",
                        f"must go with workload.trace; each workload.type has a rate of its own (got {table.rate})")
    types = []
    for i, each in enumerate(table.type):
        with _keys(source, f"workload.type[{i}]"):
            types.append(PromptType(each.prompt_tokens, each.output_tokens, each.rate, each.name))
            stage_profile(Workload(types[-1:]), replica)
    workload = Workload(types)
    _refuse_duplicates(workload.names, source)
    return workload


def _refuse_duplicates(names: tuple[str, ...], source: str) -> None:
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) < i:
            raise FileError(source, f"workload.type[{i}].name",
                            f"must differ from that of workload.type[{first[name]}] (got {found(name)})")
