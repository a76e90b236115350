"""The decoder behind benchmarks/measure_iteration_time.py attends causally; its file has the columns and goes on."""

import csv
import sys
from importlib import import_module
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from fluid.hardware.model import Model  # noqa: E402 - only where torch is

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
TINY = {"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 64}
MODEL = Model("tiny", 2, 32, 4, 2, 8, 48, 64, qkv_bias=True, qk_norm=True)
FLAGS = ("--layers", "2", "--batches", "1,2", "--contexts", "8,16", "--prefills", "4,8", "--repeats", "2")
CELLS = 4 + 3 * 2 + 1  # two sizes of two contexts; 1, 2 and 4 prompts of two lengths; one mixture


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield import_module("measure_iteration_time")
    for name in ("measure_iteration_time", "torch_decoder"):
        sys.modules.pop(name, None)


@pytest.fixture
def flags(tmp_path):
    (tmp_path / "config.json").write_text(str(TINY).replace("'", '"'), encoding="utf-8")
    return ["--config", str(tmp_path / "config.json"), "--out", str(tmp_path / "batches.csv"), *FLAGS]


@pytest.fixture
def decoder(measure):
    with torch.inference_mode():
        made = measure.Decoder(MODEL, "cpu", torch.float32, positions=16)
        made.allocate(64)
        yield made


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def logits(decoder, batch, tokens):
    _, positions, last = decoder.inputs(batch)
    return decoder.iteration(batch, tokens.flatten(), positions, last)


def test_decoding_with_the_cache_gives_the_logits_of_reading_everything_again(measure, decoder):
    """Two prompts of 6 tokens in rows with room for 10, then tokens 7 and 8 of each: as prompts of 7 and 8 tokens."""
    tokens = torch.randint(64, (2, 8))
    whole = {length: logits(decoder, measure.Batch(prompts=2, length=length), tokens[:, :length]) for length in (7, 8)}
    logits(decoder, measure.Batch(prompts=2, length=6, room=10), tokens[:, :6])
    for length in (7, 8):
        decoded = logits(decoder, measure.Batch(decodes=2, context=length, room=10), tokens[:, length - 1])
        torch.testing.assert_close(decoded, whole[length], rtol=1e-4, atol=1e-5)


def test_a_later_token_changes_no_earlier_one(measure, decoder):
    """With the last of 6 tokens replaced its logits differ, and the keys and values of the first 5 do not."""
    tokens = torch.randint(63, (1, 6))
    other = torch.cat([tokens[:, :5], tokens[:, 5:] + 1], dim=1)
    batch = measure.Batch(prompts=1, length=6, room=8)
    first = logits(decoder, batch, tokens)
    kept = [part[:5].clone() for layer in decoder.cache for part in layer]
    assert not torch.allclose(first, logits(decoder, batch, other))
    for before, after in zip(kept, (part[:5] for layer in decoder.cache for part in layer), strict=True):
        torch.testing.assert_close(before, after)


def test_decodes_and_a_prompt_in_one_iteration_are_what_they_are_apart(measure, decoder):
    prompts, new, prompt = torch.randint(64, (2, 6)), torch.randint(64, (2,)), torch.randint(64, (5,))
    logits(decoder, measure.Batch(prompts=2, length=6, room=10), prompts)
    alone = torch.cat([logits(decoder, measure.Batch(decodes=2, context=7, room=10), new)])
    together = logits(decoder, measure.Batch(2, 7, 1, 5, room=10), torch.cat([new, prompt]))
    fresh = logits(decoder, measure.Batch(prompts=1, length=5), prompt)
    torch.testing.assert_close(together, torch.cat([alone, fresh]), rtol=1e-4, atol=1e-5)


def test_the_file_has_a_plain_header_and_a_row_for_every_batch(measure, flags, capsys):
    assert measure.main(flags) == 0
    measured = rows(flags[3])
    assert list(measured[0])[:5] == ["num_decode", "kv_tokens_decode", "num_prefill", "prefill_tokens", "batch_time_s"]
    assert len(measured) == CELLS
    assert all(float(row["batch_time_s"]) > 0 for row in measured)
    assert [int(measured[-1][column]) for column in measure.MEASURED] == [2, 32, 1, 8]
    assert "mean nothing" in capsys.readouterr().err


def test_a_run_that_was_cut_short_goes_on_where_it_stopped(measure, flags):
    """Five lines stay, the header among them, and half of a sixth: the rest is measured anew."""
    measure.main(flags)
    lines = Path(flags[3]).read_text(encoding="utf-8").splitlines(keepends=True)
    Path(flags[3]).write_text("".join(lines[:5]) + lines[5][:7], encoding="utf-8")
    assert measure.main(flags) == 0
    again = Path(flags[3]).read_text(encoding="utf-8").splitlines(keepends=True)
    assert again[:5] == lines[:5]
    assert len(rows(flags[3])) == CELLS
    assert measure.main(flags) == 0
    assert Path(flags[3]).read_text(encoding="utf-8").splitlines(keepends=True) == again


def test_a_batch_beyond_the_memory_is_left_out_with_a_note(measure, decoder, tmp_path, capsys):
    path = tmp_path / "batches.csv"
    measure.measure(decoder, [measure.Batch(5, 16), measure.Batch(4, 16)], path, ["x"] * 5, repeats=2)
    assert "left out, 80 tokens of KV cache, there is room for 64" in capsys.readouterr().err
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.parametrize(("changed", "words"), [
    (["--dtype", "float32"], "out must be a new file"), (["--repeats", "1"], "repeats must be at least 2"),
    (["--layers", "0"], "layers must be a whole number"), (["--batches", "1,x"], "argument --batches"),
    (["--prefills", "0"], "argument --prefills"), (["--model", "gpt-5"], "not allowed with")])
def test_bad_input_is_one_line_and_status_2(measure, flags, capsys, changed, words):
    measure.main(flags)
    capsys.readouterr()
    try:
        status = measure.main(flags + changed)
    except SystemExit as error:
        status = error.code
    said = capsys.readouterr().err
    assert status == 2
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["deepseek-v2-lite", "mixtral-8x7b", "no-such-model"])
def test_a_model_it_cannot_build_is_refused(measure, tmp_path, capsys, name):
    assert measure.main(["--model", name, "--out", str(tmp_path / "batches.csv")]) == 2
    assert "model must be" in capsys.readouterr().err
    assert not (tmp_path / "batches.csv").exists()
