"""The schema of the deployment file: which keys its tables have, their types, and in words what each must be.

Only shapes and types live here; ranges are checked where the objects are made (`fluid`), once. What is checked here is
that a number other than 0 is from 1e-12 to 1e12 in size, whatever its unit: no deployment has a second or a rate
beyond, and products of such numbers are far from the ends of a float. The description of a field is the requirement an
error message quotes, unit included. Source: the deployment file of contract.md.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, create_model
from pydantic_core import PydanticCustomError

from verification.experiments.targets.names import DELAYS, GOOD_SHARE

SCHEMA = 1
LONGEST_NAME = 80
SMALLEST, LARGEST, SIZES = 1e-12, 1e12, "from 1e-12 to 1e12"  # of numbers
OUT_OF_SIZE = "out_of_size"
ARRIVALS = ('"poisson", "trace", { burstiness = shape }, { dispersion = index }, { on = s, off = s } or '
            "{ batch = requests }")
LENGTHS = "a whole number of tokens, at least 1, or a law of lengths, { lognormal = ..., max = ... }"


def _printable(name: str) -> str:
    if not name.isprintable() or not 1 <= len(name) <= LONGEST_NAME:
        raise ValueError
    return name


def _printed_tokens(value: Any) -> Any:
    """The tokens in an engine's start-up line; any other value as it is."""
    found = _PRINTED.search(value) if isinstance(value, str) else None
    return int((found[1] or found[2]).replace(",", "")) if found else value


# vLLM and SGLang
_PRINTED = re.compile(r"GPU KV cache size: ([\d,]{1,20}) tokens|max_total_num_tokens[=:] ?(\d{1,20})")


def _kind(value: Any) -> str:
    return "table" if isinstance(value, dict | TomlTable) else "name"


def _of_a_size(value: float) -> float:
    if math.isfinite(value) and value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        raise PydanticCustomError(OUT_OF_SIZE, "beyond")
    return value


# TOML's integers have 64 bits, which Python's reader does not check
Int = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Real = Annotated[float, AfterValidator(_of_a_size)]
Name = Annotated[str, AfterValidator(_printable)]


