"""From the bytes of a file to its lines, in bounded memory.

    file -> SHA-256 of its bytes -> gunzip, if they begin 1f 8b -> UTF-8, without its byte order mark -> lines

Lines end in LF, CR or CRLF. Held in memory at a time: a block of 2^20 characters, and the line in which it ends.
Whatever is wrong with the bytes is a FileError of one line: no such file, a gzip stream that ends early, bytes that are
not UTF-8, NULs, a line that is too long. Where such a file is a table, its rows that cannot be used are refused
together, the first of them quoted.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from fluid.errors import FileError
from fluid.progress import Progress

BLOCK = 2**20  # characters, as are the next two
LONGEST_LINE = 2**24
LARGEST_DOCUMENT = 2**29
QUOTED_ROWS = 3  # of those that cannot be used


class _Watched(io.RawIOBase):
    """A file that hashes the bytes read from it and reports to `progress` the bytes read and those there are."""

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
    """The text of the file named `source`, read once: either as `lines` or as one `document`."""

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
        """SHA-256 of the bytes read so far: of the whole file once the text has been read to its end."""
        return self._watched.sha256.hexdigest()

    def lines(self) -> Iterator[str]:
        """The lines, each with its line ending."""
        return chain.from_iterable(self._whole_lines())

    def document(self) -> str:
        """The whole text; raises FileError above 2^29 characters."""
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
    """Open a text file; whatever goes wrong while it is open and read is raised as a FileError."""
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


def refuse_bad_rows(source: str, quoted: Sequence[str], bad: int, total: int, *, may_skip: bool) -> NoReturn:
    """Raise the FileError of a table with `bad` rows that cannot be used among `total`, the first of them `quoted`."""
    hint = ["skip them with --skip-bad-rows"] if may_skip else []
    raise FileError(source, "", f"{bad:,} of {total:,} rows cannot be used: {'; '.join([*quoted, *hint])}")


def _file(source: str) -> io.FileIO:
    try:
        return Path(source).open("rb", buffering=0)
    except ValueError:  # a NUL in the name
        raise FileError(source, "", "cannot be read: not a file name") from None
