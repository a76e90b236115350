"""Everything a deployment file cannot mean is refused in one line that names the file, the key and the value."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from fluid import FluidwaitError, solve
from fluid.errors import FileError
from fluidwait.deployment.deployment import load, parse
from fluidwait.deployment.toml import LARGEST_FILE, LONGEST_TOML_LINE
from verification.experiments.targets.names import DELAYS

REPLICA = """
[replica]
kv_capacity = 137000
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
"""
TYPES = """
[[workload.type]]
name = "chat"
prompt_tokens = 512
output_tokens = 20
rate = 20.0
[[workload.type]]
name = "summary"
prompt_tokens = 2000
output_tokens = 300
rate = 1
"""
GOOD = REPLICA + TYPES
A100 = '[replica]\nmodel = "llama-2-7b"\ngpu = "a100-80gb"\n'


def changed(old: str, new: str, text: str = GOOD) -> str:
    """The text with the first `old` replaced, which must be there."""
    assert old in text
    return text.replace(old, new, 1)


def replica_key(line: str) -> str:
    return changed("kv_capacity = 137000", "kv_capacity = 137000\n" + line)


def prefix_key(value: str) -> str:
    return changed("rate = 20.0", "rate = 20.0\nshared_prefix = " + value)


def refusal(text: str | bytes, source: str = "mix.toml") -> FileError:
    with pytest.raises(FileError) as caught:
        parse(text.encode() if isinstance(text, str) else text, source)
    return caught.value


REFUSALS = [
    # wrong types
    (changed("rate = 20.0", 'rate = "20"'), "workload.type[0].rate", "'20'"),
    (changed("rate = 1\n", "rate = true\n"), "workload.type[1].rate", "true"),
    (changed("= 512", "= true"), "workload.type[0].prompt_tokens", "true"),
    (changed("= 512", "= 512.0"), "workload.type[0].prompt_tokens", "512.0"),
    (changed("= 137000", "= 1979-05-27"), "replica.kv_capacity", "1979-05-27"),
    (changed('"chat"', "7"), "workload.type[0].name", "7"),
    (changed('"chat"', r'"a\nb"'), "workload.type[0].name", r"'a\nb'"),
    (changed('"chat"', '""'), "workload.type[0].name", "''"),
    (replica_key("prefill = 512"), "replica.prefill", "512"),
    (replica_key('prefill = "half"'), "replica.prefill", "'half'"),
    (replica_key('prefill = { chunk = "a" }'), "replica.prefill.chunk", "'a'"),
    (changed("[replica.iteration_time]", "[other]\nx=1\n[replica.iteration_time]"), "other", "a table"),
    ("workload = 3\n" + REPLICA, "workload", "3"),
    ("replica = []\n" + TYPES, "replica", "an empty array"),
    (REPLICA + "[workload]\ntype = 3", "workload.type", "3"),
    ("schema = 2\n" + GOOD, "schema", "2"),
    ("schema = true\n" + GOOD, "schema", "true"),
    ("schema = 0\n" + GOOD, "schema", "0"),
    ("schema = -7\n" + GOOD, "schema", "-7"),
    # out of range
    (changed("20.0", "0"), "workload.type[0].rate", "0.0"),
    (changed("20.0", "-2.0"), "workload.type[0].rate", "-2.0"),
    (changed("20.0", "nan"), "workload.type[0].rate", "nan"),
    (changed("20.0", "inf"), "workload.type[0].rate", "inf"),
    (changed("20.0", "5e-324"), "workload.type[0].rate", "5e-324"),
    (changed("20.0", "1e13"), "workload.type[0].rate", "10000000000000.0"),
    (changed("0.0106", "1e14"), "replica.iteration_time.overhead", "100000000000000.0"),
    (changed("4.013e-7", "1e-300"), "replica.iteration_time.per_kv_token", "1e-300"),
    (changed("20.0", "1" + "0" * 400), "workload.type[0].rate", "an integer of 1329 bits"),
    (GOOD + "[target]\nhorizon = 1e300", "target.horizon", "1e+300"),
    (GOOD + "[[workload.window]]\nduration = 1e-13\nscale = 1.0", "workload.window[0].duration", "1e-13"),
    (changed("= 512", "= 0"), "workload.type[0].prompt_tokens", "0"),
    (changed("= 300", "= 99999999999999999999"), "workload.type[1].output_tokens", "an integer of 67 bits"),
    (changed("= 300", "= 0x" + "f" * 900), "workload.type[1].output_tokens", "an integer of 3600 bits"),
    (changed("20.0", "0x" + "f" * 3900), "workload.type[0].rate", "an integer of 15600 bits"),
    (changed("137000", "-1"), "replica.kv_capacity", "-1"),
    (changed("0.0106", "0.0"), "replica.iteration_time.overhead", "0.0"),
    (changed("4.013e-7", "-inf"), "replica.iteration_time.per_kv_token", "-inf"),
    (replica_key("block = 0"), "replica.block", "0"),
    (replica_key("prefill = { chunk = 0 }"), "replica.prefill.chunk", "0"),
    (replica_key('first_token = "last"'), "replica.first_token", "'last'"),
    (replica_key("max_num_seqs = 0"), "replica.max_num_seqs", "0"),
    (replica_key("max_num_batched_tokens = 0"), "replica.max_num_batched_tokens", "0"),
    (replica_key("max_num_seqs = 9\nmax_num_batched_tokens = 8"), "replica.max_num_batched_tokens", "8"),
    (replica_key("attention_window = -1"), "replica.attention_window", "-1"),
    (replica_key("attention_window = 9\nwindowed_layers = { windowed = 3, layers = 2 }"),
     "replica.windowed_layers.windowed", "3"),
    (replica_key("attention_window = 9\nwindowed_layers = [1, 2]"), "replica.windowed_layers", "an array"),
    (replica_key("windowed_layers = { windowed = 1, layers = 2 }"), "replica.windowed_layers", "(1, 2)"),
    (replica_key("state = -1"), "replica.state", "-1"),
    (prefix_key("{ tokens = 0, hit = 0.5 }"), "workload.type[0].shared_prefix.tokens", "0"),
    (prefix_key("{ tokens = 512, hit = 0.5 }"), "workload.type[0].shared_prefix.tokens", "512"),
    (prefix_key("{ tokens = 400, hit = 1.5 }"), "workload.type[0].shared_prefix.hit", "1.5"),
    (prefix_key("{ tokens = 400, hit = 0.5, name = 7 }"), "workload.type[0].shared_prefix.name", "7"),
    (prefix_key("{ tokens = 400, hits = 0.5 }"), "workload.type[0].shared_prefix.hits", "0.5"),
    (prefix_key("0.5"), "workload.type[0].shared_prefix", "0.5"),
    (prefix_key("{ tokens = 400, hit = 0.5 }").replace("137000", "300"), "workload.shared_prefix", "400"),
    (GOOD + "[target]\nhorizon = 0", "target.horizon", "0.0"),
    (GOOD + "[target]\noverflow_probability = 1.0", "target.overflow_probability", "1.0"),
    (GOOD + "[target]\noverflow_probability = 0.0", "target.overflow_probability", "0.0"),
    (REPLICA + '[workload]\nlengths = "guessed"\n' + TYPES, "workload.lengths", "'guessed'"),
    (REPLICA + "[workload]\ntype = []", "workload.type", "an empty array"),
    (changed('"summary"', '"chat"'), "workload.type[1].name", "'chat'"),
    (replica_key('prefill = "decode-only"\nfirst_token = "prefill"').replace("= 300", "= 1"),
     "workload.type[1].output_tokens", "1"),
    # pieces
    (changed("overhead = 0.0106\nper_kv_token = 4.013e-7", "pieces = []"), "replica.iteration_time.pieces",
     "an empty array"),
    (changed("per_kv_token = 4.013e-7", "pieces = [{overhead = 1.0, per_kv_token = 1.0}]"),
     "replica.iteration_time.pieces", "0.0106"),
    (changed("overhead = 0.0106\nper_kv_token = 4.013e-7", "pieces = [{overhead = -1.0, per_kv_token = 1.0}]"),
     "replica.iteration_time.pieces[0].overhead", "-1.0"),
    # the catalogue
    (changed("llama-2-7b", "gpt-5", A100) + TYPES, "replica.model", "'gpt-5'"),
    (changed("llama-2-7b", "no/config.json", A100) + TYPES, "replica.model", "'no/config.json'"),
    (changed("a100-80gb", "a100-80g", A100) + TYPES, "replica.gpu", "'a100-80g'"),
    (A100 + "memory_fraction = 1.5\n" + TYPES, "replica.memory_fraction", "1.5"),
    (A100 + "tensor_parallel = 3\n" + TYPES, "replica.tensor_parallel", "3"),
    (A100 + 'kv_dtype = "int4"\n' + TYPES, "replica.kv_dtype", "'int4'"),
    (A100 + "activation_memory = -1.0\n" + TYPES, "replica.activation_memory", "-1.0"),
    (A100 + 'weight_dtype = "float8"\n' + TYPES, "replica.weight_dtype", "'float8'"),
    (changed("llama-2-7b", "llama-2-70b", A100) + TYPES, "replica.tensor_parallel", "1"),
    (replica_key("tensor_parallel = 2"), "replica.tensor_parallel", "2"),
    # what is not built yet, and what goes only with it
    (REPLICA + '[workload]\ntrace = "requests.csv"\nrate = 70.0', "workload.trace", "'requests.csv'"),
    (REPLICA + "[workload]\nrate = 70.0\n" + TYPES, "workload.rate", "70.0"),
]


@pytest.mark.parametrize(("text", "key", "value"), REFUSALS)
def test_a_value_that_cannot_be_used_is_refused_in_one_line_with_the_file_the_key_and_the_value(text, key, value):
    error = refusal(text)
    line = str(error)
    assert error.key == key
    assert line.startswith(f"mix.toml: {key} ")
    assert f"(got {value})" in line
    assert line.isprintable()
    assert not re.search(r"pydantic|validation|Input should|type=", line)


@pytest.mark.parametrize(("text", "key", "requirement"), [
    (GOOD.replace("rate = 20.0", ""), "workload.type[0].rate", "requests/s"),
    (GOOD.replace("prompt_tokens = 512", ""), "workload.type[0].prompt_tokens", "tokens"),
    (TYPES, "replica", "model and gpu"),
    (REPLICA, "workload", "[[workload.type]]"),
    (REPLICA + "[workload]", "workload.type", "[[workload.type]]"),
    ("[replica]" + TYPES, "replica.kv_capacity", "replica.model and replica.gpu"),
    ("[replica]\nkv_capacity = 9" + TYPES, "replica.iteration_time", "seconds"),
    (GOOD.replace("overhead = 0.0106", ""), "replica.iteration_time.overhead", "seconds"),
    (GOOD.replace("per_kv_token = 4.013e-7", ""), "replica.iteration_time.per_kv_token", "seconds per token"),
    (A100.replace('gpu = "a100-80gb"', "") + TYPES, "replica.gpu", "model and gpu"),
    (A100.replace('model = "llama-2-7b"', "") + TYPES, "replica.model", "model and gpu"),
    (replica_key("prefill = {}"), "replica.prefill.chunk", "tokens"),
])
def test_a_missing_key_is_named_with_what_it_must_be(text, key, requirement):
    line = str(refusal(text))
    assert line.startswith(f"mix.toml: {key} is missing: ")
    assert requirement in line
    assert line.isprintable()


@pytest.mark.parametrize(("text", "key", "hint"), [
    (changed("rate = 20.0", "rat = 20.0"), "workload.type[0].rat", 'did you mean "rate"?'),
    (changed("kv_capacity", "kv_capasity"), "replica.kv_capasity", 'did you mean "kv_capacity"?'),
    (GOOD + "[targets]\nhorizon = 1.0", "targets", 'did you mean "target"?'),
    (GOOD + "[target]\ncolour = 1", "target.colour",
     f"known here: horizon, overflow_probability, confidence, goodput, share, {', '.join(DELAYS)}"),
    (replica_key("prefill = { chunks = 1 }"), "replica.prefill.chunks", 'did you mean "chunk"?'),
    (GOOD + '"a\\nb" = 1', r'workload.type[1]."a\nb"',
     "known here: name, prompt_tokens, output_tokens, rate, shared_prefix"),
])
def test_an_unknown_key_is_refused_with_the_nearest_known_one(text, key, hint):
    line = str(refusal(text))
    assert line.startswith(f"mix.toml: {key} is not a known key (got ")
    assert line.endswith(hint)
    assert line.isprintable()


@pytest.mark.parametrize(("text", "key", "hint"), [
    (changed("llama-2-7b", "llama2-7b", A100) + TYPES, "replica.model", 'did you mean "llama-2-7b"? (got'),
    (changed("a100-80gb", "a100", A100) + TYPES, "replica.gpu", 'did you mean "a100-40gb" or "a100-80gb"? (got')])
def test_an_unknown_model_or_gpu_is_refused_with_the_nearest_known_ones(text, key, hint):
    line = str(refusal(text))
    assert line.startswith(f"mix.toml: {key} must be ")
    assert hint in line


@pytest.mark.parametrize(("data", "problem"), [
    (b"[replica\n", "line 1"),
    (b"[replica]\nkv_capacity = \n", "line 2"),
    (b"a = 1\na = 2\n", "line 2"),
    (b"\xff\xfe[\x00", "byte 0xff at offset 0"),
    (b"a = " + b"9" * 3900, "known key"),
    (b"a = '\x00'", "line 1"),
    (b"a = " + b"[" * 3900, "nested too deeply"),
    (b"a = " + b"[\n" * 3000, "nested too deeply"),
    (b"a." * LONGEST_TOML_LINE + b"a = 1", "(line 1 has 8,005)"),
    (b"a." * (LONGEST_TOML_LINE // 2 - 3) + b"a = 1", "a is not a known key"),
])
def test_a_file_that_is_not_toml_is_refused_with_the_place(data, problem):
    line = str(refusal(data))
    assert problem in line
    assert line.startswith("mix.toml: ")
    assert line.isprintable()


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path):
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none.toml", "No such file"),
                         (tmp_path / "a\0b", "not a file name"), (tmp_path / ("x" * 300), "File name too long")):
        with pytest.raises(FileError, match=reason) as caught:
            load(path)
        assert str(caught.value).isprintable()


def test_a_file_too_long_to_be_a_deployment_is_refused_unread(tmp_path):
    path = tmp_path / "long.toml"
    path.write_bytes(b"#" * (LARGEST_FILE + 1))
    with pytest.raises(FileError, match="at most 1,048,576 bytes"):
        load(path)


def test_a_file_name_that_does_not_print_is_escaped():
    assert str(refusal("x", "a\nb.toml")).startswith(r"a\nb.toml: must be valid TOML")


def test_a_refusal_is_a_value_error_of_the_one_tree_and_survives_pickling():
    error = refusal(changed("20.0", "-2.0"))
    assert isinstance(error, FluidwaitError)
    assert isinstance(error, ValueError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def parse_or_refuse(data: bytes) -> None:
    """Parse, or refuse in one printable line; anything else is a failure."""
    line = "mix.toml: "
    try:
        parse(data, "mix.toml")
    except FileError as error:
        line = str(error)
    assert line.startswith("mix.toml: ")
    assert line.isprintable()


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_garbage_is_refused_and_nothing_else_happens(data):
    parse_or_refuse(data)


SCALARS = st.sampled_from(["0", "-1", "20", "1e300", "1e-300", "nan", "-inf", "true", '"known"', "[]", "{}", "[1]",
                           "{ chunk = 3 }", "9223372036854775808", "1979-05-27", '"whole"', "'''\n'''", "1.5"])
LINES = [line for line in GOOD.splitlines() if "=" in line]


@given(st.sampled_from(LINES), SCALARS)
def test_any_value_in_place_of_a_good_one_is_used_or_refused(line, value):
    parse_or_refuse(changed(line, line.split("=")[0] + "= " + value).encode())


@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(max_size=5))
def test_a_good_file_with_a_piece_cut_out_or_put_in_is_used_or_refused(start, length, inserted):
    parse_or_refuse((GOOD[:start] + inserted + GOOD[start + length:]).encode("utf-8", "replace"))


def test_a_number_that_no_deployment_has_is_refused_with_the_range():
    assert str(refusal(changed("0.0106", "1e14"))) == (
        "mix.toml: replica.iteration_time.overhead must be a positive number of seconds, from 1e-12 to 1e12 in size if "
        "it is not 0 (got 100000000000000.0)")


ENDS = st.sampled_from(["1e-12", "1e-6", "1.0", "1e6", "1e12", "0"])


@examples(60)
@given(st.sampled_from([line for line in LINES if "rate" in line or "overhead" in line or "per_" in line]), ENDS, ENDS)
def test_at_the_ends_of_the_range_a_deployment_has_an_equilibrium_or_is_refused(line, value, rate):
    """No product of such numbers leaves the floats: warnings are errors here."""
    text = changed(line, line.split("=")[0] + "= " + value)
    try:
        deployment = parse(text.replace("rate = 1\n", f"rate = {rate}\n").encode(), "mix.toml")
    except FileError:
        return
    found = solve(deployment.workload, deployment.replica)
    assert found.inventory is None or np.isfinite(found.inventory).all()
    assert found.inventory is not None or not found.stable
