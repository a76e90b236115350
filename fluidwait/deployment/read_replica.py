"""Reading the [replica] table of a deployment file: a model on its GPUs, or numbers, which win; and its times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fluid.errors import FileError, InputError
from fluid.hardware.catalogue import find_gpu, find_model
from fluid.hardware.huggingface import model_from_config
from fluid.hardware.model import Model
from fluid.hardware.placement import Placement
from fluid.replica import IterationTime, Replica
from fluid.workload import Workload
from fluidwait.deployment.schema import ChunkTable, IterationTimeTable, LineTable, ReplicaTable
from fluidwait.deployment.timing import KERNELS, Timing, by_kernels, by_law
from fluidwait.deployment.toml import found, keys_of

ITERATION_TIME = "replica.iteration_time"  # the table, as messages name it
PLACEMENT_KEYS = ("tensor_parallel", "memory_fraction", "activation_memory", "kv_dtype", "weight_dtype", "engine")
CATALOGUE_KEYS = (*PLACEMENT_KEYS, "times")


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


def read_replica(table: ReplicaTable, placement: Placement | None, source: str) -> Replica:
    """The replica, its times (unless the file gives them) for prompts of a typical length; see `read_timing`."""
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
                       table.max_num_batched_tokens, _windowed_layers(table, placement), _state(table, placement),
                       table.max_model_len)


def _windowed_layers(table: ReplicaTable, placement: Placement | None) -> tuple[int, int] | None:
    """The layers that the file says, or those of the model, unless the file gives a window of its own."""
    if table.windowed_layers is not None:
        return table.windowed_layers.windowed, table.windowed_layers.layers
    return None if placement is None or table.attention_window is not None else placement.windowed_layers


def _state(table: ReplicaTable, placement: Placement | None) -> int:
    if table.state is not None:
        return table.state
    return 0 if placement is None else placement.state


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
