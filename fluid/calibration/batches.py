"""Measured batches: what was in each iteration, and how long it took.

A row is (decode sequences, KV tokens they read, prefill sequences, prompt tokens they process, seconds). The batch

    reads       KV tokens of the decodes + prompt tokens      (a prefill reads its own prompt: mathematics, section 1.5)
    holds       decode + prefill sequences

Files, plain or gzip, UTF-8: a CSV file with the columns `num_decode`, `kv_tokens_decode`, `num_prefill`,
`prefill_tokens`, `batch_time_s` (upper or lower case, in any order, other columns ignored; both prefill columns may be
left out, for a server that only decodes), separated by commas or, where the first line has none, by semicolons or tabs;
or the log of an engine (`fluid.calibration.engine_logs`). Which of the two it is, is decided by its content, not by its
name.
With chunked prefill, the tokens of earlier chunks that a batch reads again belong in `kv_tokens_decode`.

A row is usable when its counts are whole numbers below 2^53, its seconds are positive and finite, it has a sequence,
and every sequence has a token: kv_tokens_decode >= num_decode, prefill_tokens >= num_prefill, no prompt tokens where
nothing prefills. A column that seems to be in another unit in most rows is asked about (`fluid.calibration.units`). A
file has at most 2^20 rows: three hours of iterations of 10 ms, more than a fit needs.
"""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Bools, Floats, Ints
from fluid.calibration.engine_logs import Row, iterations
from fluid.calibration.units import ask_back
from fluid.errors import FileError, InputError, number_meant, one_line, shown
from fluid.files.text_file import QUOTED_ROWS, TextFile, hopeless, opened, refuse_bad_rows
from fluid.replica import Replica
from fluid.tables import duration

CSV_COLUMNS = ("num_decode", "kv_tokens_decode", "num_prefill", "prefill_tokens", "batch_time_s")
PREFILL_COLUMNS = {"num_prefill", "prefill_tokens"}
MOST = 2.0**53  # of a count, which is below: from there on a float may stand for another number
MOST_ROWS, MOST_COLUMNS = 2**20, 10_000


@dataclass(frozen=True, eq=False)
class Batches:
    """Measured batches: arrays of shape (n,), counts of sequences and tokens and `seconds`; see `read_batches`.

    `lines` are the line numbers in the file `source` (1, 2, ... and "" where there is no file), `skipped` is the number
    of its rows that were left out, the first three of them quoted in `bad_rows`; `digest` is the SHA-256 of its bytes,
    `remarks` are sentences on what its rows are.
    """

    decode_sequences: Floats
    kv_tokens_decode: Floats
    prefill_sequences: Floats
    prefill_tokens: Floats
    seconds: Floats
    lines: Ints
    source: str = ""
    skipped: int = 0
    bad_rows: tuple[str, ...] = ()
    digest: str = ""
    remarks: tuple[str, ...] = ()

    @classmethod
    def from_arrays(cls, decode_sequences: ArrayLike, kv_tokens_decode: ArrayLike, seconds: ArrayLike, *,
                    prefill_sequences: ArrayLike = 0, prefill_tokens: ArrayLike = 0) -> Batches:
        """Make batches from arrays of one shape (n,); raises InputError for the first that is not usable.

        >>> batches = Batches.from_arrays([1, 2], [512, 900], [0.0108, 0.0110])
        >>> batches.kv_read.tolist(), batches.sequences.tolist()
        ([512.0, 900.0], [1.0, 2.0])
        """
        try:
            given = (decode_sequences, kv_tokens_decode, prefill_sequences, prefill_tokens, seconds)
            columns = np.broadcast_arrays(*(np.asarray(each, dtype=np.float64) for each in given))
        except (TypeError, ValueError):
            raise InputError("batches", "arrays of numbers of one shape", given) from None
        table = np.column_stack([np.atleast_1d(column) for column in columns])
        for row, problem in _problems(table, 1):
            raise InputError("batches", "usable", problem, f"row {row}")
        return cls._of(table, np.arange(1, len(table) + 1))

    @classmethod
    def _of(cls, table: Floats, lines: Ints, source: str = "", skipped: int = 0, bad_rows: tuple[str, ...] = (),
            digest: str = "", remarks: tuple[str, ...] = ()) -> Batches:
        table = np.asfortranarray(table)
        for kept in (table, lines):
            kept.flags.writeable = False
        decode, kv, prefill, tokens, seconds = table.T
        return cls(decode, kv, prefill, tokens, seconds, lines, source, skipped, bad_rows, digest, remarks)

    def __len__(self) -> int:
        return int(self.seconds.size)

    def __repr__(self) -> str:
        longest = f" of up to {duration(self.seconds.max())}" if len(self) else ""
        source = one_line(self.source)[-40:] or "arrays"
        return f"Batches({source}: {len(self):,} rows{longest}, {self.skipped:,} left out)"

    @property
    def kv_read(self) -> Floats:
        """The KV tokens that each batch reads."""
        return self.kv_tokens_decode + self.prefill_tokens

    @property
    def sequences(self) -> Floats:
        """The number of sequences in each batch."""
        return self.decode_sequences + self.prefill_sequences

    def within(self, replica: Replica) -> Batches:
        """The batches a replica can hold: KV tokens read <= its kv_capacity, sequences <= its max_num_seqs, if any.

        Raises InputError where there is no such batch.
        """
        held = (self.kv_read <= replica.kv_capacity) & (self.sequences <= replica.most_sequences)
        if not held.any():
            most = replica.max_num_seqs
            limits = f"{replica.kv_capacity:,} KV tokens" + ("" if most is None else f" and {most:,} sequences")
            raise InputError("batches", f"at least 1 row within the {limits} of the replica", 0, one_line(self.source))
        columns = (self.decode_sequences, self.kv_tokens_decode, self.prefill_sequences, self.prefill_tokens,
                   self.seconds)
        return Batches._of(np.column_stack(columns)[held], self.lines[held], self.source, self.skipped, self.bad_rows,
                           self.digest, self.remarks)


