"""Trace files as they come: every format, every way of writing it, every bad row named by its line."""

from __future__ import annotations

import gzip
import hashlib
import json
import tracemalloc
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, sampled

from fluid import Columns, FileError, InputError, Trace, read_trace
from fluid.errors import shown
from fluid.traces.fields import dates, numbers
from fluid.traces.formats.format import CHUNK, FORMATS
from fluid.traces.summary import summarise

TOKENS = "a whole number of tokens from 1 to 16777216"
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:16:00.6805900,374,44
"""
BURSTGPT = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,abc,1.2,ChatGPT,472,18,490,Conversation log
45,,,GPT-4,1087,0,1087,API log
118,abc,2,ChatGPT,417,276,693,Conversation log
"""
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,374,44\n2.0,396,109\n"
MOONCAKE = """{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}
{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": []}
"""


def written(folder: Path, content: str | bytes, name: str = "requests.csv") -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(trace: Trace) -> list[tuple[float | None, int, int]]:
    """The requests of a trace: seconds, prompt tokens, output tokens."""
    times = [None] * len(trace) if trace.times is None else trace.times.tolist()
    return list(zip(times, trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def refusal(path: Path, **options: Any) -> str:
    """What `read_trace` says of a file it refuses, less the file's name; one line."""
    with pytest.raises(FileError) as caught:
        read_trace(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def vidur(*rows: str) -> str:
    """A file in Vidur's format: the header is line 1, the first row line 2."""
    return "\n".join(["arrived_at,num_prefill_tokens,num_decode_tokens", *rows]) + "\n"


def test_an_azure_trace_has_its_dates_as_seconds_from_the_first(tmp_path: Path) -> None:
    """50.9951690 - 46.6805900 = 4.314579 and a minute less 46 s makes 14."""
    trace = read_trace(written(tmp_path, AZURE))
    assert rows_of(trace) == [(0.0, 374, 44), (4.314579, 396, 109), (14.0, 374, 44)]
    assert (trace.format, trace.skipped, trace.failed, trace.duration) == ("azure", 0, 0, 14.0)


@pytest.mark.parametrize("moment", [
    "2024-05-10 00:00:00.5+00:00", "2024-05-10T00:00:00.500Z", "2024-05-10 02:00:00.5+02:00", " 2024-05-10 00:00:00.5 ",
    "2024-05-09 19:00:00.500000000-0500",
])
def test_dates_may_carry_a_zone_and_any_fraction(tmp_path: Path, moment: str) -> None:
    """All are half a second after midnight in UTC of the 10th."""
    rows = f"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,1,1\n{moment},2,2\n"
    assert rows_of(read_trace(written(tmp_path, rows))) == [(0.0, 1, 1), (0.5, 2, 2)]


def test_a_burstgpt_response_of_0_is_a_failed_request_not_a_bad_row(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, BURSTGPT))
    assert rows_of(trace) == [(0.0, 472, 18), (113.0, 417, 276)]
    assert (trace.format, trace.failed, trace.skipped) == ("burstgpt", 1, 0)


def test_the_older_burstgpt_release_has_no_session_and_no_elapsed_time(tmp_path: Path) -> None:
    rows = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,API log\n"
    assert rows_of(read_trace(written(tmp_path, rows))) == [(0.0, 472, 18)]


def test_a_mooncake_trace_has_a_json_object_a_line_and_milliseconds(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, MOONCAKE))
    assert rows_of(trace) == [(0.0, 6955, 52), (30.535 - 27.482, 6472, 26)]
    assert trace.format == "mooncake"


def test_a_vidur_trace_begins_at_its_first_request(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, VIDUR))
    assert rows_of(trace) == [(0.0, 374, 44), (1.5, 396, 109)]
    assert trace.format == "vidur"


def vllm(**changes: Any) -> str:
    """The result of `vllm bench serve --save-result --save-detailed` for four requests in 6 s, of which two failed."""
    result = {"date": "20250101", "duration": 6.0, "completed": 2, "input_lens": [10, 20, 30, 40],
              "output_lens": [5, 0, 7, 3], "errors": ["", "timeout", "", "refused"], "generated_texts": [""] * 4}
    return json.dumps({key: value for key, value in {**result, **changes}.items() if value is not None})


