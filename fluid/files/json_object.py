"""The members of one JSON object of any size, in bounded memory: those that are asked for, the others passed over.

    { "itls": [[0.01, 0.02], ...],        passed over: only its quotes and brackets are looked at
      "input_lens": [512, 93, ...],       a list of numbers, texts, true, false and null: handed out in pieces
      "duration": 12.5, ... }             any other value

What is passed over is not checked to be JSON beyond that; what is read is. Held at a time: a block of the text, and the
number or text in which it ends, which may have 2^22 characters. An object has at most 1,000 keys, its lists and objects
are at most 8 deep. So the result of a benchmark whose 100 MB are, most of them, the times of single tokens is read in a
few megabytes, and in less time than all of it would take to parse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fluid.errors import FileError, shown
from fluid.files.text_file import LONGEST_LINE, TextFile

MOST_KEYS, DEEPEST = 1000, 8

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

Take = Callable[[list[Any]], None]


class _NotJsonError(Exception):
    pass


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
    reader = _Reader(text, lists, wanted)
    try:
        return reader.members() if reader.next() == "{" else None
    except _NotJsonError:
        return None


class _Reader:
    """The text from the character `at` on, as far as it is in memory."""

    def __init__(self, text: TextFile, lists: Mapping[str, Take], wanted: tuple[str, ...]) -> None:
        self.source, self.blocks, self.lists, self.wanted = text.source, text.blocks(), lists, wanted
        self.text, self.at = "", 0

    def members(self) -> dict[str, Any]:
        values, seen = dict[str, Any](), set[str]()
        self.at += 1
        more = self.next() != "}"
        self.at += not more
        while more:
            key = self._key(seen)
            value = self._value(key)
            if key in self.wanted:
                values[key] = value
            more = self._take(",}") == ","
        if self.next():
            raise _NotJsonError
        return values

    def next(self) -> str:
        """The next character that is not blank; "" at the end of the text."""
        while True:
            self.at = self._end(_BLANK)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._read_on():
                return ""

    def _key(self, seen: set[str]) -> str:
        if self.next() != '"':
            raise _NotJsonError
        key = str(self._parsed("", self._whole(_STRING, "")))
        if key in seen:
            raise FileError(self.source, key, "must stand in the object once")
        seen.add(key)
        if len(seen) > MOST_KEYS:
            raise FileError(self.source, "", f"must have at most {MOST_KEYS:,} keys")
        self._take(":")
        return key

    def _value(self, key: str) -> Any:
        first = self.next()
        if first == "[" and key in self.lists:
            return self._list(key, self.lists[key])
        if first and first in "[{":
            return self._pass_over(key)
        if not first or first in ",:]}":
            raise _NotJsonError
        value = self._whole(_STRING if first == '"' else _SCALAR, key)
        return self._parsed(key, value) if key in self.wanted else None

    def _list(self, key: str, take: Take) -> None:
        """Hand out a list of numbers and texts, in pieces of as many as there are in memory."""
        self.at += 1
        take([])
        while (last := _LAST.match(self.text, self.at)) is None:
            end = self._end(_ITEMS)
            if end > self.at:
                take(self._items(key, self.text[self.at : end - 1]))
                self.at = end
                if self.next() == "]":
                    raise _NotJsonError
                continue
            end = self._end(_PART)
            if self.text[end : end + 1] in ("[", "{", "}"):
                found = shown(self.text[self.at : end + 1].strip())
                raise FileError(self.source, key, f"must be a list of numbers or texts (got {found})")
            self._need_more(key)
        if rest := self.text[self.at : last.end() - 1].strip():
            take(self._items(key, rest))
        self.at = last.end()

    def _items(self, key: str, text: str) -> list[Any]:
        try:
            return list(json.loads(f"[{text}]"))
        except ValueError:
            raise FileError(self.source, key, f"must be JSON (got {shown(text.strip())})") from None

    def _pass_over(self, key: str) -> _Passed:
        """Go behind a list or an object, whatever is in it."""
        passed, depth = _Passed(self.text[self.at]), 0
        while True:
            here = self.text[self.at : self.at + 1]
            if here in ("[", "{"):
                depth += 1
                if depth > DEEPEST:
                    raise FileError(self.source, key, f"must have lists and objects at most {DEEPEST} deep")
                self.at += 1
            elif here in ("]", "}"):
                depth -= 1
                self.at += 1
                if not depth:
                    return passed
            elif here == '"':
                self._whole(_STRING, key)
            elif not self._read_on():
                raise _NotJsonError
            self.at = self._end(_CLOSED[depth])

    def _take(self, allowed: str) -> str:
        """The next character, which must be one of those."""
        found = self.next()
        if not found or found not in allowed:
            raise _NotJsonError
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
            raise FileError(self.source, key, f"must have numbers and texts of at most {LONGEST_LINE:,} characters")
        if not self._read_on():
            raise _NotJsonError

    def _read_on(self) -> bool:
        """Add the next block, without what was read; False at the end of the text."""
        block = next(self.blocks, "")
        self.text, self.at = self.text[self.at :] + block, 0
        return bool(block)
