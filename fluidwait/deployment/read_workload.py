"""Reading the [workload] table of a deployment file: prompt types or a trace, and how requests arrive over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from fluid.errors import FileError, InputError, real, share_meant, whole, within
from fluid.lengths.pairs import LengthPairs
from fluid.replica import Replica
from fluid.shared_prefixes import SharedPrefix, share_prefixes
from fluid.stages import stage_profile
from fluid.traces.trace import Trace
from fluid.varying_rates import Schedule
from fluid.workload import PromptType, Workload
from fluidwait.deployment.mix import Mix, Stated, arriving, scheduled
from fluidwait.deployment.read_lengths import read_pairs
from fluidwait.deployment.schema import PredictionTable, TypeTable, WindowTable, WorkloadTable
from fluidwait.deployment.toml import found, keys_of
from fluidwait.deployment.trace_keys import TraceKeys, in_words_of_the_file
from verification.traffic.arrivals import MOST_REQUESTS
from verification.traffic.batch import Batch
from verification.traffic.bursts import LEAST_BURSTINESS, MOST_BURSTINESS, Bursts, GammaBursts, OnOff
from verification.traffic.predicted_lengths import LogNormalError, Misclassified, Overestimate, Predictor
from verification.traffic.processes import POISSON, Poisson, Replay

PREDICTION = "workload.prediction"  # the table, as messages name it


def read_mix(table: WorkloadTable, replica: Replica, source: str, folder: Path) -> tuple[Mix, Replica]:
    """The mix of a [workload] table, and the replica with the cache that shared prefixes leave.

    Raises FileError, one line, for anything that cannot be used.
    """
    if table.trace is None:
        if table.arrivals == "trace":
            raise FileError(source, "workload.arrivals", 'must go with workload.trace (got "trace")')
        return _mix_of_types(table, replica, source)
    if table.type is not None:
        raise FileError(source, "workload.trace", f"must stand without [[workload.type]] (got {found(table.trace)})")
    return _mix_of_trace(table, table.trace, replica, source, folder), replica


def with_windows(mix: Mix, table: WorkloadTable, replica: Replica, source: str) -> Mix:
    """The mix with the windows of its [workload] table, if any: rates that change over time."""
    if table.window is None:
        return mix
    if mix.traffic is not POISSON:
        given = 'workload.arrivals = "trace"' if isinstance(mix.traffic, Replay) else "a table of workload.arrivals"
        raise FileError(source, "workload.window", f"must stand without {given}")
    return scheduled(mix, _schedule(table.window, source), replica)


def read_predictor(table: WorkloadTable, source: str) -> Predictor | None:
    """The model of the error of predicted output lengths; None where they are not predicted.

    Raises FileError where [workload.prediction] and `lengths = "predicted"` do not come together, and where the table
    does not hold exactly one model of the error.
    """
    if table.lengths == "predicted":
        return _predictor(table.prediction, source)
    if table.prediction is not None:
        raise FileError(source, PREDICTION,
                        f'must go with workload.lengths = "predicted" (got {found(table.lengths)})')
    return None


def _predictor(table: PredictionTable | None, source: str) -> Predictor:
    given = {} if table is None else table.model_dump(exclude_none=True)
    with keys_of(source, PREDICTION):
        match sorted(given):
            case ["sigma"] | ["bias", "sigma"]:
                return LogNormalError(**given)
            case ["ratio"]:
                return Overestimate(**given)
            case ["misclassified"]:
                return Misclassified(_share_of_requests("misclassified", given["misclassified"]))
    got = "none" if table is None else ", ".join(given) or "an empty table"
    raise FileError(source, PREDICTION,
                    f"must hold one of sigma (with or without bias), ratio, misclassified (got {got})")


def _share_of_requests(field: str, value: float) -> float:
    share = real(field, value, zero=True)
    if share > 1:
        raise InputError(field, "a share of the requests, at most 1", share, guess=share_meant(share))
    return share


def _mix_of_trace(table: WorkloadTable, name: str, replica: Replica, source: str, folder: Path) -> Mix:
    trace = _read_trace(table, folder / name, source)
    replayed = table.arrivals == "trace"
    if replayed and table.bins is not None:
        raise FileError(source, "workload.bins", f'must stand without workload.arrivals = "trace" (got {table.bins})')
    with keys_of(source, "workload"):
        binned = trace.binned(table.bins, table.rate) if table.bins is not None else None
        workload = binned.workload if binned else trace.workload(table.rate)
        stage_profile(workload, replica)  # refuses a type that the replica cannot serve
        own = table.arrivals is None and table.bins is None and table.window is None
        traffic = Replay(trace) if replayed else arriving(trace) if own else _traffic(table, source)
        return Mix(workload, traffic, trace, binned)


def _traffic(table: WorkloadTable, source: str) -> Poisson | Bursts | Batch:
    """Poisson arrivals, or the bursts or the batch that the table asks for."""
    if table.uneven is None:
        return POISSON
    given = table.uneven.model_dump(exclude_none=True)
    with keys_of(source, "workload.arrivals"):
        match sorted(given):
            case ["burstiness"]:
                return GammaBursts(**given)
            case ["dispersion"]:
                return GammaBursts(1 / within("dispersion", given["dispersion"], LEAST_BURSTINESS, MOST_BURSTINESS,
                                              unit="the index of dispersion"))
            case ["off", "on"]:
                return OnOff(**given)
            case ["batch"]:
                return Batch(whole("batch", given["batch"], unit="requests", most=MOST_REQUESTS - 1))
    got = ", ".join(given) or "none"
    raise FileError(source, "workload.arrivals", f"must hold burstiness, dispersion, on and off, or batch (got {got})")


def _read_trace(table: WorkloadTable, path: Path, source: str) -> Trace:
    try:
        with keys_of(source, "workload"):
            keys = {key: getattr(table, key) for key in TraceKeys.__dataclass_fields__}
            return TraceKeys(**{**keys, "skip_bad_rows": bool(table.skip_bad_rows)}).read(path, path.name)
    except FileError as error:
        if error.source == source:
            raise
        key = f"{error.key} " if error.key else ""
        problem = key + in_words_of_the_file(error.problem)
        raise FileError(source, "workload.trace", f"must be a trace (got {found(table.trace)}): {problem}") from None


def _mix_of_types(table: WorkloadTable, replica: Replica, source: str) -> tuple[Mix, Replica]:
    if table.type is None:
        raise FileError(source, "workload.type", "is missing: it must be at least one [[workload.type]] table")
    for key, value in table.trace_keys.items():
        remark = "; each workload.type has a rate of its own" if key == "rate" else ""
        raise FileError(source, f"workload.{key}", f"must go with workload.trace{remark} (got {found(value)})")
    pairs = [read_pairs(each, i, table.bins, replica, source) for i, each in enumerate(table.type)]
    if table.bins is not None and not any(pairs):
        raise FileError(source, "workload.bins",
                        f"must go with workload.trace, or with a law of lengths (got {table.bins})")
    workload, left = _workload_of(table.type, pairs, replica, source)
    laws = tuple(Stated(each, table.type[i].rate) for i, each in enumerate(pairs) if each is not None)
    return Mix(workload, _traffic(table, source), reserved=replica.kv_capacity - left.kv_capacity, laws=laws), left


def _workload_of(tables: list[TypeTable], pairs: Sequence[LengthPairs | None], replica: Replica,
                 source: str) -> tuple[Workload, Replica]:
    """The types of the tables, one of each or one for each pair of its lengths, and the cache that prefixes leave."""
    types, prefixes, owners = list[PromptType](), list[SharedPrefix | None](), list[int]()
    for i, (each, laws) in enumerate(zip(tables, pairs, strict=True)):
        made = [_type(each, i, replica, source)] if laws is None else Workload.from_pairs(laws, each.rate).types
        types += made
        prefixes += [_prefix(each, i, made[0].prompt_tokens if laws is None else int(laws.prompt.tokens[0]), source)
                     ] * len(made)
        owners += [i] * len(made)
    _refuse_duplicates(Workload(types).names, owners, source)
    with keys_of(source, "workload"):
        workload, left = share_prefixes(types, prefixes, replica)
    _refuse_duplicates(workload.names, range(len(workload)), source)
    return workload, left


def _schedule(windows: list[WindowTable], source: str) -> Schedule:
    for i, each in enumerate(windows):
        with keys_of(source, f"workload.window[{i}]"):
            real("duration", each.duration, unit="seconds")
            real("scale", each.scale)
    return Schedule([each.duration for each in windows], [each.scale for each in windows])


def _type(table: TypeTable, i: int, replica: Replica, source: str) -> PromptType:
    with keys_of(source, f"workload.type[{i}]"):
        made = PromptType(cast(int, table.prompt_tokens), cast(int, table.output_tokens), table.rate, table.name)
        stage_profile(Workload([made]), replica)  # refuses a type that the replica cannot serve
    return made


def _prefix(table: TypeTable, i: int, shortest: int, source: str) -> SharedPrefix | None:
    """What requests of a type share; refused where it is as long as the shortest prompt, whoever finds it."""
    if table.shared_prefix is None:
        return None
    with keys_of(source, f"workload.type[{i}].shared_prefix"):
        prefix = SharedPrefix(**table.shared_prefix.model_dump())
        whole("tokens", prefix.tokens, unit="tokens", most=shortest - 1)
        return prefix if prefix.name else replace(prefix, name=f"\0{i}")  # no name of a file: of this table alone


def _refuse_duplicates(names: tuple[str, ...], owners: Sequence[int], source: str) -> None:
    """Refuse two types of one name; `owners` are the places of their tables."""
    first: dict[str, int] = {}
    for name, i in zip(names, owners, strict=True):
        if name in first:
            raise FileError(source, f"workload.type[{i}].name",
                            f"must differ from that of workload.type[{first[name]}] (got {found(name)})")
        first[name] = i