def test_a_vllm_result_without_start_times_has_the_rate_of_completed_requests_over_its_duration(tmp_path: Path) -> None:
    """Two of the four have an error or no output; 2 requests in 6 s."""
    trace = read_trace(written(tmp_path, vllm()))
    assert rows_of(trace) == [(None, 10, 5), (None, 30, 7)]
    assert (trace.format, trace.failed, trace.duration, trace.rate) == ("vllm", 2, 6.0, 2 / 6)


@pytest.mark.parametrize("failed", [1000.0, 0.0, None])
def test_a_vllm_result_with_start_times_has_moments(tmp_path: Path, failed: Any) -> None:
    """The second request failed: its start does not matter."""
    trace = read_trace(written(tmp_path, vllm(start_times=[1002.0, failed, 1000.5, 1003.0])))
    assert rows_of(trace) == [(0.0, 30, 7), (1.5, 10, 5)]
    assert trace.duration == 1.5


@pytest.mark.parametrize("times", [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1.0], None, "now"])
def test_start_times_a_client_left_empty_are_no_moments(tmp_path: Path, times: Any) -> None:
    assert read_trace(written(tmp_path, vllm(start_times=times))).times is None


@pytest.mark.parametrize(("changes", "problem"), [
    ({"input_lens": None}, "input_lens must be a list of tokens by request, which vllm bench serve writes with "
                           "--save-result --save-detailed"),
    ({"output_lens": [5]}, "output_lens must have 4 entries like input_lens (got 1)"),
    ({"input_lens": [10, "x", 30, 40], "output_lens": [5, 5, 7, -3], "errors": None},
     f"2 of 4 rows cannot be used: request 2, input_lens must be {TOKENS} (got 'x'); request 4, output_lens must be "
     f"{TOKENS} (got -3); skip them with --skip-bad-rows"),
    ({"input_lens": [], "output_lens": []}, "holds no requests"),
    ({"input_lens": [[10], 20, 30, 40]}, "input_lens must be a list of numbers or texts (got '[')"),
    ({"duration": 10**400}, "duration must be a positive finite number of seconds (got 1" + "0" * 76 + "...)"),
    ({"duration": 1e13}, "duration must be at most 1e+12 seconds (got 10000000000000.0)"),
    ({"duration": [6.0]}, "duration must be a positive finite number of seconds (got [...])"),
    ({"output_lens": [0, 0, 0, 0]}, "holds no request that succeeded (4 failed)"),
])
def test_a_vllm_result_without_usable_lengths_is_refused(tmp_path: Path, changes: Any, problem: str) -> None:
    assert refusal(written(tmp_path, vllm(**changes))) == problem


@pytest.mark.parametrize("separator", [";", "\t"])
def test_columns_may_be_separated_by_semicolons_or_tabs_where_no_comma_is(tmp_path: Path, separator: str) -> None:
    """As spreadsheets write them; the table is the same, and a decimal comma is asked about."""
    text = vidur("0.5,374,44", "2.0,396,109")
    commas, others = written(tmp_path, text), written(tmp_path, text.replace(",", separator), "others.csv")
    assert rows_of(read_trace(others)) == rows_of(read_trace(commas))
    path = written(tmp_path, text.replace(",", separator).replace("0.5", "0,5"), "decimal.csv")
    assert "(got '0,5'): is 0.5 meant?" in refusal(path)


def test_any_csv_can_be_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = written(tmp_path, 'note,out,in,when\n"a\nb",5,10,1.5\n"x, y",6,11,3.5\n')
    assert rows_of(read_trace(path, columns=Columns("in", "out", "when"))) == [(0.0, 10, 5), (2.0, 11, 6)]
    trace = read_trace(path, columns=Columns("in", "out"))
    assert rows_of(trace) == [(None, 10, 5), (None, 11, 6)]
    assert (trace.format, trace.rate, trace.duration) == ("columns", None, None)


@pytest.mark.parametrize(("moments", "seconds"), [
    (("2024-01-01 00:00:00", "2024-01-01 00:01:00"), 60.0), (("1700000000.25", "1700000001"), 0.75),
])
def test_named_times_are_dates_or_seconds_as_the_first_of_them(tmp_path: Path, moments: Any, seconds: float) -> None:
    path = written(tmp_path, f"p,o,t\n1,1,{moments[0]}\n1,1,{moments[1]}\n")
    assert read_trace(path, columns=Columns("p", "o", "t")).duration == seconds


