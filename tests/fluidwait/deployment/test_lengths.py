"""Laws of lengths in a deployment file: read, refused in one line, and served end to end."""

import math
from pathlib import Path

import pytest
from command_line import answer, written

from fluid import Lengths, Workload
from fluid.errors import FileError
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import parse

REPLICA = """
[replica]
kv_capacity = 137000
max_model_len = 10240
iteration_time = { overhead = 0.0106, per_kv_token = 4.013e-7 }
"""
CHAT = """
[[workload.type]]
name = "chat"
prompt_tokens = { lognormal = { mean = 1500, p95 = 4000 }, max = 8192 }
output_tokens = { geometric = { mean = 300 }, max = 2048 }
rate = 2.0
"""
PROMPT = "{ lognormal = { mean = 1500, p95 = 4000 }, max = 8192 }"


def test_a_law_becomes_types_with_its_means() -> None:
    """The workload is that of the laws in Python, at the rate of the file; the report keeps the laws."""
    read = parse((REPLICA + CHAT).encode(), "mix.toml")
    prompt, output = Lengths.lognormal(mean=1500, p95=4000, max=8192), Lengths.geometric(mean=300, max=2048)
    assert read.workload == Workload.from_lengths(prompt, output, 2.0, "chat")
    assert read.rate == pytest.approx(2.0)
    assert read.workload.names[0].startswith("chat ")
    assert read.mix.laws[0].pairs.prompt.mean == prompt.mean
    half = read.at(1.0)
    assert half.workload.rates == pytest.approx(read.workload.rates / 2)
    assert half.mix.laws == read.mix.laws


def test_numbers_and_laws_stand_beside_each_other() -> None:
    """A type with numbers is the type it was; `bins` is what each pair of laws may have."""
    number = '[[workload.type]]\nname = "short"\nprompt_tokens = 64\noutput_tokens = { fixed = 20 }\nrate = 3\n'
    read = parse((REPLICA + "[workload]\nbins = 100\n" + CHAT + number).encode(), "mix.toml")
    assert len(read.workload) <= 101
    assert read.workload.names[-1] == "short 64+20"
    assert read.rate == pytest.approx(5.0)


def test_a_prefix_is_found_by_every_length_of_a_law() -> None:
    """Of each pair the share that hits finds the tokens; the prefix is shorter than the shortest prompt."""
    law = PROMPT.replace("max", "min = 200, max")
    text = REPLICA + CHAT.replace(PROMPT, law) + 'shared_prefix = { tokens = 160, hit = 0.5 }\n'
    workload = parse(text.encode(), "mix.toml").workload
    assert workload.rates[workload.cached_prefix == 160].sum() == pytest.approx(1.0)
    with pytest.raises(FileError, match=r"shared_prefix.tokens must be a whole number of tokens from 1 to 199"):
        parse(text.replace("tokens = 160", "tokens = 300").encode(), "mix.toml")


