"""From the bytes of a file to its lines, in bounded memory.

    file -> SHA-256 of its bytes -> gunzip, if they begin 1f 8b -> UTF-8, without its byte order mark -> lines

Lines end in LF, CR or CRLF. Held in memory at a time: a block of 2^20 characters, and the line in which it ends. A
gzip file of some kilobytes may hold any number of characters, and a pipe never ends: so there are limits, far beyond
what tables and logs have,

    2^34 characters in all          2^22 in a line, and in a row of several lines
    9 line ends in 20 characters of a block          2^23 bytes that decompress to less than a block

Whatever is wrong with the bytes is a FileError of one line: no such file, a gzip stream that ends early, bytes that are
not UTF-8, NULs, a limit passed. Where such a file is a table, its rows that cannot be used are refused together, the
first of them quoted; after 2^18 of them, if most cannot be used, at once.
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
LONGEST_LINE = 2**22
LARGEST_FILE = 2**34
MOST_LINE_ENDS = 9 * BLOCK // 20  # in a block: of the shortest rows, 1,1 and a blank line, 8 of 20 characters are
BARREN = 2**23  # bytes without a block of text among them: it has at most 2^22, and half as many are read ahead
QUOTED_ROWS = 3  # of those that cannot be used
MOST_BAD_ROWS = 2**18  # where most are bad


class _Watched(io.RawIOBase):
    """A file that hashes the bytes read from it and reports to `progress` the bytes read and those there are.

    `barren` are the bytes read since whoever reads set it to 0; more than 2^23 of them are refused.
    """

    def __init__(self, file: io.FileIO, source: str, progress: Progress | None) -> None:
        self.sha256, self.barren = hashlib.sha256(), 0
        self._file, self._source, self._progress = file, source, progress
        self._done, self._total = 0, os.fstat(file.fileno()).st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        self.sha256.update(memoryview(buffer)[:count])
        self._done += count
        self.barren += count
        if self.barren > BARREN:
            raise FileError(self._source, "", f"must be text ({BARREN:,} bytes of its gzip stream hold next to none)")
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))
        return count


class TextFile:
    """The text of the file named `source`, read once: as `lines`, as `csv_lines` or as `blocks`; `head` is its first.

    `given` counts the characters of the lines handed out so far. Whoever reads `csv_lines` keeps `row_end`, the number
    of the line in which the last row ended.
    """

    def __init__(self, file: io.FileIO, source: str, progress: Progress | None) -> None:
        self.source = source
        self.given = self.row_end = self._size = 0
        self._watched = _Watched(file, source, progress)
        buffered = io.BufferedReader(self._watched, BLOCK)
        zipped = buffered.peek(2)[:2] == b"\x1f\x8b"
        plain = gzip.GzipFile(fileobj=buffered) if zipped else buffered
        self._text = io.TextIOWrapper(plain, encoding="utf-8-sig")
        self.head = next(self._blocks(), "")
        if not self.head.strip():
            raise FileError(source, "", f"must hold text among its first {BLOCK:,} characters"
                            if len(self.head) == BLOCK else "is empty")

    @property
    def separator(self) -> str:
        """What separates the columns of a CSV: a comma where its first line has one, else a semicolon or a tab."""
        first = next((line for line in self.head.splitlines() if line.strip()), "")
        return next((each for each in ",;\t" if each in first), ",")

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes read so far: of the whole file once the text has been read to its end."""
        return self._watched.sha256.hexdigest()

    def lines(self) -> Iterator[str]:
        """The lines, each with its line ending."""
        return chain.from_iterable(map(io.StringIO, self._whole_lines()))

    def csv_lines(self) -> Iterator[str]:
        """The lines; raises FileError where a row goes on over more than 2^22 characters of them."""
        return chain.from_iterable(map(io.StringIO, self._whole_rows()))

    def blocks(self) -> Iterator[str]:
        """The text in pieces of at most 2^20 characters."""
        return chain([self.head], self._blocks())

    def _whole_rows(self) -> Iterator[str]:
        ended, size = self.row_end, 0
        for lines in self._whole_lines():
            ended, size = self.row_end, (size if ended == self.row_end else 0) + len(lines)
            if size - len(lines) > LONGEST_LINE:
                raise FileError(self.source, "", f"must have rows of at most {LONGEST_LINE:,} characters")
            yield lines

    def _whole_lines(self) -> Iterator[str]:
        rest = ""
        for block in self.blocks():
            first = block.find("\n")
            if len(rest) + (first if first >= 0 else len(block)) > LONGEST_LINE:
                raise FileError(self.source, "", f"must have lines of at most {LONGEST_LINE:,} characters")
            whole, end, rest = (rest + block).rpartition("\n")
            self.given += len(whole) + len(end)
            yield whole + end
        self.given += len(rest)
        yield rest

    def _blocks(self) -> Iterator[str]:
        while block := self._text.read(BLOCK):
            self._watched.barren = 0
            self._size += len(block)
            if "\0" in block:
                raise FileError(self.source, "", "must be text (it holds NUL bytes, as a binary file does)")
            if block.count("\n") > MOST_LINE_ENDS:
                raise FileError(self.source, "", f"must be text in lines ({block.count(chr(10)):,} of {BLOCK:,} "
                                                 "characters are line ends)")
            if self._size > LARGEST_FILE:
                raise FileError(self.source, "", f"must be at most {LARGEST_FILE:,} characters long")
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


def refuse_bad_rows(source: str, quoted: Sequence[str], bad: int, total: int, *, may_skip: bool,
                    so_far: bool = False) -> NoReturn:
    """Raise the FileError of a table with `bad` rows that cannot be used among `total`, the first of them `quoted`.

    `so_far`: these are not all rows of the table.
    """
    hint = ["skip them with --skip-bad-rows"] if may_skip else []
    rows = f"the first {total:,}" if so_far else f"{total:,}"
    raise FileError(source, "", f"{bad:,} of {rows} rows cannot be used: {'; '.join([*quoted, *hint])}")


def hopeless(bad: int, good: int) -> bool:
    """Whether a table is to be refused before its end: more than 2^18 bad rows, and more than good ones."""
    return bad > max(MOST_BAD_ROWS, good)


def _file(source: str) -> io.FileIO:
    try:
        return Path(source).open("rb", buffering=0)
    except ValueError:  # a NUL in the name
        raise FileError(source, "", "cannot be read: not a file name") from None