def test_the_format_can_be_given_and_must_fit(tmp_path: Path) -> None:
    path = written(tmp_path, VIDUR)
    assert len(read_trace(path, format="vidur")) == 2
    assert refusal(path, format="azure") == (
        'has no column "ContextTokens" (its columns are arrived_at, num_prefill_tokens, num_decode_tokens)')
    assert refusal(path, format="vllm").startswith("must be one JSON object, or one a line, as vllm bench serve and")
    assert refusal(path, format="mooncake").startswith("3 of 3 rows cannot be used: line 1, the row must be a JSON obj")


@pytest.mark.parametrize(("options", "complaint"), [
    ({"format": "csv"}, f"""format must be {' or '.join(f'"{each}"' for each in FORMATS)} (got 'csv') in read_trace"""),
    ({"time_unit": "minutes"}, """time_unit must be "s" or "ms" or "us" or "ns" (got 'minutes') in read_trace"""),
    ({"run": 0}, "run must be a whole number of runs from 1 to 9007199254740992 (got 0) in read_trace"),
    ({"format": "columns"}, 'columns must be given with the format "columns" (got None) in read_trace'),
    ({"format": "azure", "columns": Columns("a", "b")},
     'format must be "columns" where columns are named (got \'azure\') in read_trace'),
    ({"columns": ("a", "b")}, "columns must be a Columns object (got ('a', 'b')) in read_trace"),
])
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: Any, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        read_trace(written(tmp_path, VIDUR), **options)
    assert str(caught.value) == complaint


def test_a_column_is_named_by_text() -> None:
    with pytest.raises(InputError, match=r"output must be the name of a column \(got 2\) in columns"):
        Columns("prompt", 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbf" + AZURE.encode(),
    AZURE.replace("\n", "\r\n").encode(),
    AZURE.replace("\n", "\r").encode(),
    AZURE.removesuffix("\n").encode(),
    AZURE.replace("\n", "\n\n").encode() + b"  \n",
    gzip.compress(AZURE.encode(), mtime=0),
    gzip.compress(AZURE[:60].encode(), mtime=0) + gzip.compress(AZURE[60:].encode(), mtime=0),
    AZURE.replace("TIMESTAMP", " timestamp ").replace("ContextTokens", "CONTEXTTOKENS").encode(),
    AZURE.replace(",", ", ").encode(),
    AZURE.replace("374", '"374"').encode(),
    AZURE.replace("374", "374.0").replace("44\n", " 44 \n").encode(),
    "\n".join(f'{line},"more, {i}"' for i, line in enumerate(AZURE.splitlines())).encode(),
    "\n".join(",".join(reversed(line.split(","))) for line in AZURE.splitlines()).encode(),
])
def test_however_it_is_written_it_is_the_same_trace(tmp_path: Path, content: bytes) -> None:
    """A byte order mark, line ends, blank lines, gzip, case, blanks, quotes, more columns, another order."""
    path = written(tmp_path, content)
    assert rows_of(read_trace(path)) == [(0.0, 374, 44), (4.314579, 396, 109), (14.0, 374, 44)]
    assert read_trace(path).digest == hashlib.sha256(content).hexdigest()


def test_unsorted_requests_are_sorted_with_their_lengths_and_ties_keep_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, vidur("9,1,1", "7,2,2", "9,3,3", "5,4,4"))
    assert rows_of(read_trace(path)) == [(0.0, 4, 4), (2.0, 2, 2), (4.0, 1, 1), (4.0, 3, 3)]


def test_progress_is_told_the_bytes_read_and_ends_with_all_of_them(tmp_path: Path) -> None:
    path = written(tmp_path, vidur(*(f"{i},{i % 7 + 1},5" for i in range(300_000))))
    told: list[tuple[int, int]] = []
    read_trace(path, progress=lambda done, total: told.append((done, total)))
    size = path.stat().st_size
    assert told[-1] == (size, size)
    assert {total for _, total in told} == {size}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 2