def read_batches(path: str | os.PathLike[str], *, skip_bad_rows: bool = False) -> Batches:
    """Read the batches of a CSV file or an engine's log, gzipped or not.

    Raises FileError, one line, where the file cannot be used, or has rows that cannot: how many, and the first three
    with line numbers and what is wrong. With `skip_bad_rows` they are counted and left out.
    """
    remarks = list[str]()
    with opened(path) as text:
        table, lines, unreadable, others = _parsed(text, remarks)
        source, digest = text.source, text.digest
        if _is_csv(text):
            ask_back(table, source)
    usable = _usable(table)
    kept = int(np.count_nonzero(usable))
    bad = others + len(table) - kept
    problems = unreadable + [(int(lines[row]), problem) for row, problem in _problems(table, QUOTED_ROWS)]
    quoted = tuple(f"line {line}, {problem}" for line, problem in sorted(problems)[:QUOTED_ROWS])
    if bad and not (skip_bad_rows and kept):
        refuse_bad_rows(source, quoted, bad, bad + kept, may_skip=kept > 0)
    if not kept:
        raise FileError(source, "", "holds no batches")
    return Batches._of(table[usable], lines[usable], source, bad, quoted, digest, tuple(remarks))


def _parsed(text: TextFile, remarks: list[str]) -> tuple[Floats, Ints, list[tuple[int, str]], int]:
    """The rows of five numbers, their line numbers, the line numbers of the first other rows with what is wrong there,
    and how many of those there are.
    """
    values, lines, unreadable, others = array("d"), array("q"), list[tuple[int, str]](), 0
    for line, row in _rows(text, remarks):
        if isinstance(row, str):
            others += 1
            if others <= QUOTED_ROWS:
                unreadable.append((line, row))
            elif hopeless(others, len(lines)):
                quoted = [f"line {place}, {problem}" for place, problem in unreadable]
                refuse_bad_rows(text.source, quoted, others, others + len(lines), may_skip=False, so_far=True)
        else:
            values.extend(row)
            lines.append(line)
            if len(lines) > MOST_ROWS:
                raise FileError(text.source, "", f"must have at most {MOST_ROWS:,} rows: some of them tell as much")
    table = np.array(values, dtype=np.float64).reshape(-1, len(CSV_COLUMNS))
    return table, np.array(lines, dtype=np.int64), unreadable, others


