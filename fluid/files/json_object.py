"""The parts of JSON text of any size, in bounded memory: those that are asked for, the others passed over.

    { "itls": [[0.01, 0.02], ...],        passed over, or the sum of each: only its quotes and brackets are looked at
      "input_lens": [512, 93, ...],       a list of numbers, texts, true, false and null: handed out in pieces
      "requests": [{...}, {...}, ...],    a list of objects: each of them whole, in batches
      "duration": 12.5, ... }             any other value

A part is named by its path, the keys from the outermost object to it with dots between; lists have no name of their
own, so `requests.tokens` stands in every object of the list `requests`, and "" is the whole text. What is passed over
is not checked to be JSON beyond that; what is read is. Held at a time: a block of the text, and the number, text or
whole object in which it ends, which may have 2^22 characters. An object has at most 1,000 keys, its lists and objects
are at most 8 deep. So the result of a benchmark whose 100 MB are, most of them, the times of single tokens is read in a
few megabytes, and in less time than all of it would take to parse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from fluid.errors import FileError, shown
from fluid.files.text_file import LONGEST_LINE, TextFile

MOST_KEYS, DEEPEST = 1000, 8
BATCH, BATCH_TEXT = 4096, 2**21  # objects, and characters of them, that are handed out together

# nothing below goes back: however hostile the text, each character is looked at a few times
_TEXT, _FLAT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', r'[^"\[\]{}]++'
_ITEM = rf'[^",\[\]{{}}]*+(?:{_TEXT}[^",\[\]{{}}]*+)?+'


def _closed(levels: int) -> str:
    """A pattern for what may stand in a list or an object, those in it closed, down to so many levels."""
    deeper = rf"|[\[{{]{_closed(levels - 1)}[\]}}]" if levels else ""
    return rf"(?:{_FLAT}|{_TEXT}{deeper})*+"


_BLANK, _STRING, _SCALAR, _ITEMS, _LAST, _PART = (re.compile(each, re.DOTALL) for each in (
    r"[ \t\n\r]*+", _TEXT, r'[^",:\[\]{}\s]++(?=.)', rf"(?:{_ITEM},)*+", rf"{_ITEM}\]", _ITEM))
_CLOSED = [re.compile(_closed(DEEPEST - depth), re.DOTALL) for depth in range(DEEPEST + 1)]  # inside so many others
_DECODER = json.JSONDecoder()

Take = Callable[[list[Any]], None]


class NotJsonError(Exception):
    """The text is no JSON object, or none goes on as it began."""


class Part(NamedTuple):
    """A part of the text: its path, and a piece of its list; of an object that has ended (`ended`) its values."""

    path: str
    value: Any
    ended: bool = False


@dataclass(frozen=True)
class Wanted:
    """What is asked for, by paths: `lists` of scalars, `sums` over each list in a list, `records` (lists of objects),
    `values`, and `objects`, each of which is told, with the values in it, when it has ended.
    """

    lists: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    objects: tuple[str, ...] = ("",)

    def has(self, path: str) -> bool:
        """Whether something is wanted of the list of that path."""
        return path in self.inside or path in self.lists or path in self.sums or path in self.records

    @cached_property
    def inside(self) -> frozenset[str]:
        """The paths of what has a wanted part in it."""
        every = (*self.lists, *self.sums, *self.records, *self.values, *self.objects)
        keys = [path.split(".") for path in every if path]
        return frozenset({"", *(".".join(parts[:i]) for parts in keys for i in range(1, len(parts)))})


@dataclass(frozen=True)
class _Passed:
    """A list or an object that was passed over, by its first character."""

    first: str

    def __repr__(self) -> str:
        return "[...]" if self.first == "[" else "{...}"


def read_object(text: TextFile, lists: Mapping[str, Take], wanted: tuple[str, ...]) -> dict[str, Any] | None:
    """Read the object that a text holds, to its end, and return the members `wanted`; None where it is no JSON object.

    `lists` says what takes the pieces of which lists, the first of them empty. Raises FileError, one line, where what
    is asked for is no JSON, a key stands twice, or a limit is passed.
    """
    reader = _Reader(text, Wanted(lists=tuple(lists), values=wanted))
    try:
        if reader.next() != "{":
            return None
        members: dict[str, Any] = {}
        for part in reader.value("", {}):
            if part.ended:
                members = part.value
            else:
                lists[part.path](part.value)
        return None if reader.next() else members
    except NotJsonError:
        return None


def parts(text: TextFile, wanted: Wanted) -> Iterator[Part]:
    """The wanted parts of a text, in order; raises FileError as `read_object` does, NotJsonError where it is no JSON.

    The text may hold several values, one behind the other, as where results are appended to a file.
    """
    reader = _Reader(text, wanted)
    while reader.next():
        yield from reader.value("", {})


class _Reader:
    """The text from the character `at` on, as far as it is in memory."""

    def __init__(self, text: TextFile, wanted: Wanted) -> None:
        self.source, self.blocks, self.wanted = text.source, text.blocks(), wanted
        self.text, self.at = "", 0

    def next(self) -> str:
        """The next character that is not blank; "" at the end of the text."""
        while True:
            self.at = self._end(_BLANK)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._read_on():
                return ""

    def value(self, path: str, values: dict[str, Any]) -> Iterator[Part]:
        """Read a value: its parts are handed out, scalars that are wanted put into `values`."""
        first = self.next()
        if first == "[" and self.wanted.has(path):
            yield from self._of_list(path, values)
        elif first == "{" and not path and "" in self.wanted.records:  # objects one behind the other
            yield Part(path, [self._record(path)[0]])
        elif first == "{" and path in self.wanted.inside:
            yield from self._members(path, values)
        elif not first or first in ",:]}":
            raise NotJsonError
        else:
            self._scalar(path, values, first)

    def _of_list(self, path: str, values: dict[str, Any]) -> Iterator[Part]:
        """Read a list of which something is wanted."""
        if path in self.wanted.lists:
            yield from self._list(path)
        elif path in self.wanted.sums:
            yield from self._sums(path)
        elif path in self.wanted.records:
            yield from self._records(path)
        else:
            for _ in self._elements():
                yield from self.value(path, values)

    def _scalar(self, path: str, values: dict[str, Any], first: str) -> None:
        """Read a number, a text or a word, or go behind what is passed over."""
        found: Any = self._pass_over(path) if first in "[{" else self._whole(_STRING if first == '"' else _SCALAR, path)
        if path in self.wanted.values:
            values[path] = found if first in "[{" else self._parsed(path, found)

    def _members(self, path: str, values: dict[str, Any]) -> Iterator[Part]:
        mine: dict[str, Any] = {} if path in self.wanted.objects else values
        seen = set[str]()
        self.at += 1
        more = self.next() != "}"
        self.at += not more
        while more:
            key = self._key(seen)
            yield from self.value(f"{path}.{key}" if path else key, mine)
            more = self._take(",}") == ","
        if path in self.wanted.objects:
            yield Part(path, mine, ended=True)

    def _key(self, seen: set[str]) -> str:
        if self.next() != '"':
            raise NotJsonError
        key = str(self._parsed("", self._whole(_STRING, "")))
        if key in seen:
            raise FileError(self.source, key, "must stand in the object once")
        seen.add(key)
        if len(seen) > MOST_KEYS:
            raise FileError(self.source, "", f"must have at most {MOST_KEYS:,} keys")
        self._take(":")
        return key

    def _elements(self) -> Iterator[None]:
        """Stop before each element of a list."""
        self.at += 1
        if self.next() == "]":
            self.at += 1
            return
        while True:
            yield
            if self._take(",]") == "]":
                return

    def _list(self, path: str) -> Iterator[Part]:
        """Hand out a list of numbers and texts, in pieces of as many as there are in memory."""
        self.at += 1
        yield Part(path, [])
        while (last := _LAST.match(self.text, self.at)) is None:
            end = self._end(_ITEMS)
            if end > self.at:
                yield Part(path, self._items(path, self.text[self.at : end - 1]))
                self.at = end
                if self.next() == "]":
                    raise NotJsonError
                continue
            end = self._end(_PART)
            if self.text[end : end + 1] in ("[", "{", "}"):
                found = shown(self.text[self.at : end + 1].strip())
                raise FileError(self.source, path, f"must be a list of numbers or texts (got {found})")
            self._need_more(path)
        if rest := self.text[self.at : last.end() - 1].strip():
            yield Part(path, self._items(path, rest))
        self.at = last.end()

    def _sums(self, path: str) -> Iterator[Part]:
        """Hand out the sum of each list in a list; None for what is no list of numbers."""
        sums: list[float | None] = []
        yield Part(path, [])
        for _ in self._elements():
            if self.next() == "[":
                sums.append(sum(_sum(piece.value) for piece in self._list(path)))
            else:
                self._scalar("", {}, self.next())
                sums.append(None)
            if len(sums) == BATCH:
                yield Part(path, sums)
                sums = []
        yield Part(path, sums)

    def _records(self, path: str) -> Iterator[Part]:
        """Hand out a list of objects, each of them whole, in batches."""
        batch: list[Any] = []
        size = 0
        for _ in self._elements():
            record, length = self._record(path)
            batch.append(record)
            size += length
            if len(batch) == BATCH or size > BATCH_TEXT:
                yield Part(path, batch)
                batch, size = [], 0
        yield Part(path, batch)

    def _record(self, path: str) -> tuple[Any, int]:
        """The next value, parsed, and the characters it has."""
        first = self.next()
        if not first or first in ",:]}":
            raise NotJsonError
        if first not in '[{"':
            text = self._whole(_SCALAR, path)
            return self._parsed(path, text), len(text)
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except RecursionError:
                raise FileError(self.source, path, "must not have lists and objects hundreds deep") from None
            except ValueError:
                self._need_more(path)
                continue
            length, self.at = end - self.at, end
            return value, length

    def _items(self, path: str, text: str) -> list[Any]:
        try:
            return list(json.loads(f"[{text}]"))
        except ValueError:
            raise FileError(self.source, path, f"must be JSON (got {shown(text.strip())})") from None

    def _pass_over(self, path: str) -> _Passed:
        """Go behind a list or an object, whatever is in it."""
        passed, depth = _Passed(self.text[self.at]), 0
        while True:
            here = self.text[self.at : self.at + 1]
            if here in ("[", "{"):
                depth += 1
                if depth > DEEPEST:
                    raise FileError(self.source, path, f"must have lists and objects at most {DEEPEST} deep")
                self.at += 1
            elif here in ("]", "}"):
                depth -= 1
                self.at += 1
                if not depth:
                    return passed
            elif here == '"':
                self._whole(_STRING, path)
            elif not self._read_on():
                raise NotJsonError
            self.at = self._end(_CLOSED[depth])

    def _take(self, allowed: str) -> str:
        """The next character, which must be one of those."""
        found = self.next()
        if not found or found not in allowed:
            raise NotJsonError
        self.at += 1
        return found

    def _whole(self, pattern: re.Pattern[str], key: str) -> str:
        """What the pattern matches here, over as many blocks as it takes."""
        while (match := pattern.match(self.text, self.at)) is None:
            self._need_more(key)
        self.at = match.end()
        return match[0]

    def _parsed(self, key: str, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:  # also an integer of more digits than Python reads
            raise FileError(self.source, key, f"must be JSON (got {shown(text)})") from None

    def _end(self, pattern: re.Pattern[str]) -> int:
        """Where the match of a pattern that matches anywhere ends."""
        match = pattern.match(self.text, self.at)
        return self.at if match is None else match.end()

    def _need_more(self, key: str) -> None:
        if len(self.text) - self.at > LONGEST_LINE:
            raise FileError(self.source, key, f"must have numbers, texts and objects of at most {LONGEST_LINE:,} "
                                              "characters" if key in self.wanted.records else
                            f"must have numbers and texts of at most {LONGEST_LINE:,} characters")
        if not self._read_on():
            raise NotJsonError

    def _read_on(self) -> bool:
        """Add the next block, without what was read; False at the end of the text."""
        block = next(self.blocks, "")
        self.text, self.at = self.text[self.at :] + block, 0
        return bool(block)


def _sum(piece: list[Any]) -> float:
    """The sum of the numbers in a piece of a list."""
    try:
        return float(sum(piece))
    except (TypeError, OverflowError):
        return float("nan")