@pytest.mark.parametrize(("row", "problem"), [
    ("1,abc,5", f"num_prefill_tokens must be {TOKENS} (got 'abc')"),
    ("1,,5", f"num_prefill_tokens must be {TOKENS} (got '')"),
    ("1,nan,5", f"num_prefill_tokens must be {TOKENS} (got 'nan')"),
    ("1,inf,5", f"num_prefill_tokens must be {TOKENS} (got 'inf')"),
    ("1,0,5", f"num_prefill_tokens must be {TOKENS} (got '0')"),
    ("1,5,0", f"num_decode_tokens must be {TOKENS} (got '0')"),
    ("1,5,-3", f"num_decode_tokens must be {TOKENS} (got '-3')"),
    ("1,5,1.5", f"num_decode_tokens must be {TOKENS} (got '1.5')"),
    ("1,\uff11\uff12,5", f"num_prefill_tokens must be {TOKENS} (got '\uff11\uff12')"),
    ("\u0661,5,5", "arrived_at must be a finite number of seconds, at most 1e12 in size (got '\u0661')"),
    ("1,5,1_000", f"num_decode_tokens must be {TOKENS} (got '1_000')"),
    ("1,5,16777217", f"num_decode_tokens must be {TOKENS} (got '16777217')"),
    ("1,5," + "9" * 400, f"num_decode_tokens must be {TOKENS} (got '" + "9" * 76 + "...)"),
    ("1,5", "the row must have 3 fields like the header (got 2)"),
    ("1,5,5,", "the row must have 3 fields like the header (got 4)"),
    ('1,5,"5', "the row must be a CSV row (unexpected end of data)"),
    ("soon,5,5", "arrived_at must be a finite number of seconds, at most 1e12 in size (got 'soon')"),
    ("nan,5,5", "arrived_at must be a finite number of seconds, at most 1e12 in size (got 'nan')"),
    ("1700000000000,5,5", "arrived_at must be a finite number of seconds, at most 1e12 in size (got '1700000000000')"),
])
def test_a_bad_row_is_refused_with_its_line_and_what_is_wrong(tmp_path: Path, row: str, problem: str) -> None:
    """The header is line 1 and the bad row comes third after it; milliseconds since 1970 are no seconds."""
    path = written(tmp_path, vidur("0,1,1", "0.5,2,2", row))
    assert refusal(path) == f"1 of 3 rows cannot be used: line 4, {problem}; skip them with --skip-bad-rows"
    trace = read_trace(path, skip_bad_rows=True)
    assert (len(trace), trace.skipped, trace.bad_rows) == (2, 1, (f"line 4, {problem}",))


@pytest.mark.parametrize("moment", [
    "yesterday", "", "2023-02-30 00:00:00", "2023-11-16", "NaT", "1.5", "2023-11-16 24:00:00", "9999-01-01 00:00:00",
    "2023-11-16 18:15:46 CET", "2023-11-16 18:15:46." + "1" * 19,
])
def test_a_moment_that_is_no_date_among_dates_is_a_bad_row(tmp_path: Path, moment: str) -> None:
    path = written(tmp_path, f"{AZURE}{moment},1,1\n")
    assert refusal(path) == (f"1 of 4 rows cannot be used: line 5, TIMESTAMP must be a date and time such as "
                             f"2023-11-16 18:15:46.68 (got {shown(moment)}); skip them with --skip-bad-rows")
    assert rows_of(read_trace(path, skip_bad_rows=True)) == rows_of(read_trace(written(tmp_path, AZURE)))


ODD = st.text(st.sampled_from("0123456789.,-+eE_ :TZ\n\u0667"), max_size=30)
MOMENT = st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)).map(lambda moment: moment.isoformat(" "))


@sampled
@given(st.lists(st.one_of(
    ODD, MOMENT, st.tuples(MOMENT, st.sampled_from(["Z", "+00:00", "-05:30", " ", "\n" + "2000-01-01 00:00:00"])).map(
        "".join), st.integers(), st.floats(), st.booleans(), st.none(), st.integers(1, 99).map(str)), max_size=8))
def test_a_value_is_read_alike_whatever_stands_beside_it(column: list[Any]) -> None:
    """Alone and in a column: the fast way and the way value by value."""
    assert np.array_equal(numbers(column), [numbers([each])[0] for each in column], equal_nan=True)
    alone = np.array([dates([each])[0] for each in column], dtype="M8[ns]")
    assert np.array_equal(dates(column), alone, equal_nan=True)


