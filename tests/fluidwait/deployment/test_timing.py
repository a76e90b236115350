"""Where a deployment's iteration time comes from."""

import importlib.util

import pytest
from command_line import answer, written

from fluid.errors import FileError
from fluidwait.deployment.deployment import parse
from fluidwait.deployment.timing import mean_prompt

NAMES = '[replica]\nmodel = "llama-3.1-8b"\ngpu = "a100-80gb"\n'
TYPES = """
[[workload.type]]
prompt_tokens = 512
output_tokens = 100
rate = 2.0
[[workload.type]]
prompt_tokens = 2048
output_tokens = 50
rate = 1.0
"""
LINE = "[replica.iteration_time]\noverhead = 0.01\nper_kv_token = 1e-7\n"


def read(text):
    return parse((text + TYPES).encode(), "mix.toml")


def test_names_give_the_law_at_the_mean_prompt_length_of_the_mix():
    """(2 x 512^2 + 2,048^2) / (2 x 512 + 2,048) = 4,718,592 / 3,072 = 1,536 tokens."""
    deployment = read(NAMES)
    assert mean_prompt(deployment.workload) == pytest.approx(1536)
    assert deployment.timing.source == "law"
    assert deployment.replica.iteration_time == deployment.placement.time_by_law(1536).iteration_time


def test_the_edge_of_the_law_comes_with_an_interval_that_holds_it(capsys, tmp_path):
    deployment = read(NAMES)
    low, high = deployment.timing.rate_interval(deployment.workload, deployment.replica)
    _, balance = answer(capsys, "solve", written(tmp_path, NAMES + TYPES))
    assert low < balance["max_rate_scale"] < high
    assert balance["max_rate_scale_interval"] == [low, high]
    assert balance["iteration_time_source"] == "law"


def test_given_times_have_no_interval(capsys, tmp_path):
    _, balance = answer(capsys, "solve", written(tmp_path, NAMES + LINE + TYPES))
    assert (balance["iteration_time_source"], balance["max_rate_scale_interval"]) == ("given", None)


def test_another_engine_has_its_own_overhead():
    vllm, sglang = read(NAMES), read(NAMES + 'engine = "sglang"\n')
    assert vllm.replica.iteration_time.pieces[0].overhead > sglang.replica.iteration_time.pieces[0].overhead


@pytest.mark.parametrize(("text", "message"), [
    (NAMES + 'times = "guess"\n', 'replica.times must be "law" or "kernels"'),
    (NAMES + 'engine = "tgi"\n', "replica.engine must be"),
    ('[replica]\nkv_capacity = 9000\nengine = "vllm"\n' + LINE, "replica.engine needs replica.model"),
    (NAMES + 'kv_capacity = "lots"\n', "replica.kv_capacity must be a whole number"),
    (NAMES.replace("a100-80gb", "l4") + 'times = "kernels"\n', "replica.times must be"),
])
def test_what_does_not_go_together_is_refused(text, message):
    with pytest.raises(FileError, match=message.replace("[", r"\[")):
        read(text)


@pytest.mark.parametrize(("given", "tokens"), [
    ("41_408", 41_408),
    ('"INFO 12-11 00:06:53 [kv_cache_utils.py:1286] GPU KV cache size: 312,432 tokens"', 312_432),
    ('"[2025-05-27 20:14:38 TP0] max_total_num_tokens=46611, chunked_prefill_size=2048"', 46_611),
])
def test_an_engines_own_number_or_line_wins_over_the_estimate(given, tokens):
    assert read(NAMES + f"kv_capacity = {given}\n").replica.kv_capacity == tokens


def test_the_cap_on_sequences_is_the_engines_unless_given():
    assert read(NAMES).replica.max_num_seqs == 256
    assert read(NAMES.replace("a100-80gb", "h100-80gb")).replica.max_num_seqs == 1024
    assert read(NAMES + "max_num_seqs = 64\n").replica.max_num_seqs == 64
    assert read("[replica]\nkv_capacity = 9000\n" + LINE).replica.max_num_seqs is None


def test_kernels_without_the_package_say_how_to_get_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("fluid.hardware.kernel_tables.import_module", missing)
    with pytest.raises(FileError, match=r"pip install 'fluidwait\[kernels\]'"):
        read(NAMES + 'times = "kernels"\n')


@pytest.mark.skipif(importlib.util.find_spec("aiconfigurator_core") is None, reason="needs the extra kernels")
def test_kernels_give_times_near_the_law_and_say_how_well_they_fit():
    """A sum of kernels against the law at a full batch: within a third, as both are of an A100 and Llama-3.1-8B."""
    kernels, law = read(NAMES + 'times = "kernels"\n'), read(NAMES)
    assert kernels.timing.source == "kernels"
    assert "aiconfigurator-core" in kernels.timing.detail
    batch = {"kv": 100_000, "prefill": 512, "size": 64}
    assert kernels.replica.iteration_time(**batch) == pytest.approx(law.replica.iteration_time(**batch), rel=1 / 3)
