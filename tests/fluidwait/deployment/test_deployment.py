"""What a deployment file means, and the embedded one: its numbers by hand."""

import hashlib
import math
import re
import tomllib

import pytest

from fluid import IterationTime, solve
from fluid.hardware.placement import replica_from_catalogue
from fluidwait.deployment.deployment import Deployment, embedded, embedded_text, load, parse
from fluidwait.deployment.timing import mean_prompt
from thresholds import paced, wait

LINE = "overhead = 0.0106\nper_kv_token = 4.013e-7"
REPLICA = f"[replica]\nkv_capacity = 137000\n[replica.iteration_time]\n{LINE}\n"
CHAT = '[[workload.type]]\nname = "chat"\nprompt_tokens = 512\noutput_tokens = 20\nrate = 20.0\n'
SUMMARY = '[[workload.type]]\nname = "summary"\nprompt_tokens = 2000\noutput_tokens = 300\nrate = 1\n'
TYPES = "\n" + CHAT + SUMMARY
GOOD = REPLICA + TYPES
A100 = '[replica]\nmodel = "llama-2-7b"\ngpu = "a100-80gb"\n'


def read(text: str) -> Deployment:
    return parse(text.encode(), "mix.toml")


def test_numbers_in_the_file_become_the_workload_the_replica_and_the_target():
    deployment = read(GOOD + "[target]\nhorizon = 60\noverflow_probability = 0.01")
    assert deployment.workload.names == ("chat", "summary")
    assert deployment.workload.rates.tolist() == [20.0, 1.0]
    assert deployment.replica.kv_capacity == 137_000
    assert deployment.replica.iteration_time == IterationTime(0.0106, 4.013e-7)
    assert (deployment.horizon, deployment.overflow_probability) == (60.0, 0.01)
    assert deployment.placement is None


def test_what_the_file_leaves_out_has_the_defaults_of_the_contract():
    deployment = read(GOOD)
    replica = deployment.replica
    assert (replica.prefill, replica.block, replica.first_token) == ("whole", 1, "decode")
    assert (deployment.horizon, deployment.overflow_probability, deployment.lengths) == (3600.0, 1e-3, "known")


def test_the_same_bytes_make_equal_deployments_that_say_where_they_came_from(tmp_path):
    path = tmp_path / "mix.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert load(path) == load(str(path))
    assert load(path).source == str(path)
    assert load(path).digest == hashlib.sha256(GOOD.encode()).hexdigest()


def test_a_model_and_a_gpu_give_the_replica_of_the_catalogue():
    deployment = read(A100 + "memory_fraction = 0.9\ntensor_parallel = 2" + TYPES)
    expected = replica_from_catalogue("llama-2-7b", "a100-80gb", memory_fraction=0.9, tensor_parallel=2,
                                      prompt_tokens=mean_prompt(deployment.workload))
    assert deployment.replica == expected
    assert deployment.placement.gpu.name == "a100-80gb"


def test_a_file_says_how_many_layers_have_the_window_and_what_state_a_sequence_holds():
    text = A100 + "attention_window = 1024\nwindowed_layers = { windowed = 52, layers = 62 }\nstate = 100\n" + TYPES
    assert (read(text).replica.windowed_layers, read(text).replica.state) == ((26, 31), 100)
    assert (read(A100 + TYPES).replica.windowed_layers, read(A100 + TYPES).replica.state) == (None, 0)


def test_a_shared_prefix_splits_its_type_and_is_held_once():
    """600 and 400 tokens in blocks of 16 are 592 and 400; two types name the first: 992 of 137,000 tokens are held."""
    def prefix(rate: str, table: str, text: str) -> str:
        return text.replace(f"rate = {rate}\n", f"rate = {rate}\nshared_prefix = {table}\n", 1)

    text = GOOD.replace("kv_capacity = 137000", "kv_capacity = 137000\nblock = 16")
    more = '[[workload.type]]\nname = "code"\nprompt_tokens = 900\noutput_tokens = 9\nrate = 2.0\n'
    text = prefix("2.0", '{ tokens = 600, hit = 1.0, name = "system" }', text + more)
    text = prefix("1", '{ tokens = 600, hit = 0.25, name = "system" }', text)
    deployment = read(prefix("20.0", "{ tokens = 400, hit = 0.6 }", text))
    workload = deployment.workload
    assert workload.names == ("chat (hit)", "chat (miss)", "summary (hit)", "summary (miss)", "code")
    assert workload.rates.tolist() == pytest.approx([12.0, 8.0, 0.25, 0.75, 2.0])
    assert workload.cached_prefix.tolist() == [400, 0, 592, 0, 592]
    assert (deployment.replica.kv_capacity, deployment.mix.reserved) == (137_000 - 992, 992)
    assert deployment.at(50.0).workload.cached_prefix.tolist() == [400, 0, 592, 0, 592]


def test_a_model_with_an_attention_window_gives_it_to_the_replica_unless_the_file_does():
    text = A100.replace("llama-2-7b", "mistral-7b-v0.1")
    assert read(text + TYPES).replica.attention_window == 4096
    assert read(text + "attention_window = 1024\n" + TYPES).replica.attention_window == 1024
    assert read(A100 + TYPES).replica.attention_window is None