@sampled
@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)), min_size=1, max_size=8))
def test_dates_are_read_as_the_standard_library_reads_them(moments: list[datetime]) -> None:
    """Nanoseconds since 1970 from Python's own calendar."""
    since = [(moment - datetime(1970, 1, 1)) // timedelta(microseconds=1) * 1000 for moment in moments]
    for separator in "T ":
        assert dates([moment.isoformat(separator) for moment in moments]).view(np.int64).tolist() == since


def test_all_bad_rows_are_counted_and_the_first_three_quoted(tmp_path: Path) -> None:
    """5 bad rows in 1,000: lines 1 + 17 and so on, the short row among them in its place."""
    rows = [f"{i},5,5" for i in range(1, 1001)]
    rows[16], rows[19], rows[29], rows[99], rows[999] = "17,abc,5", "20,5", "30,5,nan", "100,-1,5", "oops"
    assert refusal(written(tmp_path, vidur(*rows))) == (
        f"5 of 1,000 rows cannot be used: line 18, num_prefill_tokens must be {TOKENS} (got 'abc'); line 21, the row "
        f"must have 3 fields like the header (got 2); line 31, num_decode_tokens must be {TOKENS} (got 'nan'); "
        "skip them with --skip-bad-rows")


def test_line_numbers_count_blank_lines_and_the_lines_inside_quotes(tmp_path: Path) -> None:
    """The header ends on line 2, a row covers lines 4 to 6, the bad rows begin on lines 7 and 9."""
    path = written(tmp_path, '"no\nte",in,out\n\n"a\nb\nc",5,5\n"d\ne",x,5\nf,5,y\n')
    assert refusal(path, columns=Columns("in", "out")) == (
        f"2 of 3 rows cannot be used: line 7, in must be {TOKENS} (got 'x'); line 9, out must be {TOKENS} (got 'y'); "
        "skip them with --skip-bad-rows")


@pytest.mark.parametrize("line", [CHUNK, CHUNK + 1, CHUNK + 2, 2 * CHUNK + 1, 2 * CHUNK + 2])
def test_line_numbers_stay_exact_across_chunks(tmp_path: Path, line: int) -> None:
    rows = [f"{i},5,5" for i in range(3 * CHUNK)]
    rows[line - 2] = "1,5,zero"
    assert refusal(written(tmp_path, vidur(*rows))).startswith(f"1 of {3 * CHUNK:,} rows cannot be used: line {line}, ")


def test_rows_after_a_field_beyond_the_csv_limit_are_still_read(tmp_path: Path) -> None:
    """Python's csv refuses fields of more than 131,072 characters; the row is bad, the next one is not."""
    path = written(tmp_path, vidur("1,5,5", f"2,{'9' * 200_000},5", "3,x,5", "4,6,6"))
    assert "line 3, the row must be a CSV row (field larger than field limit (131072)); line 4, num" in refusal(path)
    assert rows_of(read_trace(path, skip_bad_rows=True)) == [(0.0, 5, 5), (3.0, 6, 6)]


@pytest.mark.parametrize(("line", "problem"), [
    ("[1, 2]", "the row must be a JSON object"), ("{", "the row must be a JSON object"),
    ("[" * 100_000, "the row must be a JSON object"),
    ('{"timestamp": 1, "input_length": 5}', f"output_length must be {TOKENS} (got None)"),
    ('{"timestamp": 1, "input_length": true, "output_length": 1}', f"input_length must be {TOKENS} (got True)"),
    ('{"timestamp": 1, "input_length": [5], "output_length": 1}', f"input_length must be {TOKENS} (got [5])"),
    ('{"timestamp": 1, "input_length": ' + "9" * 400 + ', "output_length": 1}',
     f"input_length must be {TOKENS} (got " + "9" * 77 + "...)"),
    ('{"timestamp": 1, "input_length": ' + "9" * 5000 + ', "output_length": 1}', "the row must be a JSON object"),
    ('{"timestamp": NaN, "input_length": 5, "output_length": 1}',
     "timestamp must be a finite number of milliseconds, at most 1e15 in size (got nan)"),
    ('{"timestamp": 1e999, "input_length": 5, "output_length": 1}',
     "timestamp must be a finite number of milliseconds, at most 1e15 in size (got inf)"),
])
def test_a_bad_line_of_json_is_refused_with_its_number(tmp_path: Path, line: str, problem: str) -> None:
    path = written(tmp_path, MOONCAKE + "\n" + line + "\n")
    assert refusal(path) == f"1 of 3 rows cannot be used: line 4, {problem}; skip them with --skip-bad-rows"
    assert len(read_trace(path, skip_bad_rows=True)) == 2


def test_a_file_of_bad_rows_only_is_refused_even_when_they_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, vidur("1,x,5", "2,5,y"))
    said = (f"2 of 2 rows cannot be used: line 2, num_prefill_tokens must be {TOKENS} (got 'x'); "
            f"line 3, num_decode_tokens must be {TOKENS} (got 'y')")
    assert refusal(path) == refusal(path, skip_bad_rows=True) == said


