"""From the bytes of a TOML file to a table checked against its schema, every refusal one line.

A `FileError` names the file, the path of the key (arrays count from 0: `workload.type[1].rate`), what it must be,
with its unit, and what was found.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fluid.errors import FileError, InputError, did_you_mean, shown
from fluid.files.whole_file import read_small
from fluidwait.deployment.guesses import OTHER_NAMES, format_meant, slip, value_meant
from fluidwait.deployment.schema import OUT_OF_SIZE, SIZES

LARGEST_FILE = 2**20
LONGEST_TOML_LINE = 4000  # a dotted key costs the parser memory in the square of its length
TableType = TypeVar("TableType", bound=BaseModel)


def found(value: Any) -> str:
    """The value as a message quotes it, in TOML's words and short whatever was found."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    return str(value) if hasattr(value, "isoformat") else shown(value)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file of at most 1 MiB; raises FileError where it cannot be read."""
    return read_small(path, LARGEST_FILE)


def read_toml(data: bytes, source: str) -> dict[str, Any]:
    """The document in UTF-8 TOML (a byte order mark is skipped); raises FileError with the line number."""
    text = _decoded(data, source)
    _refuse_long_lines(text, source)
    try:
        return tomllib.loads(text, parse_float=_double)
    except tomllib.TOMLDecodeError as error:
        raise FileError(source, "", f"must be valid TOML: {error}{behind(_mistake(text, str(error)))}") from None
    except OverflowError as error:
        raise FileError(source, "", f"must have numbers that fit a double, up to 1.8e308 (got {error})") from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise FileError(source, "", "must be valid TOML: an integer is far beyond 64 bits") from None
    except RecursionError:
        raise FileError(source, "", "must be valid TOML: nested too deeply") from None


def _double(text: str) -> float:
    """The number; raises OverflowError where a double cannot come near it."""
    number = float(text)
    digits = text.lower().partition("e")[0]
    if (math.isinf(number) and "inf" not in text) or (number == 0 and re.search("[1-9]", digits)):
        raise OverflowError(shown(text).strip("'"))
    return number


def _mistake(text: str, error: str) -> str:
    """What is probably wrong, from the message of the parser: the format, or the line."""
    if error.startswith("Cannot declare") and "twice" in error:
        return "tables of a list stand in double brackets, [[workload.type]]"
    place = re.search(r"at line (\d+)", error)
    lines = text.split("\n")
    line = int(place[1]) if place else len(lines)
    return format_meant(text) or (slip(lines[line - 1]) if 0 < line <= len(lines) else "")


def behind(guess: str) -> str:
    """A guess as it stands behind a message."""
    return f"; {guess}" if guess else ""


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise FileError(source, "", f"must be UTF-8 text (got byte 0x{byte:02x} at offset {error.start})") from None


def _refuse_long_lines(text: str, source: str) -> None:
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > LONGEST_TOML_LINE:
            raise FileError(source, "", f"must have lines of at most {LONGEST_TOML_LINE:,} characters "
                                        f"(line {number} has {len(line):,})")


def check(table: type[TableType], document: dict[str, Any], source: str) -> TableType:
    """The document as a table; raises FileError for the first key that is unknown, missing or of a wrong type."""
    try:
        return table.model_validate(document)
    except ValidationError as error:
        # an unknown key first: a misspelt one is also a missing one
        details = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        kind, loc = details[0]["type"], _without_tags(details[0]["loc"])
        raise FileError(source, key_path(loc), _problem(table, kind, loc, details[0]["input"])) from None


@contextmanager
def keys_of(source: str, table: str) -> Iterator[None]:
    """Turn an InputError about a field into a FileError about that key of the table."""
    try:
        yield
    except InputError as error:
        place = f" in {error.where}" if error.where.startswith("prompt type") else ""
        key = f"{table}.{error.field}".replace(" ", ".")
        if error.value is None:  # TOML has no null
            raise FileError(source, key, f"is missing: it must be {error.requirement}{place}") from None
        guess = error.guess or value_meant(error.field, error.value, error.requirement)
        raise FileError(source, key, f"must be {error.requirement} (got {found(error.value)}){place}{behind(guess)}"
                        ) from None


def key_path(loc: tuple[int | str, ...]) -> str:
    """("workload", "type", 1, "rate") as workload.type[1].rate, keys quoted where TOML would quote them.

    >>> key_path(("workload", "type", 1, "rate"))
    'workload.type[1].rate'
    """
    parts = (f"[{part}]" if isinstance(part, int) else "." + _quoted(part) for part in loc)
    return "".join(parts).removeprefix(".")


def _quoted(key: str) -> str:
    short = key if len(key) <= 60 else key[:57] + "..."
    return short if re.fullmatch(r"[A-Za-z0-9_-]+", short) else json.dumps(short, ensure_ascii=False)


def _without_tags(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The location less the tag pydantic puts after a key with two forms to say which of them was tried."""
    for place, key in enumerate(loc[:-1]):
        if key in ("prefill", "prompt_tokens", "output_tokens", "arrivals") and loc[place + 1] in ("name", "table"):
            return loc[:place + 1] + loc[place + 2:]
    return loc


def _problem(table: type[BaseModel], kind: str, loc: tuple[int | str, ...], value: Any) -> str:
    holder, info = _field(table, loc)
    if kind == "extra_forbidden":
        return f"is not a known key (got {found(value)}); {_suggestion(str(loc[-1]), holder)}"
    requirement = (info.description if info else None) or "a table"
    if kind == "missing":
        return f"is missing: it must be {requirement}"
    if kind == OUT_OF_SIZE:
        requirement += f", {SIZES} in size if it is not 0"
    return f"must be {requirement} (got {found(value)}){behind(value_meant(str(loc[-1]), value, requirement))}"


def _suggestion(key: str, holder: type[BaseModel]) -> str:
    known = [info.alias or name for name, info in holder.model_fields.items()]
    key = next((own for other, own in OTHER_NAMES.items() if own in known and key.replace("-", "_") == other), key)
    return did_you_mean(key, known) or "known here: " + ", ".join(known)


def _field(table: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The table that holds the last key of the location, and the field of that key, if it has one."""
    holder, info = table, None
    for part in loc:
        if isinstance(part, int):
            continue
        holder = _table_in(info.annotation) or holder if info else holder
        fields = {each.alias or name: each for name, each in holder.model_fields.items()}
        info = fields.get(part)
    return holder, info


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """The table class inside an annotation such as list[WindowTable] | None."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    inner = (_table_in(argument) for argument in typing.get_args(annotation))
    return next((each for each in inner if each), None)
