"""What a user says of a trace: the keys of a [workload] table, and the flags of every command that takes a trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fluid.errors import FileError, FluidwaitError, InputError, real, whole
from fluid.traces.measured import MeasuredRun, read_run
from fluid.traces.trace import Columns, Trace, read_trace
from fluidwait.progress import reading

TRACE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
Flags = dict[str, Any]  # of a trace, by name
_FLAG = re.compile(r"--(format|prompt-column|output-column|time-column|time-unit|run|skip-bad-rows|rate)\b")


@dataclass(frozen=True)
class TraceKeys:
    """How to read a trace, and the total rate (requests/s) to serve it at; None is what the file itself says."""

    format: str | None = None
    prompt_column: str | None = None
    output_column: str | None = None
    time_column: str | None = None
    time_unit: str | None = None
    run: int | None = None
    skip_bad_rows: bool = False
    rate: float | None = None

    @classmethod
    def of_flags(cls, keys: dict[str, Any]) -> TraceKeys:
        """The keys that flags give, the numbers among them checked."""
        rate, run = keys.get("rate"), keys["run"]
        return cls(**{**keys, "rate": None if rate is None else real("--rate", rate, unit="requests/s"),
                      "run": None if run is None else whole("--run", run, unit="runs")})

    @property
    def given(self) -> dict[str, Any]:
        """Those that say something."""
        return {key: value for key, value in asdict(self).items() if value not in (None, False)}

    @property
    def of_reading(self) -> dict[str, Any]:
        """Those by which a trace is read: all but its rate."""
        return {key: value for key, value in self.given.items() if key != "rate"}

    def read(self, path: Path, name: str) -> Trace:
        """Read the trace; progress is shown under a name. Raises InputError for a key, FileError for the file."""
        columns = Columns.of(self.format, self.prompt_column, self.output_column, self.time_column)
        with reading(name) as progress:
            return read_trace(path, format=self.format, columns=columns, time_unit=self.time_unit, run=self.run,
                              skip_bad_rows=self.skip_bad_rows, progress=progress)

    def measured(self, path: Path, name: str, first: str | None, end: str | None) -> MeasuredRun:
        """Read a measured run as `read` does a trace; `first` and `end` name the moments of first token and end."""
        columns = Columns.of(self.format, self.prompt_column, self.output_column, self.time_column)
        if columns is None and (first, end) != (None, None):
            raise FluidwaitError("--first-token-column and --end-column must go with --prompt-column, --output-column "
                                 "and --time-column")
        if columns is not None:
            columns = replace(columns, first=first, end=end)
        with reading(name) as progress:
            return read_run(path, format=self.format, columns=columns, time_unit=self.time_unit, run=self.run,
                            skip_bad_rows=self.skip_bad_rows, progress=progress)

    def serves(self, path: Path) -> bool:
        """Whether a file is a trace: by the ending of its name, or because keys of a trace are given with it.

        Raises FluidwaitError where they are given with a deployment file.
        """
        name = path.name.lower().removesuffix(".gz")
        if name.endswith(TRACE_ENDINGS):
            return True
        if self.given and name.endswith(".toml"):
            raise FluidwaitError(f"{flag_of(next(iter(self.given)))} must go with a trace (got {path}); in a "
                                 "deployment file it is a key of [workload]")
        return bool(self.given)


def flag_of(key: str) -> str:
    """The flag of a key.

    >>> flag_of("time_unit")
    '--time-unit'
    """
    return "--" + key.replace("_", "-")


def in_words_of_the_file(problem: str) -> str:
    """A message about flags as one about the keys of a deployment file.

    >>> in_words_of_the_file("skip them with --skip-bad-rows")
    'skip them with workload.skip_bad_rows = true'
    """
    problem = problem.replace("--skip-bad-rows", "--skip-bad-rows = true")
    return _FLAG.sub(lambda found: "workload." + found[1].replace("-", "_"), problem)


@contextmanager
def as_flags() -> Iterator[None]:
    """Turn an InputError about a key of a trace into one about the flag of that name."""
    try:
        yield
    except FileError:
        raise
    except InputError as error:
        if error.field not in TraceKeys.__dataclass_fields__:
            raise
        requirement = error.requirement if error.value is not None else f"given, as {error.requirement}"
        raise InputError(flag_of(error.field), requirement, error.value, guess=error.guess) from None