class TomlTable(BaseModel):
    """A table of the file: no unknown key, no conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LineTable(TomlTable):
    """One line of the iteration time, in seconds."""

    overhead: Real = Field(description="a positive number of seconds")
    per_kv_token: Real = Field(description="a nonnegative number of seconds per token")
    per_prefill_token: Real = Field(default=0.0, description="a nonnegative number of seconds per token")
    per_sequence: Real = Field(default=0.0, description="a nonnegative number of seconds")


class IterationTimeTable(TomlTable):
    """[replica.iteration_time]: the keys of one line, or `pieces`, several lines of which the largest counts."""

    overhead: Real | None = Field(default=None, description="a positive number of seconds")
    per_kv_token: Real | None = Field(default=None, description="a nonnegative number of seconds per token")
    per_prefill_token: Real | None = Field(default=None, description="a nonnegative number of seconds per token")
    per_sequence: Real | None = Field(default=None, description="a nonnegative number of seconds")
    pieces: list[LineTable] | None = Field(
        default=None, min_length=1, description="an array of at least one { overhead, per_kv_token, ... } in seconds")


class ChunkTable(TomlTable):
    """prefill = { chunk = 512 }."""

    chunk: Int = Field(description="a whole number of tokens, at least 1")


class LayersTable(TomlTable):
    """windowed_layers = { windowed = 52, layers = 62 }."""

    windowed: Int = Field(description="a whole number of layers, at most all of them")
    layers: Int = Field(description="a whole number of layers, at least 1")


class PowerTable(TomlTable):
    """[replica.power]: the watts of a GPU, and what electricity costs."""

    idle: Real | None = Field(default=None, description="a positive number of watts per GPU")
    overhead: Real | None = Field(default=None, description="a positive number of watts per GPU, at most `busy`")
    busy: Real | None = Field(default=None, description="a positive number of watts per GPU")
    price: Real | None = Field(default=None, description="a positive price of a kWh, in the currency of the price")


class ReplicaTable(TomlTable):
    """[replica]: a model and a GPU by name, or the numbers; the numbers win."""

    model: str | None = Field(default=None, description="the name of a built-in model, or the path of a config.json")
    gpu: str | None = Field(default=None, description="the name of a built-in GPU")
    tensor_parallel: Int | None = Field(default=None, description="a whole number of GPUs, at least 1")
    memory_fraction: Real | None = Field(default=None, description="a share of the GPU memory above 0 and at most 1")
    activation_memory: Real | None = Field(
        default=None, description="a nonnegative number of GiB per GPU, for activations and CUDA graphs")
    engine: str | None = Field(default=None, description='"vllm", "sglang" or "trtllm"')
    times: Literal["law", "kernels"] | None = Field(default=None, description='"law" or "kernels"')
    kv_dtype: str | None = Field(default=None, description="the name of an element type")
    weight_dtype: str | None = Field(default=None, description="the name of an element type")
    kv_capacity: Annotated[Int | None, BeforeValidator(_printed_tokens)] = Field(
        default=None, description="a whole number of tokens, at least 1, or the line in which an engine prints it")
    prefill: Annotated[
        Annotated[Literal["whole", "decode-only"], Tag("name")] | Annotated[ChunkTable, Tag("table")],
        Discriminator(_kind)] = Field(default="whole", description='"whole", "decode-only" or { chunk = tokens }')
    block: Int = Field(default=1, description="a whole number of tokens, at least 1")
    first_token: str = Field(default="decode", description='"decode" or "prefill"')
    max_num_seqs: Int | None = Field(default=None, description="a whole number of sequences, at least 1")
    max_num_batched_tokens: Int | None = Field(default=None, description="a whole number of tokens, at least 1")
    max_model_len: Int | None = Field(default=None, description="a whole number of tokens, at least 2")
    attention_window: Int | None = Field(default=None, description="a whole number of tokens, at least 1")
    windowed_layers: LayersTable | None = Field(
        default=None, description="a table { windowed, layers }: how many of the attention layers have the window")
    state: Int | None = Field(default=None, description="a nonnegative whole number of KV tokens")
    iteration_time: IterationTimeTable | None = Field(default=None, description="a table of seconds")
    power: PowerTable | None = Field(default=None, description="a table of watts per GPU")
    price: Real | None = Field(default=None, description="a positive price of an hour, in any currency")


class KindTable(ReplicaTable):
    """[[fleet.kind]]: a kind of replica as [replica] describes one, and its price; without such keys [replica]."""

    name: Name = Field(description=f"a name of 1 to {LONGEST_NAME} printable characters")
    price: Real = Field(description="a positive price of an hour, in any currency")
    most: Int | None = Field(default=None, description="a nonnegative whole number of replicas")
    count: Int | None = Field(default=None, description="a nonnegative whole number of replicas, at most `most`")
    role: Literal["prefill", "decode"] | None = Field(default=None, description='"prefill" or "decode"')
    start_up: Real = Field(default=0.0, description="a nonnegative number of seconds")
    least_time: Real = Field(default=0.0, description="a nonnegative number of seconds")


class TransferTable(TomlTable):
    """[fleet.transfer]: the link of each replica, over which the KV of a prompt goes from prefill to decode."""

    bandwidth: Real = Field(description="a positive number of bytes/s")
    latency: Real = Field(default=0.0, description="a nonnegative number of seconds")
    bytes_per_token: Real | None = Field(default=None, description="a positive number of bytes")


class FleetTable(TomlTable):
    """[fleet]: the kinds of replicas that a fleet may have, and the links between those of different roles."""

    kind: list[KindTable] = Field(min_length=1, description="at least one [[fleet.kind]] table")
    transfer: TransferTable | None = Field(default=None, description="a table { bandwidth, latency, bytes_per_token }")


class PrefixTable(TomlTable):
    """shared_prefix = { tokens = 800, hit = 0.6, name = "system" }."""

    tokens: Int = Field(description="a whole number of tokens, at least 1 and fewer than the prompt has")
    hit: Real = Field(description="a share of the requests in [0, 1]")
    name: Name = Field(default="", description=f"a name of 1 to {LONGEST_NAME} printable characters")


class LogNormalTable(TomlTable):
    """lognormal = { mean = 1500, p95 = 4000 }: two of its numbers."""

    mean: Real | None = Field(default=None, description="a positive number of tokens")
    median: Real | None = Field(default=None, description="a positive number of tokens")
    p95: Real | None = Field(default=None, description="a positive number of tokens")
    p99: Real | None = Field(default=None, description="a positive number of tokens")
    cv: Real | None = Field(default=None, description="a nonnegative number, the standard deviation over the mean")


class GeometricTable(TomlTable):
    """geometric = { mean = 300 }."""

    mean: Real = Field(description="a number of tokens, at least 1")


class UniformTable(TomlTable):
    """uniform = { min = 100, max = 200 }."""

    min: Int = Field(description="a whole number of tokens, at least 1")
    max: Int = Field(description="a whole number of tokens, at least min")


class LengthsTable(TomlTable):
    """prompt_tokens = { lognormal = { mean = 1500, p95 = 4000 }, max = 8192 }: one law, and limits it is clipped to."""

    lognormal: LogNormalTable | None = Field(default=None, description="a table with two of mean, median, p95, p99, cv")
    geometric: GeometricTable | None = Field(default=None, description="a table { mean }")
    uniform: UniformTable | None = Field(default=None, description="a table { min, max }")
    fixed: Int | None = Field(default=None, description="a whole number of tokens, at least 1")
    min: Int | None = Field(default=None, description="a whole number of tokens, at least 1")
    max: Int | None = Field(default=None, description="a whole number of tokens, at least min")


LengthsKey = Annotated[Annotated[Int, Tag("name")] | Annotated[LengthsTable, Tag("table")], Discriminator(_kind)]


class TypeTable(TomlTable):
    """[[workload.type]]: one prompt type."""

    name: Name = Field(default="", description=f"a name of 1 to {LONGEST_NAME} printable characters")
    prompt_tokens: LengthsKey = Field(description=LENGTHS)
    output_tokens: LengthsKey = Field(description=LENGTHS)
    rate: Real = Field(description="a positive number of requests/s")
    shared_prefix: PrefixTable | None = Field(default=None, description="a table { tokens, hit, name }")


class WindowTable(TomlTable):
    """[[workload.window]]: a stretch of time in which all rates are multiplied by `scale`."""

    duration: Real = Field(description="a positive number of seconds")
    scale: Real = Field(description="a positive factor on the rates")


class PredictionTable(TomlTable):
    """[workload.prediction]: how far predicted output lengths are from the truth; exactly one model of the error."""

    sigma: Real | None = Field(default=None, description="a nonnegative standard deviation of ln(predicted/true)")
    bias: Real | None = Field(default=None, description="a positive factor, the median of predicted/true")
    ratio: Real | None = Field(default=None, description="a number of at least 1, the largest predicted/true")
    misclassified: Real | None = Field(default=None, description="a share of the requests in [0, 1]")


class ArrivalsTable(TomlTable):
    """arrivals = { burstiness = 0.25 }, { on = 10.0, off = 30.0 } or { batch = 1000 }: in bursts, or all at time 0."""

    burstiness: Real | None = Field(default=None, description="a number from 0.001 to 1000; 1 is Poisson")
    dispersion: Real | None = Field(default=None, description="a number from 0.001 to 1000; 1 is Poisson")
    on: Real | None = Field(default=None, description="a positive number of seconds")
    off: Real | None = Field(default=None, description="a positive number of seconds")
    batch: Int | None = Field(default=None, description="a whole number of requests, at least 1")


class WorkloadTable(TomlTable):
    """[workload]: prompt types, or a trace, and how their rates change over time."""

    type: list[TypeTable] | None = Field(default=None, min_length=1, description="at least one [[workload.type]] table")
    trace: str | None = Field(default=None, description="the path of a trace")
    format: str | None = Field(default=None, description="the name of a trace format")
    prompt_column: str | None = Field(default=None, description="the name of a column or key of the trace")
    output_column: str | None = Field(default=None, description="the name of a column or key of the trace")
    time_column: str | None = Field(default=None, description="the name of a column or key of the trace")
    time_unit: Literal["s", "ms", "us", "ns"] | None = Field(default=None, description='"s", "ms", "us" or "ns"')
    run: Int | None = Field(default=None, description="a whole number of a run, at least 1")
    skip_bad_rows: bool | None = Field(default=None, description="true or false")
    bins: Int | None = Field(default=None, description="a whole number of prompt types, at least 1")
    arrivals: Annotated[
        Annotated[Literal["poisson", "trace"] | None, Tag("name")] | Annotated[ArrivalsTable, Tag("table")],
        Discriminator(_kind)] = Field(default=None, description=ARRIVALS)
    rate: Real | None = Field(default=None, description="a positive number of requests/s")
    users: Int | None = Field(default=None, description="a whole number of users, at least 1")
    think: Real | None = Field(default=None, description="a nonnegative number of seconds")
    max_concurrency: Int | None = Field(default=None, description="a whole number of requests, at least 1")
    lengths: Literal["known", "predicted", "unknown"] = Field(
        default="known", description='"known", "predicted" or "unknown"')
    prediction: PredictionTable | None = Field(default=None, description="a table with one model of the error")
    window: list[WindowTable] | None = Field(
        default=None, min_length=1, description="at least one [[workload.window]] table")

    @property
    def trace_keys(self) -> dict[str, Any]:
        """The keys given that go with a trace only."""
        given = {key: getattr(self, key) for key in TRACE_KEYS}
        return {key: value for key, value in given.items() if value is not None}

    @property
    def uneven(self) -> ArrivalsTable | None:
        """How requests come in bursts, or all at once, where they do."""
        return self.arrivals if isinstance(self.arrivals, ArrivalsTable) else None


TRACE_KEYS = ("rate", "format", "prompt_column", "output_column", "time_column", "time_unit", "run", "skip_bad_rows")


class PromiseTable(TomlTable):
    """[target]: what the guarantee is for; the delays that are asked for come with `TargetTable`."""

    horizon: Real = Field(default=3600.0, description="a positive number of seconds")
    overflow_probability: float = Field(default=1e-3, description="a probability above 0 and below 1")
    confidence: float = Field(default=0.95, description="a probability above 0 and below 1")
    goodput: str | None = Field(default=None, description='conditions on a request, as "ttft<=2, tpot<=0.05"')
    share: Real = Field(default=GOOD_SHARE, description="a share of the requests above 0 and at most 1")


if TYPE_CHECKING:
    TargetTable = PromiseTable
else:
    TargetTable = create_model("TargetTable", __base__=PromiseTable, __doc__=PromiseTable.__doc__, **{
        name: (Real | None, Field(default=None, description="a positive number of seconds")) for name in DELAYS})


class DeploymentTable(TomlTable):
    """The whole file."""

    schema_: int = Field(default=SCHEMA, alias="schema", ge=SCHEMA, le=SCHEMA,  # of Int the bounds of 64 bits win
                         description=f"{SCHEMA}, the version of this format")
    replica: ReplicaTable = Field(description="a table that names model and gpu, or kv_capacity and iteration_time")
    workload: WorkloadTable = Field(description="at least one [[workload.type]] table")
    target: TargetTable = Field(default_factory=TargetTable, description="a table")
    fleet: FleetTable | None = Field(default=None, description="a table with at least one [[fleet.kind]] table")
