"""From the bytes of a file to its lines, in bounded memory.

    file -> SHA-256 of its bytes -> gunzip, if they begin 1f 8b -> UTF-8, less its mark -> lines ended by LF, CR or CRLF

A block of 2^20 characters is held at a time, and the line that it ends in. Whatever is wrong with the bytes is a
FileError of one line: no such file, a gzip stream that ends early, bytes that are not UTF-8, NULs, a line without end.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from fluid.errors import FileError

BLOCK = 2**20
LONGEST_LINE = 2**24
LARGEST_DOCUMENT = 2**29

Progress = Callable[[int, int], None]


class _Watched(io.RawIOBase):
    """A file that hashes what is read of it and tells `progress` how far it is."""

    def __init__(self, file: io.FileIO, progress: Progress | None) -> None:
        self.sha256 = hashlib.sha256()
        self._file, self._progress = file, progress
        self._done, self._total = 0, os.fstat(file.fileno()).st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        self.sha256.update(memoryview(buffer)[:count])
        self._done += count
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))
        return count


class TextFile:
    """The text of a file called `source`, read once: either as `lines` or as one `document`."""

    def __init__(self, file: io.FileIO, source: str, progress: Progress | None) -> None:
        self.source = source
        self._watched = _Watched(file, progress)
        buffered = io.BufferedReader(self._watched, BLOCK)
        zipped = buffered.peek(2)[:2] == b"\x1f\x8b"
        plain = gzip.GzipFile(fileobj=buffered) if zipped else buffered
        self._text = io.TextIOWrapper(plain, encoding="utf-8-sig")
        self.head = next(self._blocks(), "")
        if not self.head.strip():
            raise FileError(source, "", "is empty")

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes read so far, of the whole file once the text is read to its end."""
        return self._watched.sha256.hexdigest()

    def lines(self) -> Iterator[str]:
        """The lines, each with its end."""
        return chain.from_iterable(self._whole_lines())

    def document(self) -> str:
        """The whole text, of at most 512 MiB."""
        parts, size = [], 0
        for block in chain([self.head], self._blocks()):
            parts.append(block)
            size += len(block)
            if size > LARGEST_DOCUMENT:
                raise FileError(self.source, "", f"must be at most {LARGEST_DOCUMENT:,} characters long")
        return "".join(parts)

    def _whole_lines(self) -> Iterator[io.StringIO]:
        rest = ""
        for block in chain([self.head], self._blocks()):
            whole, end, rest = (rest + block).rpartition("\n")
            if len(rest) > LONGEST_LINE:
                raise FileError(self.source, "", f"must have lines of at most {LONGEST_LINE:,} characters")
            yield io.StringIO(whole + end)
        yield io.StringIO(rest)

    def _blocks(self) -> Iterator[str]:
        while block := self._text.read(BLOCK):
            if "\0" in block:
                raise FileError(self.source, "", "must be text (it holds NUL bytes, as a binary file does)")
            yield block


@contextmanager
def opened(path: str | os.PathLike[str], progress: Progress | None = None) -> Iterator[TextFile]:
    """The text of a file; what goes wrong on the way is a FileError."""
    source = os.fspath(path)
    try:
        with _file(source) as file:
            yield TextFile(file, source, progress)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise FileError(source, "", f"must be UTF-8 text (got byte 0x{byte:02x})") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise FileError(source, "", "must be a whole gzip file (it is cut off or damaged)") from None
    except OSError as error:
        raise FileError(source, "", f"cannot be read: {error.strerror}") from None


def _file(source: str) -> io.FileIO:
    try:
        return Path(source).open("rb", buffering=0)
    except ValueError:  # a NUL in the name
        raise FileError(source, "", "cannot be read: not a file name") from None
