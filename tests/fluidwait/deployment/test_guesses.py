"""A refusal guesses the mistake: another format, a slip of the pen, another unit; of what is right nothing is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import ONE_TYPE, written

from fluid.errors import FileError
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import embedded, load, parse
from fluidwait.study.grid import Grid

GOOD = ONE_TYPE.format(rate=5.0)
YAML = "# mine\nreplica:\n  kv_capacity: 137000\n"
JSON = '{"replica": {"kv_capacity": 137000},\n "workload": {}}'


def refusal(text: str) -> str:
    with pytest.raises(FileError) as caught:
        parse(text.encode(), "mix.toml")
    line = str(caught.value)
    assert line.isprintable()
    return line


@pytest.mark.parametrize(("text", "guess"), [
    (YAML, "this looks like YAML; a deployment file is TOML"),
    ("---\nreplica: {}\n", "this looks like YAML"),
    (JSON, "this looks like JSON; a deployment file is TOML"),
    ("[\n{}]", "this looks like JSON"),
    ("prompt,output\n512,20\n", "this looks like a table; a trace is known by the ending of its name"),
    ("prompt;output\n512;20\n", "this looks like a table"),
])
def test_another_format_is_named(text: str, guess: str) -> None:
    """YAML, JSON and tables are told from TOML by how they begin."""
    assert f"; {guess}" in refusal(text)


@pytest.mark.parametrize(("old", "new", "guess"), [
    ("137000", "137,000", "is 137000 meant?"),
    ("137000", "137000 tokens", "numbers stand without a unit"),
    ("5.0", "5,5", "is 5.5 meant?"),
    ("0.0106", "10.6ms", "is 0.0106 meant? Seconds stand without a unit"),
    ("0.0106", ".0106", "a decimal point has digits on both sides"),
    ("512", "512;", "semicolons separate nothing: commas stand inside brackets, and each key on its line"),
    ("512", "512,", "a line ends without a comma"),
    ('"chat"', "chat", 'text stands in quotes: "chat"'),
    ("rate = 5.0", "rate: 5.0", "a key and its value have an equals sign between them"),
    ("rate = 5.0", "rate = None", "a key without a value is left out"),
    ("[[workload.type]]", "[workload.type]\n[workload.type]", "double brackets, [[workload.type]]"),
])
def test_a_slip_in_a_line_is_named(old: str, new: str, guess: str) -> None:
    """What is no TOML is mostly a number or a word written as elsewhere."""
    assert old in GOOD
    assert refusal(GOOD.replace(old, new, 1)).startswith("mix.toml: must be valid TOML: ")
    assert refusal(GOOD.replace(old, new, 1)).endswith(guess)


@pytest.mark.parametrize(("old", "new", "guess"), [
    ("137000", "137000.0", "is 137000 meant? A whole number has neither a point nor an exponent"),
    ("137000", "59.5", "are these GB? An engine prints the tokens when it starts"),
    ("137000", '"60 GiB"', "it counts tokens, not bytes: an engine prints them when it starts"),
    ("137000", "99999999999999999999", "TOML's integers have 64 bits"),
    ("5.0", '"5"', "numbers stand without quotes"),
    ("5.0", "1e400", "must have numbers that fit a double, up to 1.8e308 (got 1e400)"),
    ("4.013e-7", "4e-400", "(got 4e-400)"),
    ("kv_capacity = 137000", 'model = "llama-2-7b"\ngpu = "a100-80gb"\nmemory_fraction = 90',
     "is 0.9 meant, which is 90%?"),
    ("kv_capacity = 137000", 'model = "llama-2-7b"\ngpu = "a100-80gb"\nactivation_memory = 4096',
     "is activation_memory 4, in GiB?"),
    ("rate = 5.0", "rate = 5.0\n[target]\noverflow_probability = 5", "is 0.05 meant, which is 5%?"),
    ("rate = 5.0", "rate = 5.0\nshared_prefix = { tokens = 9, hit = 60 }", "is 0.6 meant, which is 60%?"),
    ("kv_capacity", "gpu_memory_utilization = 0.9\nkv_capacity", 'did you mean "memory_fraction"?'),
    ("rate = 5.0", "qps = 5.0", 'did you mean "rate"?'),
])
def test_a_value_in_another_form_or_unit_is_guessed(old: str, new: str, guess: str) -> None:
    """The guess stands behind the requirement and the value."""
    assert refusal(GOOD.replace(old, new, 1)).endswith(guess)


@pytest.mark.parametrize(("old", "new", "guess"), [
    ("0.0106", "10.6", "overhead makes every iteration last 10.6 s: are these milliseconds (0.0106)?"),
    ("4.013e-7", "0.4", "last 5.48e+04 s: are these microseconds (4e-07)?"),
    ("4.013e-7", "4e-4", "last 54.8 s: are these milliseconds (4e-07)?"),
    ("4.013e-7", "4e-7\nper_prefill_token = 51", "are these microseconds (5.1e-05)?"),
    ("137000", "60", "60 tokens, is less than the shortest request has, 532: are these GB?"),
])
def test_a_legal_value_that_no_deployment_has_is_asked_about(
        old: str, new: str, guess: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, beside the answer; from Python it is a remark of the deployment."""
    file = written(tmp_path, GOOD.replace(old, new, 1))
    (remark,) = load(file).remarks
    assert guess.replace("5.48e+04", "54,800") in remark or guess in remark
    assert status(["solve", str(file), "--json"]) == 1
    assert capsys.readouterr().err == f"fluidwait: {file}: {remark}\n"


def test_nothing_is_asked_about_what_deployments_have() -> None:
    """Neither of the built-in one, nor of rounds of one second on a small cache."""
    rounds = GOOD.replace("137000", "900").replace("0.0106", "1.0").replace("4.013e-7", "0.0").replace("512", "30")
    assert (embedded().remarks, parse(rounds.encode(), "rounds.toml").remarks) == ((), ())


def test_a_deployment_in_json_is_no_trace(tmp_path: Path) -> None:
    """Its name says trace; its keys say deployment."""
    path = tmp_path / "mix.json"
    path.write_text(JSON, encoding="utf-8")
    with pytest.raises(FileError, match="this looks like JSON; a deployment file is TOML"):
        load(path)


@pytest.mark.parametrize(("arguments", "guess"), [
    (["--horizon", "1h"], "is 3600 meant? Seconds stand without a unit"),
    (["--horizon", "3,600"], "is 3600 meant?"),
    (["--replications", "10 runs"], "numbers stand without a unit"),
    (["--policy", "pace"], 'did you mean "paced"?'),
])
def test_a_flag_guesses_too(arguments: list[str], guess: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same questions, behind the same kind of line."""
    assert status(["verify", *arguments]) == 2
    assert capsys.readouterr().err.endswith(f"; {guess}\n")


@pytest.mark.parametrize(("rates", "policies", "guess"), [
    ("5;10", "paced", "several stand with commas between them"), ("5 10", "paced", "several stand with commas"),
    ("5/s,6", "paced", "numbers stand without a unit"), ("5", "greedy;paced", "several stand with commas between them"),
    ("5", "greedi", 'did you mean "greedy"?')])
def test_lists_are_separated_by_commas(rates: str, policies: str, guess: str) -> None:
    """Semicolons and blanks between rates or names are seen."""
    with pytest.raises(ValueError, match=r"--rates|--policies") as caught:
        Grid.read(rates, policies)
    assert guess in str(caught.value)
