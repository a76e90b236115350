"""The parts of the pages that are made of the program: `python docs/generated.py` writes them anew.

A page names such a part, and what stands between the two lines is replaced:

    <!-- generated: keys -->
    <!-- end of keys -->

They are stored, so that a reader of the repository sees them; a test says when they are not what the program says. The
last column of the table of keys, the meaning of each, is written in the page by hand and kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from typer.main import get_command

from fluid.hardware.catalogue import GPUS, MODELS
from fluid.hardware.hub_names import HUB
from fluid.hardware.model import Model
from fluidwait.commands.app import app
from fluidwait.deployment.schema import DeploymentTable, KindTable, ReplicaTable, TomlTable

PAGES = Path(__file__).parent
COMMON = ("--json", "--version", "--help")  # flags of every command, explained once
LENGTHS = ("prompt_tokens", "output_tokens")  # a number or a table
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def pages() -> Iterator[tuple[Path, str]]:
    """Each page that has such a part, with the text it must have."""
    for path in sorted(PAGES.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if _PART.search(text):
            yield path, _PART.sub(lambda found: f"{found[1]}\n{MADE[found[2]](found[0])}\n\n{found[3]}", text)


def keys(stored: str) -> str:
    """The keys of the deployment file: what each must be, its default, and the meaning that the page gives it."""
    meanings = {row[0]: row[-1] for row in _cells(stored)}
    rows = [(f"`{key}`", field.description or "", _default(field)) for key, field in _fields(DeploymentTable)]
    return _table(("key", "must be", "default", "meaning"), [(*row, meanings.get(row[0], "")) for row in rows])


def gpus(_: str) -> str:
    """The GPUs of the catalogue."""
    rows = [(f"`{gpu.name}`", f"{gpu.memory:g}", f"{gpu.bandwidth / 1e12:g}", f"{gpu.compute / 1e12:g}",
             f"{gpu.tdp or 0:g}", f"{gpu.idle:.0f}" if gpu.idle else "", gpu.source) for gpu in GPUS.values()]
    return _table(("GPU", "memory GiB", "TB/s", "TFLOP/s, 16 bit", "W at most", "W idle", "source"), rows)


def models(_: str) -> str:
    """The models of the catalogue."""
    rows = [(f"`{model.name}`", f"{model.parameters / 1e9:.3g}", str(model.layers), _kv_bytes(model), _names(model))
            for model in MODELS.values()]
    return _table(("model", "parameters, 10^9", "layers", "KV bytes a token, 16 bit", "also called, on the hub"), rows)


def commands(_: str) -> str:
    """Every command with its arguments and flags, as `--help` shows them."""
    every: dict[str, Any] = vars(get_command(app))["commands"]
    return "\n\n".join(_command(name, command) for name, command in every.items())


MADE: dict[str, Callable[[str], str]] = {"keys": keys, "gpus": gpus, "models": models, "commands": commands}


def _fields(table: type[TomlTable], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a table and of the tables in it, each with its path; of a kind of replica those of its own."""
    for name, field in table.model_fields.items():
        if issubclass(table, KindTable) and name in ReplicaTable.model_fields and not field.is_required():
            continue
        inner = _inner(field.annotation)
        if not (inner and field.is_required()) or name in LENGTHS:
            yield before + (field.alias or name), field
        if inner and name not in ("pieces", "output_tokens"):  # of which each has keys that stand above
            yield from _fields(inner, f"{before}{name}.")


def _inner(annotation: Any) -> type[TomlTable] | None:
    """The table that a type holds, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, TomlTable):
        return annotation
    return next((found for each in get_args(annotation) if (found := _inner(each))), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None or not isinstance(field.default, str | int | float) or field.default == "":
        return ""
    return f'`"{field.default}"`' if isinstance(field.default, str) else f"{field.default:g}"


def _kv_bytes(model: Model) -> str:
    return f"{2 * model.kv_elements:,}"


def _names(model: Model) -> str:
    """The names of the hub that mean this model as its entry describes it."""
    return ", ".join(f"`{name}`" for name, (entry, quantization) in HUB.items()
                     if entry == model.name and quantization is None)


def _command(name: str, command: Any) -> str:
    shown = sorted((each for each in command.params if each.opts[0] not in COMMON), key=_is_flag)
    arguments = [each for each in shown if not _is_flag(each)]
    usage = " ".join([f"fluidwait {name}", *(_argument(each) for each in arguments), "[FLAGS]"])
    rows = [(f"`{_flag(each)}`", each.help or "", _shown_default(each)) for each in shown]
    example = (command.epilog or "").removeprefix("Example: ")
    return "\n\n".join([f"### {name}", command.help, f"`{usage}`; for example `{example}`",
                        *([_table(("argument or flag", "what it is", "default"), rows)] if rows else [])])


def _argument(each: Any) -> str:
    return each.name.upper() if each.required else f"[{each.name.upper()}]"


def _is_flag(each: Any) -> bool:
    return bool(each.opts[0].startswith("-"))


def _flag(each: Any) -> str:
    if not _is_flag(each):
        return _argument(each)
    return each.opts[0] if getattr(each, "is_flag", False) else f"{each.opts[0]} {each.metavar}"


def _shown_default(each: Any) -> str:
    if each.required:
        return "required"
    return "" if each.default is None or each.default is False or each.default == "" else f"`{each.default}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(text: str) -> Iterator[list[str]]:
    """The rows of a table, cell by cell."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


if __name__ == "__main__":
    for page, text in pages():
        page.write_text(text, encoding="utf-8")
        print(page.relative_to(PAGES))