def _rows(text: TextFile, remarks: list[str]) -> Iterator[Row]:
    return _csv_rows(text) if _is_csv(text) else iterations(text, remarks)


def _is_csv(text: TextFile) -> bool:
    first = next(line for line in text.head.splitlines() if line.strip())
    return not set(_names(first.split(text.separator))).isdisjoint(CSV_COLUMNS)


def _csv_rows(text: TextFile) -> Iterator[Row]:
    reader = csv.reader(text.csv_lines(), delimiter=text.separator, strict=True)
    try:
        header = _names(next((row for row in reader if "".join(row).strip()), []))
        columns = _columns(header, text.source)
        for row in reader:
            text.row_end = reader.line_num
            if len(row) == len(header):
                yield reader.line_num, _numbers([row[i] if i is not None else "0" for i in columns])
            elif "".join(row).strip():
                yield reader.line_num, f"a row must have {len(header)} fields (got {len(row)})"
    except csv.Error as error:
        raise FileError(text.source, "", f"must be CSV: line {reader.line_num}: {error}") from None


def _names(header: list[str]) -> list[str]:
    return [name.strip().strip('"').lower() for name in header]


def _columns(header: list[str], source: str) -> list[int | None]:
    """The position of each of CSV_COLUMNS in the header; None for the prefill columns where both are left out."""
    if len(header) > MOST_COLUMNS:
        raise FileError(source, "", f"must have at most {MOST_COLUMNS:,} columns (got {len(header):,})")
    optional = set() if PREFILL_COLUMNS & set(header) else PREFILL_COLUMNS
    for name in CSV_COLUMNS:
        if header.count(name) > 1 or (name not in header and name not in optional):
            raise FileError(source, "", f"must have one column {name} (its columns are {shown(header)})")
    return [header.index(name) if name in header else None for name in CSV_COLUMNS]


def _numbers(fields: list[str]) -> list[float] | str:
    """The fields as numbers, or what is wrong with the first that is none."""
    text = "".join(fields)
    if text.isascii() and "_" not in text:
        try:
            return list(map(float, fields))
        except ValueError:
            pass  # which of them, is said below
    name, wrong = next((name, each) for name, each in zip(CSV_COLUMNS, fields, strict=True) if not _is_number(each))
    guess = number_meant(wrong)
    return f"{name} must be a number (got {shown(wrong)})" + (f": {guess}" if guess else "")


def _is_number(text: str) -> bool:
    """Whether it is a number, and not only to Python, which reads 1_000 and digits of other scripts."""
    with suppress(ValueError):
        float(text)
        return text.isascii() and "_" not in text
    return False


def _rules(table: Floats) -> Iterator[tuple[int, str, Bools]]:
    """What each row must satisfy: the column to quote, the requirement, and which rows satisfy it."""
    decode, kv, prefill, tokens, seconds = table.T
    for i, name in enumerate(CSV_COLUMNS[:4]):
        column = table[:, i]
        holds = (column >= 0) & (column < MOST) & (column == np.floor(column))
        yield i, f"{name} must be a whole number of at least 0, below 2^53", holds
    yield 4, "batch_time_s must be a positive finite number of seconds", (seconds > 0) & (seconds < np.inf)
    yield 4, "batch_time_s must be from 1e-9 to 1e9 seconds", (seconds >= 1e-9) & (seconds <= 1e9)
    yield 0, "num_decode must be positive where nothing prefills", decode + prefill > 0
    yield 1, "kv_tokens_decode must be at least num_decode", kv >= decode
    yield 2, "num_prefill must be positive where prompt tokens are processed", (prefill > 0) | (tokens == 0)
    yield 3, "prefill_tokens must be at least num_prefill", tokens >= prefill


def _usable(table: Floats) -> Bools:
    usable: Bools = np.all([holds for _, _, holds in _rules(table)], axis=0)
    return usable


def _problems(table: Floats, most: int) -> Iterator[tuple[int, str]]:
    """The first `most` rows that are not usable, and what is wrong with each."""
    for row in np.flatnonzero(~_usable(table))[:most]:
        for column, requirement, holds in _rules(table[row : row + 1]):
            if not holds[0]:
                yield int(row), f"{requirement} (got {table[row, column]:.12g})"
                break
