"""A deployment: the workload, the replica and the target that a TOML file describes.

Numbers in the file take precedence over the catalogue: `kv_capacity` over the capacity, a [replica.iteration_time]
table over the times, of the named model and GPU. A file that cannot be used is a `FileError`, one line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from fluid.arrays import Floats, Ints
from fluid.errors import FileError, one_of, probability, real
from fluid.hardware.placement import Placement
from fluid.replica import Replica
from fluid.tables import Tabular, plain
from fluid.workload import Workload
from fluidwait.deployment.guesses import format_meant, unlikely
from fluidwait.deployment.mix import Mix, trace_mix
from fluidwait.deployment.read_fleet import FleetKind, read_fleet
from fluidwait.deployment.read_power import read_prices
from fluidwait.deployment.read_replica import read_placement, read_replica, read_timing
from fluidwait.deployment.read_targets import read_targets
from fluidwait.deployment.read_users import held_back, read_users
from fluidwait.deployment.read_workload import read_mix, read_predictor, with_windows
from fluidwait.deployment.schema import DeploymentTable
from fluidwait.deployment.timing import Timing, by_law, timed
from fluidwait.deployment.toml import behind, check, keys_of, read_bytes, read_toml
from fluidwait.deployment.trace_keys import TraceKeys, as_flags
from fluidwait.progress import note
from thresholds import Dispersion
from verification.experiments.targets.bounds import NO_TARGETS, Targets
from verification.traffic.predicted_lengths import Predictor, confusion, seen_workload
from verification.traffic.processes import Predicted, Traffic, steady_dispersion

EMBEDDED = "embedded"
AS_THE_FILE_SAYS = TraceKeys()


@dataclass(frozen=True)
class Deployment(Tabular):
    """What a deployment file says, checked; made by `fluidwait.load`, or of the parts. As a table, its prompt types.

    `horizon` is in seconds; `confidence` is that of promises over the rows of a trace; `lengths` is what a policy may
    see on arrival, "known", "predicted" or "unknown" output lengths; `predictor` is the model of the error of predicted
    ones; `placement` is the model on its GPUs where the file names them, `timing` where the iteration time comes from;
    `source` is the file's name ("embedded" for the built-in one), `digest` the SHA-256 of its bytes; `remarks` are
    questions about numbers that are legal, and that no deployment has; `targets` what is asked of the delays; `fleet`
    are the kinds of replicas that `plan` may choose from; `price` is that of an hour of the replica, `electricity` that
    of a kWh, where the file has them.

    >>> from fluid import solve
    >>> read = embedded()
    >>> solve(read.workload, read.replica).stable, read.at(1.5).rate
    (True, 1.5)
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
    confidence: float = 0.95
    remarks: tuple[str, ...] = field(default=(), compare=False)
    targets: Targets = NO_TARGETS
    fleet: tuple[FleetKind, ...] = field(default=(), compare=False)
    price: float | None = field(default=None, compare=False)
    electricity: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizon", real("horizon", self.horizon, unit="seconds"))
        for name in ("overflow_probability", "confidence"):
            object.__setattr__(self, name, probability(name, getattr(self, name)))
        one_of("lengths", self.lengths, ("known", "predicted", "unknown"))

    def __repr__(self) -> str:
        return f"Deployment({self.caption()})"

    def columns(self) -> dict[str, Sequence[str] | Ints | Floats]:
        """The prompt types."""
        return self.workload.columns()

    def caption(self) -> str:
        """Where it comes from, what arrives, and the replica."""
        placed, replica = self.placement, self.replica
        place = f"{placed.model.name} on {placed.tensor_parallel} x {placed.gpu.name}, " if placed else ""
        times = f", iteration time {self.timing.source}" if self.timing else ""
        return (f"{self.source or 'made in Python'}: {len(self.workload):,} types, {self.rate:.4g} requests/s; "
                f"{place}{replica.kv_capacity:,} KV tokens{times}")

    def to_dict(self) -> dict[str, Any]:
        """Return what it says in plain values; the source and its digest as in every `--json`."""
        replica = {each.name: getattr(self.replica, each.name) for each in fields(self.replica)}
        replica["power"] = self.replica.power and self.replica.power.to_dict()
        pieces = [line._asdict() for line in self.replica.iteration_time.pieces]
        types = zip(*self.columns().values(), strict=True)
        keys = ("name", "prompt_tokens", "output_tokens", "rate")
        return plain({  # type: ignore[no-any-return]
            "source": self.source, "sha256": self.digest, "lengths": self.lengths, "rate": self.rate,
            "replica": {**replica, "iteration_time": {"pieces": pieces}},
            "target": {"horizon": self.horizon, "overflow_probability": self.overflow_probability,
                       "confidence": self.confidence, **{each.measure: each.seconds for each in self.targets.bounds},
                       "goodput": self.targets.goodput and self.targets.goodput.text},
            "types": [dict(zip(keys, each, strict=True)) for each in types]})

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
    def dispersion(self) -> Dispersion:
        """The dispersion of the arrivals; that of Poisson streams where it is not known."""
        return steady_dispersion(self.mix.traffic, False, self.workload.rate) or Dispersion()

    @property
    def rate(self) -> float:
        """Requests/s of the whole mix; over a long time, where rates change."""
        return self.mix.rate

    def at(self, rate: float) -> Deployment:
        """The same mix on the same replica at another total rate (requests/s)."""
        return replace(self, mix=self.mix.at(rate, self.replica))


