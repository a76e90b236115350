"""The law of the iteration time: its terms by hand, its interval, and how it stands to other sources."""

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, stability_region
from fluid.hardware.catalogue import find_gpu, find_model
from fluid.hardware.iteration_law import COVARIANCE, SPREAD, TERMS, VALUES, coefficients, costs, time_by_law
from fluid.hardware.placement import Placement, replica_from_catalogue
from fluid.region import max_rate_scale_interval


def table(prompt_tokens: float = 1000.0, gpus: int = 1) -> np.ndarray:
    return costs(find_model("llama-3.1-8b"), find_gpu("a100-80gb"), gpus=gpus, bytes_read=15e9, kv_bytes=131_072,
                 multiplies_in=16, prompt_tokens=prompt_tokens)


def test_every_term_of_the_law_is_what_its_formula_says():
    """Llama-3.1-8B: 32 layers, h = 4,096 = 32 heads x 128; 8,030,261,248 - 525,336,576 parameters are multiplied.

    weights 15e9 / 2,039e9; KV 131,072 / 2,039e9; arithmetic 2 x 7,504,924,672 / 312e12;
    attention 2 x 32 x 4,096 x 1,000 / 312e12; launches 32; hidden 2 x 32 x 4,096 / 2,039e9; sequences 1.
    """
    arithmetic, hidden = 2 * 7_504_924_672 / 312e12, 2 * 32 * 4096 / 2039e9
    expected = np.zeros((4, len(TERMS)))
    expected[0, 0], expected[1, 1], expected[0, 4], expected[3, 6] = 15e9 / 2039e9, 131_072 / 2039e9, 32, 1
    expected[2, 2] = expected[3, 2] = arithmetic
    expected[2, 5] = expected[3, 5] = hidden
    expected[2, 3] = 2 * 32 * 4096 * 1000 / 312e12
    assert table() == pytest.approx(expected)


def test_more_gpus_divide_the_data_sheet_and_neither_launches_nor_the_hidden_state():
    one, four = table(), table(gpus=4)
    assert four[:, :4] == pytest.approx(one[:, :4] / 4)
    assert four[:, 4:] == pytest.approx(one[:, 4:])


def test_longer_prompts_cost_more_attention_per_token_and_nothing_else():
    assert table(2000)[2, 3] == pytest.approx(2 * table(1000)[2, 3])
    assert np.delete(table(2000), 3, axis=1) == pytest.approx(np.delete(table(1000), 3, axis=1))


def test_attention_of_a_prefill_reaches_no_further_than_the_window():
    model = find_model("mistral-7b-v0.1")
    given = {"gpus": 1, "bytes_read": 1.0, "kv_bytes": 1.0, "multiplies_in": 16}
    at = [costs(model, find_gpu("l4"), prompt_tokens=tokens, **given)[2, 3] for tokens in (4096, 30_000)]
    assert at[0] == at[1]


def test_weights_of_eight_bits_double_the_arithmetic_only_where_the_gpu_multiplies_in_them():
    eight = {gpu: Placement(find_model("llama-3.1-8b"), find_gpu(gpu), weight_dtype="fp8") for gpu in
             ("a100-80gb", "h100-80gb")}
    sixteen = {gpu: Placement(find_model("llama-3.1-8b"), find_gpu(gpu)) for gpu in eight}
    saved = {gpu: sixteen[gpu].time_by_law().iteration_time.pieces[0].per_prefill_token
             - eight[gpu].time_by_law().iteration_time.pieces[0].per_prefill_token for gpu in eight}
    assert saved["a100-80gb"] == pytest.approx(0, abs=1e-12)
    assert saved["h100-80gb"] == pytest.approx(7_504_924_672 / 989.5e12)


def test_the_data_sheet_stands_at_one_and_every_engine_has_its_own_launches():
    assert coefficients("vllm")[[0, 1, 2]].tolist() == [1, 1, 1]
    assert coefficients("vllm")[4] == VALUES[1] > coefficients("sglang")[4] == coefficients("trtllm")[4] == VALUES[2]