@pytest.mark.parametrize(("old", "new", "key", "problem"), [
    (PROMPT, "{ max = 100 }", "prompt_tokens", "must hold one of lognormal, geometric, uniform, fixed (got none)"),
    (PROMPT, "{ fixed = 9, geometric = { mean = 3 } }", "prompt_tokens", "(got geometric, fixed)"),
    (PROMPT, "{ fixed = 9, max = 20 }", "prompt_tokens.max", "must stand beside lognormal or geometric"),
    ("p95 = 4000", "p95 = 1000", "prompt_tokens.lognormal.p95", "from 1500, the mean, to 5802.2"),
    ("p95 = 4000", "p95 = 9000", "prompt_tokens.lognormal.p95", "no log-normal law has one further off"),
    (", p95 = 4000", "", "prompt_tokens.lognormal", "must be two of mean, median, p95, p99, cv (got 'mean')"),
    ("p95 = 4000", "p90 = 4000", "prompt_tokens.lognormal.p90", "is not a known key"),
    ("mean = 1500", "mean = -1", "prompt_tokens.lognormal.mean", "must be a positive finite number"),
    ("max = 8192", "max = 0", "prompt_tokens.max", "must be a whole number of tokens from 1"),
    ("max = 8192", "max = 8192.0", "prompt_tokens.max", "is 8192 meant?"),
    ("max = 8192", "max = 9000", "prompt_tokens.+.output_tokens", "at most 10,240, the replica's max_model_len"),
    ("{ geometric = { mean = 300 }, max = 2048 }", "{ geometric = { mean = 300 } }", "prompt_tokens.+.output_tokens",
     "(got 14399)"),  # 8192 and ln(1e-9) / ln(1 - 1/300), rounded up
    ("{ geometric = { mean = 300 }, max = 2048 }", "{ uniform = { min = 9, max = 3 } }", "output_tokens.uniform.max",
     "from 9"),
    ("{ geometric = { mean = 300 }, max = 2048 }", "{ geometric = {} }", "output_tokens.geometric.mean", "is missing"),
    ("{ geometric = { mean = 300 }, max = 2048 }", "[3]", "output_tokens", "or a law of lengths"),
    ("{ geometric = { mean = 300 }, max = 2048 }", "0", "output_tokens", "from 1 to"),
])
def test_what_no_law_has_is_refused_in_one_line(old: str, new: str, key: str, problem: str) -> None:
    """The line names the key as it stands in the file, the requirement and the value found."""
    assert old in CHAT
    with pytest.raises(FileError) as caught:
        parse((REPLICA + CHAT.replace(old, new)).encode(), "mix.toml")
    line = str(caught.value)
    assert line.startswith(f"mix.toml: workload.type[0].{key} ")
    assert problem in line
    assert "\n" not in line


def test_bins_without_a_law_are_refused() -> None:
    """Numbers are types already; too few bins for two laws are too few."""
    numbers = CHAT.replace(PROMPT, "5").replace("{ geometric = { mean = 300 }, max = 2048 }", "6")
    with pytest.raises(FileError, match=r"workload.bins must go with workload.trace, or with a law of lengths"):
        parse((REPLICA + "[workload]\nbins = 10\n" + numbers).encode(), "mix.toml")
    with pytest.raises(FileError, match=r"workload.bins must be a whole number of types from 9"):
        parse((REPLICA + "[workload]\nbins = 8\n" + CHAT).encode(), "mix.toml")


def test_the_commands_take_laws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`solve`, `thresholds` and `verify` serve them and say what they amount to; 4 standard errors of tokens."""
    file = written(tmp_path, REPLICA + "[workload]\nbins = 90\n" + CHAT)
    code, found = answer(capsys, "solve", file)
    law = found["lengths"][0]["prompt_tokens"]
    assert code == 0
    assert law["stated_mean"] == pytest.approx(1500)
    assert law["mean"] < 1500
    assert 0 < law["clipped"] < 0.01
    assert abs(found["lengths"][0]["kv_work_error"]) < 1e-9
    tokens = 300 * (1 - (1 - 1 / 300) ** 2048)
    assert found["throughput"] == pytest.approx(2 * tokens)
    assert status(["solve", str(file)]) == 0
    assert "chat: prompts lognormal, mean 1500, p95 4000: 1 to 8,192 tokens" in capsys.readouterr().out
    code, design = answer(capsys, "thresholds", file)
    assert code == 0
    assert design["feasible"]
    code, run = answer(capsys, "verify", file, "--horizon", 400, "--replications", 6)
    assert run["verdict"] == "stable"
    # tokens of a run: 800 requests on average, E R^2 = 2 E R^2 of a geometric law; some finish after the end
    error = tokens * math.sqrt(2 * 800 / 6) / 400
    assert 2 * tokens * (1 - 12 / 400) - 4 * error < run["throughput"]["mean"] < 2 * tokens + 4 * error