def load(path: str | Path, keys: TraceKeys = AS_THE_FILE_SAYS) -> Deployment:
    """Read the deployment file at `path`; raises FileError, one line, for anything that cannot be used.

    A trace (a name in .csv, .jsonl, .json, with or without .gz) is served by the replica of the built-in deployment;
    `keys` say how it is read, and at which rate it is served.
    What was read has a `workload` and a `replica`, as `fluid.solve` and all else takes them.

    >>> load(str(files("fluidwait") / "a100.toml")).workload == embedded().workload
    True
    """
    path = Path(path)
    if keys.serves(path):
        return _serving(path, keys)
    return parse(read_bytes(path), str(path), path.parent)


def deployment_of(file: Path | None, keys: TraceKeys = AS_THE_FILE_SAYS) -> Deployment:
    """The deployment of a command: that of its file, or the built-in one; its remarks go to standard error."""
    keys.serves(file or Path("a100.toml"))
    read = embedded() if file is None else load(file, keys)
    for remark in read.remarks:
        note(f"{read.source}: {remark}")
    return read


def _serving(path: Path, keys: TraceKeys) -> Deployment:
    builtin = embedded()
    try:
        with as_flags():
            trace = keys.read(path, str(path))
            mix = trace_mix(trace, builtin.replica, keys.rate)
    except FileError as error:
        raise FileError(error.source, error.key, error.problem + behind(_deployment_in_json(path))) from None
    timing = by_law(builtin.placement, mix.workload) if builtin.placement else builtin.timing
    replica = timed(builtin.replica, timing) if timing else builtin.replica
    return replace(builtin, mix=mix, replica=replica, timing=timing, source=str(path), digest=trace.digest)


def _deployment_in_json(path: Path) -> str:
    """What a file that is no trace looks like, where it is a deployment in JSON."""
    try:
        text = read_bytes(path).decode("utf-8-sig") if path.is_file() else ""  # a pipe is read once
    except (FileError, UnicodeDecodeError):
        return ""
    return format_meant(text) if '"replica"' in text or '"workload"' in text else ""


def embedded() -> Deployment:
    """The built-in deployment: a mix of short requests for Llama-2-7B on an A100-80GB.

    >>> embedded().workload.names
    ('report',)
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
    placement = read_placement(tables.replica, source, folder)
    mix, replica = read_mix(tables.workload, read_replica(tables.replica, placement, source), source, folder)
    timing = read_timing(tables.replica, placement, mix.workload, replica, source)
    replica = timed(replica, timing)
    offered = with_windows(mix, tables.workload, replica, source)
    mix = read_users(offered, tables.workload, replica, source)
    remarks = (*unlikely(tables.replica, mix.workload, replica), *held_back(offered, mix, tables.workload))
    price, electricity = read_prices(tables.replica, source)
    with keys_of(source, "target"):
        return Deployment(mix, replica, tables.target.horizon, tables.target.overflow_probability,
                          tables.workload.lengths, read_predictor(tables.workload, source), placement, timing, source,
                          hashlib.sha256(data).hexdigest(), tables.target.confidence,
                          remarks, read_targets(tables.target),
                          read_fleet(tables.fleet, mix, replica, placement, source, folder, electricity),
                          price, electricity)
