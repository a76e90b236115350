"""Deployments whose output lengths are predicted with an error: the keys, what is designed, said and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import answer, written

from fluid.errors import FileError
from fluidwait.deployment.deployment import Deployment, parse
from fluidwait.study.fingerprint import asked
from fluidwait.study.outcomes import Plan
from thresholds import wait
from verification import LogNormalError, Misclassified, Overestimate, Predicted
from verification.traffic.predicted_lengths import Predictor, seen_workload

TYPES = """
[replica]
kv_capacity = 137000
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
[[workload.type]]
name = "short"
prompt_tokens = 64
output_tokens = 20
rate = 60.0
[[workload.type]]
name = "long"
prompt_tokens = 64
output_tokens = 200
rate = 20.0
"""
LENGTHS = '[workload]\nlengths = "{lengths}"\n'


def text_of(prediction: str, lengths: str = "predicted") -> str:
    """The deployment with a line about its predictions."""
    table = f"[workload.prediction]\n{prediction}\n" if prediction else ""
    return TYPES.replace("[[workload", LENGTHS.format(lengths=lengths) + "[[workload", 1) + table


def read(text: str) -> Deployment:
    return parse(text.encode(), "mix.toml")


@pytest.mark.parametrize(("line", "predictor"), [
    ("sigma = 0.3", LogNormalError(0.3)),
    ("sigma = 0.3\nbias = 0.9", LogNormalError(0.3, 0.9)),
    ("ratio = 2", Overestimate(2.0)),
    ("misclassified = 0.1", Misclassified(0.1)),
])
def test_the_file_names_the_model_of_the_error(line: str, predictor: Predictor) -> None:
    """Requests arrive as ever, and are seen as the predictor says."""
    deployment = read(text_of(line))
    assert deployment.predictor == predictor
    assert deployment.traffic == Predicted(predictor)
    assert deployment.seen.rates.tolist() == seen_workload(deployment.workload, predictor).rates.tolist()


@pytest.mark.parametrize(("text", "words"), [
    (text_of("sigma = 0.3", "known"), ("workload.prediction", "lengths", "known")),
    (text_of(""), ("workload.prediction", "one of sigma", "none")),
    (text_of("sigma = 0.3\nratio = 2"), ("workload.prediction", "one of sigma")),
    (text_of("bias = 2"), ("workload.prediction", "one of sigma")),
    (text_of("ratio = 2\nbias = 2"), ("workload.prediction", "one of sigma")),
    (text_of("sigma = -1"), ("workload.prediction.sigma", "-1")),
    (text_of("ratio = 0.5"), ("workload.prediction.ratio", "at least 1", "0.5")),
    (text_of("misclassified = 1.5"), ("workload.prediction.misclassified", "at most 1", "1.5")),
    (text_of("sigma = 0.3", "guessed"), ("workload.lengths", "guessed")),
])
def test_what_cannot_be_is_refused_in_one_line(text: str, words: tuple[str, ...]) -> None:
    """The line names the file, the key, the requirement and the value."""
    with pytest.raises(FileError) as caught:
        read(text)
    line = str(caught.value)
    assert "\n" not in line
    for word in ("mix.toml", *words):
        assert word in line


def test_auto_takes_predicted_lengths_for_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guarantee must not rest on guesses: one window for the mix, as where lengths are unknown."""
    code, found = answer(capsys, "thresholds", written(tmp_path, text_of("sigma = 0.5")))
    same, unknown = answer(capsys, "thresholds", written(tmp_path, text_of("", "unknown")))
    assert code == same == 0
    assert "predicted" in found["why"]
    assert found["types"] == unknown["types"]


def test_a_policy_by_type_is_designed_for_the_mix_as_it_is_seen(tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    """Drawn anew by rates in 1 of 10 cases: rates stay, and 0.1 * 3/4 of the long quarter are taken for short ones."""
    text = text_of("misclassified = 0.1")
    deployment = read(text)
    assert deployment.taken_for_shorter == pytest.approx(0.1 * 0.75 * 0.25)
    code, found = answer(capsys, "thresholds", written(tmp_path, text), "--policy", "wait")
    assert "but 0.019 of all do" in found["why"]
    assert (code, found["overflow_probability"]) == (0, None)
    assert tuple(each["threshold"] for each in found["types"]) == wait(deployment.seen, deployment.replica).thresholds


@pytest.mark.parametrize(("line", "bounded"), [("misclassified = 0.2", False), ("ratio = 4", True)])
def test_what_a_policy_by_type_bounds_is_claimed_only_where_it_holds(
        line: str, bounded: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Simulated with errors: the bound is among the checks where nobody is ever taken for a shorter type."""
    code, found = answer(capsys, "verify", written(tmp_path, text_of(line)), "--policy", "paced", "--horizon", 60,
                         "--replications", 2)
    names = [check["name"] for check in found["checks"]]
    assert ("kv_peak at most" in names) == bounded
    assert found["verdict"] in ("stable", "undecided")
    assert code in (0, 1)


def test_another_error_is_another_question() -> None:
    """Cells of sweeps with different errors never mix."""
    plan = Plan(60.0, 2, 0)
    digests = {asked(read(text_of(line)), plan).digest for line in ("sigma = 0.3", "sigma = 0.4", "ratio = 2")}
    assert len(digests) == 3