def test_times_of_which_none_can_be_read_may_have_been_either_kind(tmp_path: Path) -> None:
    path = written(tmp_path, "p,o,t\n1,1,noon\n")
    assert refusal(path, columns=Columns("p", "o", "t")) == (
        "1 of 1 rows cannot be used: line 2, t must be a finite number of seconds, at most 1e12 in size, or a date and "
        "time such as 2023-11-16 18:15:46.68 (got 'noon')")


UNKNOWN = ("is in no known format{}: name its columns of prompt and output tokens, --prompt-column and "
           "--output-column, and of arrival times, --time-column (its columns are {})")


@pytest.mark.parametrize(("content", "problem"), [
    (b"", "is empty"),
    (b"\n  \n", "is empty"),
    (gzip.compress(b"", mtime=0), "is empty"),
    (vidur().encode(), "holds no requests"),
    (b"a,b,c\n1,2,3\n", UNKNOWN.format("", "a, b, c")),
    (b"1,2,3\n", UNKNOWN.format("", "1, 2, 3")),
    (b",,\n,\n", UNKNOWN.format("", "")),
    (b'"a,b', "must begin with the names of its columns (unexpected end of data)"),
    (b"x" * 500, UNKNOWN.format("", "x" * 197 + "...")),
    (VIDUR.encode() + b"\0", "must be text (it holds NUL bytes, as a binary file does)"),
    (VIDUR.encode("utf-16"), "must be UTF-8 text (got byte 0xff)"),
    (b"caf\xe9,1\n", "must be UTF-8 text (got byte 0xe9)"),
    (gzip.compress(VIDUR.encode(), mtime=0)[:-9], "must be a whole gzip file (it is cut off or damaged)"),
    (gzip.compress(VIDUR.encode(), mtime=0)[:-8] + b"\0" * 8, "must be a whole gzip file (it is cut off or damaged)"),
    (b"\x1f\x8b", "must be a whole gzip file (it is cut off or damaged)"),
    (b"{]", "must be JSON, an object a line or one list or object, or a CSV"),
    (VIDUR.replace("num_prefill_tokens", "num_decode_tokens").encode(), UNKNOWN.format(
        " (vidur without num_prefill_tokens)", "arrived_at, num_decode_tokens, num_decode_tokens")),
])
def test_a_file_that_is_no_trace_is_refused_on_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    assert refusal(written(tmp_path, content)) == problem


def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv") == "cannot be read: No such file or directory"
    assert refusal(tmp_path) == "cannot be read: Is a directory"
    with pytest.raises(FileError, match="cannot be read: not a file name"):
        read_trace("a\0b")


def test_a_column_that_is_missing_or_there_twice_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, "in,In,out\n1,1,1\n")
    assert refusal(path, columns=Columns("prompt", "out")) == 'has no column "prompt" (its columns are in, In, out)'
    assert refusal(path, columns=Columns("IN", "out")) == 'has more than one column "IN" (its columns are in, In, out)'
    assert len(read_trace(path, columns=Columns("In", "OUT"))) == 1


def trace_or_refusal(path: Path, skip: bool) -> Trace | FileError:
    """What comes of a file; nothing else may."""
    try:
        return read_trace(path, skip_bad_rows=skip)
    except FileError as error:
        return error


@examples(150)
@given(st.one_of(
    st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: VIDUR.encode() + tail),
    st.binary(max_size=100).map(lambda tail: AZURE.encode() + b"," + tail),
    st.text(st.sampled_from('0123456789.,-eE_ "\n\r:TZ+'), max_size=80).map(lambda tail: (AZURE + tail).encode()),
    st.text(st.sampled_from('{}[]":,0123456789.eE-ntrue \n'), max_size=80).map(lambda tail: (MOONCAKE + tail).encode()),
    st.text(st.sampled_from('{}[]":,0123456789.eE-ntrue \n'), max_size=80).map(lambda tail: ("{" + tail).encode()),
    st.binary(max_size=60).map(lambda tail: gzip.compress(VIDUR.encode(), mtime=0)[:-5] + tail),
))
def test_whatever_the_bytes_the_answer_is_a_trace_or_one_line(tmp_path_factory: pytest.TempPathFactory,
                                                              content: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp(), content, "any")
    for skip in (False, True):
        found = trace_or_refusal(path, skip)
        if isinstance(found, Trace):
            assert len(found) >= 1
            assert found.digest == hashlib.sha256(content).hexdigest()
        else:
            assert str(found).isprintable()


