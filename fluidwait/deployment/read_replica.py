"""Reading the [replica] table of a deployment file: a model on its GPUs, or numbers, which win; and its times."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from fluid.errors import FileError, InputError
from fluid.hardware.catalogue import find_gpu
from fluid.hardware.huggingface import model_named
from fluid.hardware.model import Model
from fluid.hardware.placement import Placement
from fluid.replica import IterationTime, Replica
from fluid.workload import Workload
from fluidwait.deployment.read_power import read_power
from fluidwait.deployment.schema import ChunkTable, IterationTimeTable, LineTable, ReplicaTable
from fluidwait.deployment.timing import KERNELS, Timing, by_kernels, by_law
from fluidwait.deployment.toml import found, keys_of

ITERATION_TIME = "replica.iteration_time"  # the table, as messages name it
PLACEMENT_KEYS = ("tensor_parallel", "memory_fraction", "activation_memory", "kv_dtype", "weight_dtype", "engine")
CATALOGUE_KEYS = (*PLACEMENT_KEYS, "times")
REPLICA_KEYS = tuple(each.name for each in fields(Replica))


def read_placement(table: ReplicaTable, source: str, folder: Path) -> Placement | None:
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
    try:
        return model_named(name, folder)
    except InputError as error:
        problem = (f"cannot be used: {error}" if name.lower().endswith(".json")
                   else f"must be {error.requirement} (got {found(name)})")
        raise FileError(source, "replica.model", problem) from None


def read_replica(table: ReplicaTable, placement: Placement | None, source: str) -> Replica:
    """The replica, its times (unless the file gives them) for prompts of a typical length; see `read_timing`."""
    given: dict[str, Any] = {key: getattr(table, key) for key in REPLICA_KEYS}
    given["iteration_time"] = _iteration_time(table.iteration_time, source)
    given["power"] = read_power(table, placement, source)
    if isinstance(table.prefill, ChunkTable):
        given["prefill"] = table.prefill.chunk
    if table.windowed_layers is not None:
        given["windowed_layers"] = table.windowed_layers.windowed, table.windowed_layers.layers
    with keys_of(source, "replica"):
        if placement is not None:
            return placement.replica(**given)
        for key, requirement in (("kv_capacity", "a whole number of tokens"), ("iteration_time", "a table of seconds")):
            if given[key] is None:
                raise _missing(source, key, requirement)
        return Replica(**{key: value for key, value in given.items() if value is not None})


def read_timing(table: ReplicaTable, placement: Placement | None, workload: Workload, replica: Replica,
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
