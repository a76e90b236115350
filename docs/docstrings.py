"""Docstrings as reStructuredText. Ours are plain text: formulas are indented, code stands in single backticks.

A docstring is a sequence of lines; each belongs to one of

    an example     from ">>>" to the next empty line: kept as it is
    a formula      indented by four spaces or more: a literal block
    a list         its lines begin with "- "
    a paragraph    whatever else: code spans become literals, **bold** is kept, other marks are escaped

Formulas stay plain text: they are written to be read in a terminal, in columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

EXAMPLE, FORMULA, TEXT, EMPTY = "example", "formula", "text", "empty"
APART = "\\ "  # an empty mark, between a literal and a letter that touches it
_SPAN = re.compile(r"`([^`]+)`|\*\*(?=\S)([^*`]+)\*\*")
_MARK = re.compile(r"([\\*|]|(?<=\w)_(?!\w)|(?<!\w)_(?=\w)|`)")
_ENUMERATED = re.compile(r"^(\(?)((?:[A-Za-z]|\d+|[ivxIVX]+)[.)](\s|$))")


def as_rest(lines: Iterable[str]) -> list[str]:
    """The lines of a docstring as lines of reStructuredText."""
    written: list[str] = []
    for kind, group in groupby(_kinds(lines), key=lambda pair: pair[0]):
        block = [line for _, line in group]
        match kind:
            case "formula":
                apart = [""] if written and written[-1] else []
                written += [*apart, ".. code-block:: text", "", *block, ""]
            case "text":
                written += _paragraph(block)
            case _:
                written += block
    return written


def _kinds(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each line with what it belongs to; an empty line inside a formula is part of it."""
    kind, waiting = EMPTY, 0
    for line in lines:
        if not line.strip():
            waiting += 1
            kind = FORMULA if kind == FORMULA else EMPTY
            continue
        before, kind = kind, _kind(line, kind)
        empty = FORMULA if before == kind == FORMULA else EMPTY
        yield from ((empty, "") for _ in range(waiting))
        waiting = 0
        yield kind, line
    yield EMPTY, ""


def _kind(line: str, before: str) -> str:
    if before == EXAMPLE or line.lstrip().startswith(">>>"):
        return EXAMPLE
    return FORMULA if line.startswith("    ") else TEXT


def _paragraph(block: list[str]) -> list[str]:
    """A paragraph, or a list of them, its marks escaped."""
    text = "\n".join(block)
    parts, at = [], 0
    for span in _SPAN.finditer(text):
        marked = _literal(span[1]) if span[1] else f"**{_escaped(span[2])}**"
        before = "" if re.match(r"[\s(\[{'\"/-]|$", text[:span.start()][-1:]) else APART
        after = "" if re.match(r"[\s)\]}'\".,:;!?/-]|$", text[span.end():]) else APART
        parts += [_escaped(text[at:span.start()]), before, marked, after]
        at = span.end()
    parts.append(_escaped(text[at:]))
    is_list = block[0].startswith("- ")
    return [_plain_start(line, is_list) for line in "".join(parts).split("\n")]


def _literal(code: str) -> str:
    return "``" + " ".join(code.split()) + "``"


def _escaped(text: str) -> str:
    return _MARK.sub(r"\\\1", text)


def _plain_start(line: str, is_list: bool) -> str:
    """A line whose first characters cannot be taken for a list, a heading or a directive."""
    bare = line.lstrip()
    if is_list and bare.startswith("- "):
        return line
    if _ENUMERATED.match(bare) or re.match(r"([-+] |\.\. |:\w+:|>|=+$|-+$)", bare):
        return line[:len(line) - len(bare)] + "\\" + bare
    return line