def test_the_law_is_near_two_published_calibrations_of_llama_2_7b_on_an_a100():
    """Vidur: max(10.1 ms, 8.9 ms + 58.5 us T) + 0.255 us KV; the paper's fit: 10.6 ms + 0.4013 us KV.

    None of it went into the fit. The overhead is held to 20% of either, Vidur's other two coefficients to 10% and 15%.
    """
    (line,) = Placement(find_model("llama-2-7b"), find_gpu("a100-80gb")).time_by_law(100).iteration_time.pieces
    assert line.overhead == pytest.approx(10.1e-3, rel=0.2)
    assert line.per_kv_token == pytest.approx(0.255e-6, rel=0.10)
    assert line.per_prefill_token == pytest.approx(58.5e-6, rel=0.15)


def test_the_covariance_is_that_of_a_fit_and_a_new_machine_adds_its_own_spread():
    covariance = np.array(COVARIANCE)
    assert covariance == pytest.approx(covariance.T)
    assert np.linalg.eigvalsh(covariance / np.sqrt(np.outer(*2 * [np.diag(covariance)]))).min() > -0.05
    found = time_by_law(table(), "vllm")
    line = np.array(found.iteration_time.pieces[0])
    assert (np.diag(found.covariance) >= (SPREAD * line) ** 2 * (1 - 1e-12)).all()


def test_an_engine_the_law_was_not_fitted_to_is_refused():
    with pytest.raises(InputError, match="engine must be"):
        time_by_law(table(), "tgi")


def test_the_interval_of_the_edge_is_exact_where_only_the_overhead_is_unknown():
    """One type 1 + 1, C = 9, tau = d0 + 0.1 KV: w = 1 + 2 = 3, so 1/scale = 0.3 + d0 3/9, d0 = 0.5 +- 1.96 x 0.1."""
    workload, replica = Workload([PromptType(1, 1, 1.0)]), Replica(9, IterationTime(0.5, 0.1))
    low, high = max_rate_scale_interval(workload, replica, np.diag([0.01, 0, 0, 0]))
    assert (low, high) == pytest.approx((1 / (0.3 + 0.696 / 3), 1 / (0.3 + 0.304 / 3)))


def test_the_interval_is_open_above_where_the_error_may_be_as_large_as_the_load():
    workload, replica = Workload([PromptType(1, 1, 1.0)]), Replica(9, IterationTime(0.5, 0.1))
    assert max_rate_scale_interval(workload, replica, np.diag([1.0, 0.04, 0, 0]))[1] is None


@pytest.mark.parametrize(("cap", "budget"), [(None, None), (3, None), (None, 4)])
def test_the_interval_holds_the_edge_and_shrinks_to_it(cap, budget):
    workload = Workload([PromptType(40, 10, 1.0), PromptType(5, 30, 2.0)])
    replica = Replica(5000, IterationTime(0.01, 1e-6, 1e-5, 1e-5), max_num_seqs=cap, max_num_batched_tokens=budget)
    edge = stability_region(workload, replica).max_rate_scale(workload.rates)
    line = np.array(replica.iteration_time.pieces[0])
    low, high = max_rate_scale_interval(workload, replica, 0.01 * np.outer(line, line))
    assert (low, high) == pytest.approx((edge / 1.196, edge / 0.804))
    assert max_rate_scale_interval(workload, replica, np.zeros((4, 4))) == pytest.approx((edge, edge))


def test_short_contexts_on_an_a100_are_no_longer_promised_six_times_what_was_measured():
    """Llama-3-8B, 35 + 250 tokens, TensorRT-LLM on an A100: 5,500 output tokens/s reached (its issue 2648).

    What is reached in a test need not be the edge: held to a factor of 1.35, where the old roofline said 6.2.
    """
    replica = replica_from_catalogue("llama-3-8b", "a100-80gb", engine="trtllm", prompt_tokens=35)
    workload = Workload([PromptType(35, 250, 1.0)])
    assert 1 < 250 * stability_region(workload, replica).max_rate_scale([1.0]) / 5500 < 1.35