def test_the_cap_on_sequences_and_the_memory_for_activations_reach_the_replica():
    """79.25 GiB at 0.9 less 13,476,831,232 bytes of weights and 4 GiB: 58,812,837,069 / 524,288 = 112,176.6 tokens."""
    assert read(A100 + "max_num_seqs = 64\n" + TYPES).replica.max_num_seqs == 64
    assert read(A100 + "activation_memory = 4.0\n" + TYPES).replica.kv_capacity == 112_176


def test_numbers_win_over_the_catalogue():
    mix = read(A100 + TYPES).workload
    catalogue = replica_from_catalogue("llama-2-7b", "a100-80gb", prompt_tokens=mean_prompt(mix))
    capacity = read(A100 + "kv_capacity = 5000" + TYPES).replica
    assert (capacity.kv_capacity, capacity.iteration_time) == (5000, catalogue.iteration_time)
    time = "[replica.iteration_time]\noverhead = 0.01\nper_kv_token = 0.0"
    timed = read(A100 + time + TYPES).replica
    assert (timed.kv_capacity, timed.iteration_time) == (catalogue.kv_capacity, IterationTime(0.01, 0.0))


def test_weights_that_would_not_fit_do_not_matter_where_the_capacity_is_given():
    text = A100.replace("7b", "70b") + "kv_capacity = 5000" + TYPES
    assert read(text).replica.kv_capacity == 5000


def test_the_path_of_a_config_json_starts_from_the_folder_of_the_file(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 11008,'
        ' "vocab_size": 32000}', encoding="utf-8")
    path = tmp_path / "mix.toml"
    path.write_text(A100.replace("llama-2-7b", "config.json") + TYPES, encoding="utf-8")
    prompt = mean_prompt(load(path).workload)
    assert load(path).replica == replica_from_catalogue("llama-2-7b", "a100-80gb", prompt_tokens=prompt)


def test_pieces_are_several_lines_of_which_the_largest_counts():
    pieces = "pieces = [{overhead = 2.0, per_kv_token = 1.0}, {overhead = 1.0, per_kv_token = 3.0, per_sequence = 1}]"
    text = GOOD.replace(LINE, pieces)
    expected = IterationTime.largest(IterationTime(2.0, 1.0), IterationTime(1.0, 3.0, 0.0, 1.0))
    assert read(text).replica.iteration_time == expected


@pytest.mark.parametrize(("line", "field", "value"), [
    ('prefill = "decode-only"', "prefill", "decode-only"),
    ("prefill = { chunk = 512 }", "prefill", 512),
    ("prefill.chunk = 256", "prefill", 256),
    ("block = 16", "block", 16),
    ('first_token = "prefill"', "first_token", "prefill"),
])
def test_the_keys_of_the_replica_reach_it(line, field, value):
    assert getattr(read(GOOD.replace("137000", "137000\n" + line)).replica, field) == value


def test_unknown_lengths_are_kept_for_the_policies():
    text = REPLICA + '[workload]\nlengths = "unknown"\n' + TYPES
    assert read(text).lengths == "unknown"


@pytest.mark.parametrize("rate", ["1e12", "1e-12"])
def test_a_rate_of_any_size_that_a_file_may_say_is_accepted(rate):
    assert read(GOOD.replace("20.0", rate)).workload.rates[0] == float(rate)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()])
def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(data):
    assert parse(data, "mix.toml").workload == read(GOOD).workload


def test_every_key_of_the_embedded_file_is_explained_beside_it():
    lines = [line for line in embedded_text().splitlines() if re.match(r"^(# )?[a-z_]+ = ", line)]
    assert len(lines) >= 20
    assert all("#" in line[2:] for line in lines)


def test_the_embedded_file_with_all_its_optional_keys_switched_on_says_the_same():
    """The iteration time in the comments is that of the data sheets to three figures, so the answers are close."""
    optional = re.sub(r"(?m)^# (?=[a-z_]+ = |\[replica)", "", embedded_text().replace("# pieces", "## pieces"))
    on, off = parse(optional.encode(), "on"), embedded()
    assert len(tomllib.loads(optional)["replica"]) > len(tomllib.loads(embedded_text())["replica"])
    assert on.workload == off.workload
    assert on.replica.kv_capacity == off.replica.kv_capacity
    assert on.replica.iteration_time.coefficients == pytest.approx(off.replica.iteration_time.coefficients, rel=0.005)


def test_the_pieces_in_the_comments_of_the_embedded_file_are_valid():
    commented = re.search(r"(?ms)^# pieces.*?^# \]$", embedded_text()).group()
    pieces = tomllib.loads(re.sub(r"(?m)^# ", "", commented))["pieces"]
    assert [piece["overhead"] for piece in pieces] == [0.0101, 0.0089]


def test_the_embedded_mix_is_near_the_edge_where_windows_gain():
    """512 + 1000 tokens in blocks of 16: w = sum of 16 ceil((512 + a)/16) over a = 0..999, some 1.02 million tokens.

    One prompt in each stage, the least that WAIT holds, does not fit; windows do.
    """
    deployment = embedded()
    balance = solve(deployment.workload, deployment.replica)
    work = sum(16 * math.ceil((512 + a) / 16) for a in range(1000))
    assert balance.profile.kv_work.tolist() == [work]
    assert work > 8 * deployment.replica.kv_capacity
    assert 0.95 <= 1 / balance.max_rate_scale <= 0.98
    assert not wait(deployment.workload, deployment.replica).feasible
    assert paced(deployment.workload, deployment.replica).feasible