def long_trace(path: Path, rows: int) -> int:
    """A trace in Azure's format with requests every 0.1 s; the sum of its prompt tokens."""
    total, step = 0, 100_000
    with path.open("w") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for start in range(0, rows, step):
            numbers = np.arange(start, min(start + step, rows))
            moments = np.datetime_as_string(np.datetime64("2023-11-16T18:00:00.000") + 100 * numbers)
            prompt, output = numbers * 7919 % 4000 + 1, numbers * 104_729 % 1000 + 1
            total += int(prompt.sum())
            file.writelines(f"{a}0000,{b},{c}\n" for a, b, c in
                            zip(moments.tolist(), prompt.tolist(), output.tolist(), strict=True))
    return total


def bytes_per_row(path: Path, rows: int) -> tuple[Trace, float]:
    """The trace, and the most memory that reading it took, by row."""
    tracemalloc.start()
    trace = read_trace(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return trace, peak / rows


def test_reading_takes_the_memory_of_the_result_and_one_chunk(tmp_path: Path) -> None:
    """Kept while reading are 4 + 4 + 8 bytes a row; at the end 8 + 8 + 8, and meanwhile two more arrays of 8 for dates
    turned into seconds: at most 40 bytes. A chunk of 4,096 rows (three texts of 60 to 80 bytes each, twice over) and
    some blocks of 1 Mi characters come to less than 10 MB, 100 bytes for each of 100,000 rows. A list of all rows
    would take some 400.
    """
    path = tmp_path / "requests.csv"
    total = long_trace(path, 100_000)
    trace, bytes_ = bytes_per_row(path, 100_000)
    assert bytes_ < 40 + 100
    assert (len(trace), int(trace.prompt_tokens.sum()), trace.duration) == (100_000, total, 9_999.9)


@pytest.mark.slow
def test_ten_million_rows_are_read_in_bounded_memory(tmp_path: Path) -> None:
    """As above, at most 40 bytes a row and the 10 MB of a chunk."""
    path = tmp_path / "requests.csv"
    total = long_trace(path, 10_000_000)
    trace, bytes_ = bytes_per_row(path, 10_000_000)
    assert bytes_ < 40 + 1
    assert (len(trace), int(trace.prompt_tokens.sum()), trace.duration) == (10_000_000, total, 999_999.9)


def test_the_blocks_of_a_mooncake_trace_say_what_prompts_repeat(tmp_path: Path) -> None:
    """1,300 tokens in blocks 1, 2, 3; then 1, 2, 9; then 2, 3; then 1 alone, of 400 tokens: 0, 1,024, 0, 400 of 4,200
    repeat the beginning of an earlier prompt, block by block from the first.
    """
    blocks = [(1300, [1, 2, 3]), (1500, [1, 2, 9]), (1000, [2, 3]), (400, [1])]
    lines = [json.dumps({"timestamp": t, "input_length": length, "output_length": 5, "hash_ids": ids})
             for t, (length, ids) in enumerate(blocks)]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines))
    trace = read_trace(path)
    assert trace.repeated_tokens is not None
    assert trace.repeated_tokens.tolist() == [0, 1024, 0, 400]
    assert summarise(trace).repeated_share == pytest.approx(1424 / 4200)


def test_a_trace_that_does_not_say_its_blocks_has_no_share_of_repeats(tmp_path: Path) -> None:
    """One row without hashes, or with others than whole numbers, and nothing is said."""
    for ids in ({}, {"hash_ids": "ab"}, {"hash_ids": [0.5]}):
        rows = [{"timestamp": 0, "input_length": 9, "output_length": 5, "hash_ids": [1]},
                {"timestamp": 1, "input_length": 9, "output_length": 5, **ids}]
        path = tmp_path / "trace.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        assert read_trace(path).repeated_tokens is None
        assert summarise(read_trace(path)).repeated_share is None
