"""Measured batches from CSV files and engines' logs: what is read, what is refused, in how many words."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from fluid import Batches, FileError, InputError, IterationTime, Replica, read_batches
from fluid.calibration import batches as batches_module
from fluid.files import text_file

HEADER = "num_decode,kv_tokens_decode,num_prefill,prefill_tokens,batch_time_s"
GOOD = ["8,4096,0,0,0.0122", "0,0,2,600,0.0452", "8,4096,1,512,0.0431"]


@pytest.fixture
def file(tmp_path):
    """Write bytes, or lines of text, and return the path."""
    def write(content: bytes | list[str]) -> Path:
        path = tmp_path / "batches.csv"
        path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
        return path
    return write


def refusal(path: Path, **options: bool) -> str:
    """The message with which a file is refused: one line, and it names the file."""
    with pytest.raises(FileError) as error:
        read_batches(path, **options)
    assert error.value.source == str(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_batch_reads_its_prompt_tokens_too_and_holds_all_its_sequences(file):
    """8 decodes of 512 tokens and a prompt of 512: 4,096 + 512 tokens read, 9 sequences."""
    batches = read_batches(file([HEADER, *GOOD]))
    assert batches.kv_read.tolist() == [4096, 600, 4608]
    assert batches.sequences.tolist() == [8, 2, 9]
    assert batches.prefill_tokens.tolist() == [0, 600, 512]
    assert batches.seconds.tolist() == [0.0122, 0.0452, 0.0431]
    assert batches.lines.tolist() == [2, 3, 4]
    assert (batches.skipped, batches.bad_rows) == (0, ())


def test_arrays_cannot_be_changed(file):
    batches = read_batches(file([HEADER, *GOOD]))
    with pytest.raises(ValueError, match="read-only"):
        batches.seconds[0] = 1.0


@pytest.mark.parametrize("dress", [
    lambda text: text,
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.replace(b"\n", b"\r\n"),
    lambda text: gzip.compress(text),
    lambda text: text.replace(b"\n", b"\n\n") + b"\n  \n",
    lambda text: text.replace(b"num_decode", b" NUM_Decode "),
    lambda text: text.replace(b"0.0122", b"1.22e-2").replace(b"4096", b"4096.0"),
], ids=["plain", "mark", "crlf", "gzip", "blank lines", "case", "floats"])
def test_the_same_rows_are_read_however_the_file_is_dressed(file, dress):
    read = read_batches(file(dress("\n".join([HEADER, *GOOD]).encode())))
    assert read.kv_read.tolist() == [4096, 600, 4608]
    assert read.seconds.tolist() == [0.0122, 0.0452, 0.0431]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_columns_may_be_separated_by_semicolons_or_tabs_where_no_comma_is(file, separator):
    rows = [HEADER, *GOOD]
    read, other = read_batches(file(rows)), read_batches(file([row.replace(",", separator) for row in rows]))
    assert np.array_equal(read.seconds, other.seconds)
    assert np.array_equal(read.kv_read, other.kv_read)
    decimal = [row.replace(",", separator).replace("0.0", "0,0") for row in rows]
    assert "meant?" in refusal(file(decimal))


def test_columns_stand_in_any_order_among_others_and_a_decoding_server_has_no_prefill_columns(file):
    batches = read_batches(file(["gpu,batch_time_s,kv_tokens_decode,num_decode", "a100,0.0122,4096,8"]))
    assert (batches.kv_read[0], batches.sequences[0], batches.prefill_tokens[0]) == (4096, 8, 0)


@pytest.mark.parametrize(("row", "problem"), [
    ("eight,4096,0,0,0.01", "num_decode must be a number (got 'eight')"),
    (",4096,0,0,0.01", "num_decode must be a number (got '')"),
    ("8,4096,0,0", "a row must have 5 fields (got 4)"),
    ("8,4096,0,0,0.01,9", "a row must have 5 fields (got 6)"),
    ("8.5,4096,0,0,0.01", "num_decode must be a whole number of at least 0, below 2^53 (got 8.5)"),
    ("8,nan,0,0,0.01", "kv_tokens_decode must be a whole number of at least 0, below 2^53 (got nan)"),
    ("8,4096,-1,0,0.01", "num_prefill must be a whole number of at least 0, below 2^53 (got -1)"),
    ("8,4096,1,inf,0.01", "prefill_tokens must be a whole number of at least 0, below 2^53 (got inf)"),
    ("8,4096,0,0,nan", "batch_time_s must be a positive finite number of seconds (got nan)"),
    ("8,4096,0,0,inf", "batch_time_s must be a positive finite number of seconds (got inf)"),
    ("8,4096,0,0,0", "batch_time_s must be a positive finite number of seconds (got 0)"),
    ("8,4096,0,0,-0.01", "batch_time_s must be a positive finite number of seconds (got -0.01)"),
    ("8,9007199254740993,0,0,0.01", "kv_tokens_decode must be a whole number of at least 0, below 2^53 (got "
     "9.00719925474e+15)"),
    ("8,\uff14\uff10\uff19\uff16,0,0,0.01", "kv_tokens_decode must be a number (got '\uff14\uff10\uff19\uff16')"),
    ("8,4_096,0,0,0.01", "kv_tokens_decode must be a number (got '4_096')"),
    ("8,4096,0,0,1e-300", "batch_time_s must be from 1e-9 to 1e9 seconds (got 1e-300)"),
    ("8,4096,0,0,1e300", "batch_time_s must be from 1e-9 to 1e9 seconds (got 1e+300)"),
    ("5e-324,1e308,0,0,0.01", "num_decode must be a whole number of at least 0, below 2^53 (got 4.94065645841e-324)"),
    ("0,0,0,0,0.01", "num_decode must be positive where nothing prefills (got 0)"),
    ("8,7,0,0,0.01", "kv_tokens_decode must be at least num_decode (got 7)"),
    ("8,4096,0,512,0.01", "num_prefill must be positive where prompt tokens are processed (got 0)"),
    ("8,4096,2,1,0.01", "prefill_tokens must be at least num_prefill (got 1)"),
])
def test_a_row_that_cannot_be_used_is_quoted_with_its_line_or_left_out(file, row, problem):
    path = file([HEADER, GOOD[0], row, *GOOD[1:]])
    assert f"1 of 4 rows cannot be used: line 3, {problem}; skip them with --skip-bad-rows" in refusal(path)
    batches = read_batches(path, skip_bad_rows=True)
    assert batches.lines.tolist() == [2, 4, 5]
    assert (batches.skipped, batches.bad_rows) == (1, (f"line 3, {problem}",))


def test_all_bad_rows_are_counted_and_the_first_three_quoted_in_the_order_of_the_file(file):
    message = refusal(file([HEADER, "1,1,0,0,0", "x,1,0,0,1", *GOOD, "1,1,0,0,-1", "1,1", "0,0,0,0,1"]))
    assert "5 of 8 rows" in message
    assert [part[:6] for part in message.split(": ", 2)[2].split("; ")] == ["line 2", "line 3", "line 7", "skip t"]


def test_a_file_of_bad_rows_only_is_refused_even_when_they_may_be_skipped(file):
    assert "2 of 2 rows cannot be used" in refusal(file([HEADER, "1,1,0,0,0", "x,1,0,0,1"]), skip_bad_rows=True)


@pytest.mark.parametrize(("content", "problem"), [
    (b"", "is empty"),
    (b" \n\n", "is empty"),
    (HEADER.encode(), "holds no batches"),
    (HEADER.replace("batch_time_s", "seconds").encode(), "must have one column batch_time_s"),
    (HEADER.replace("num_prefill,", "").encode(), "must have one column num_prefill"),
    ((HEADER + ",num_decode\n").encode(), "must have one column num_decode"),
    (b"a,b,c\n1,2,3\n", "must be a CSV file with the columns num_decode, kv_tokens_decode"),
    (HEADER.encode() + b"\n8,4096,0,0,\xff\n", "must be UTF-8 text"),
    (HEADER.encode() + b"\n8,4096,0,0,\x00\n", "must be text"),
    (gzip.compress("\n".join([HEADER, *GOOD]).encode(), mtime=0)[:-12], "must be a whole gzip file"),
    ((HEADER + '\n8,4096,0,0,"0.01').encode(), "must be CSV: line 2: unexpected end of data"),
    ((HEADER + "," + "," * 10_000 + "\n").encode(), "must have at most 10,000 columns (got 10,006)"),
    ((HEADER + '\n"' + "8" * 200_000 + '"\n').encode(), "must be CSV: line 2"),
])
def test_a_file_that_cannot_be_used_is_refused_in_one_line(file, content, problem):
    assert problem in refusal(file(content))


def test_a_missing_file_and_a_directory_are_refused_in_one_line(tmp_path):
    assert "cannot be read: No such file" in refusal(tmp_path / "none.csv")
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_batches_made_by_hand_meet_the_same_requirements():
    with pytest.raises(InputError, match=r"kv_tokens_decode must be at least num_decode.*in row 1"):
        Batches.from_arrays([1, 8], [512, 7], [0.01, 0.01])
    with pytest.raises(InputError, match="arrays of numbers of one shape"):
        Batches.from_arrays([1, 8], [512, 900, 7], [0.01, 0.01])
    with pytest.raises(InputError, match="arrays of numbers of one shape"):
        Batches.from_arrays(["one"], [512], [0.01])


# --- what a replica can hold ---

def held_by(kv_capacity: int, max_num_seqs: int | None = None) -> Replica:
    """A replica; the field `max_num_seqs` is set where it has none yet."""
    replica = Replica(kv_capacity, IterationTime(0.0106, 4e-7))
    object.__setattr__(replica, "max_num_seqs", max_num_seqs)
    return replica


@pytest.mark.parametrize(("replica", "lines"), [
    (held_by(4608), [2, 3, 5]), (held_by(4607), [2, 3]), (held_by(4096), [2, 3]), (held_by(4608, 9), [2, 3, 5]),
    (held_by(4608, 8), [2, 3]), (held_by(10_000, 2), [3])])
def test_the_batches_within_a_replica_read_no_more_than_its_cache_and_hold_no_more_sequences(file, replica, lines):
    """KV read 4,096, 600 and 4,608; sequences 8, 2 and 9. What the file was stays on record."""
    read = read_batches(file([HEADER, *GOOD[:2], "x,1,0,0,1", GOOD[2]]), skip_bad_rows=True)
    within = read.within(replica)
    assert within.lines.tolist() == lines
    assert within.seconds.tolist() == [each for each, line in zip(read.seconds, read.lines, strict=True)
                                       if line in lines]
    assert (within.kv_read <= replica.kv_capacity).all()
    assert (within.source, within.digest, within.skipped, within.bad_rows) == (
        read.source, read.digest, 1, read.bad_rows)


@pytest.mark.parametrize(("replica", "limits"), [
    (held_by(599), "the 599 KV tokens of the replica"),
    (held_by(4608, 1), "the 4,608 KV tokens and 1 sequences of the replica")])
def test_a_replica_that_can_hold_none_of_the_batches_is_refused_in_one_line(file, replica, limits):
    read = read_batches(file([HEADER, *GOOD]))
    with pytest.raises(InputError) as error:
        read.within(replica)
    assert str(error.value) == f"batches must be at least 1 row within {limits} (got 0) in {read.source}"


# --- units ---

def column(times: float, kv: float) -> list[str]:
    """20 rows of 8 sequences at 512 to 702 tokens, with seconds and tokens in other units."""
    return [HEADER, *(f"8,{8 * (512 + 10 * i) * kv:.10g},0,0,{(0.01 + 1e-4 * i) * times:.10g}" for i in range(20))]


@pytest.mark.parametrize(("rows", "question"), [
    (column(1e3, 1), "batch_time_s must be seconds (got 10.95 in the median row): did you give milliseconds?"),
    (column(1e6, 1), "did you give microseconds?"),
    (column(1e9, 1), "did you give nanoseconds?"),
    (column(1, 0.000524), "kv_tokens_decode must be whole tokens (got 2.1463): did you give gigabytes"),
    ([HEADER, *["8,9,0,0,0.01"] * 20], "kv_tokens_decode must be tokens (got 1.12 per sequence"),
])
def test_columns_that_seem_to_be_in_another_unit_are_asked_about(file, rows, question):
    assert question in refusal(file(rows))
    assert question in refusal(file(rows), skip_bad_rows=True)


def test_a_slow_iteration_of_half_a_minute_is_no_question_of_units(file):
    assert len(read_batches(file([*column(1, 1), "8,4096,0,0,30.0"]))) == 21


def test_a_file_of_too_many_rows_or_mostly_bad_ones_is_refused_before_its_end(file, monkeypatch):
    monkeypatch.setattr(batches_module, "MOST_ROWS", 5)
    assert "must have at most 5 rows: some of them tell as much" in refusal(file([HEADER, *GOOD, *GOOD]))
    monkeypatch.setattr(text_file, "MOST_BAD_ROWS", 4)
    message = refusal(file([HEADER, *["1"] * 100]), skip_bad_rows=True)
    assert "5 of the first 5 rows cannot be used: line 2, a row must have 5 fields (got 1); line 3, " in message
