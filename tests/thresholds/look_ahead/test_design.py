"""Look-ahead admission designed: what it keeps of the fluid limit, what is proved of it, what it answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluid import InputError, IterationTime, Replica, Workload, solve, stage_profile
from fluid.arrays import Ints
from thresholds import LookAheadPolicy, auto, look_ahead, paced, predict, predict_continuous
from thresholds.look_ahead.lives import CLASSES, ROWS, Lives
from thresholds.policies import from_json, to_json

A100 = Replica(kv_capacity=137_000, iteration_time=IterationTime(overhead=0.0106, per_kv_token=4.013e-7))
MILLION = 1e6 * 0.0106  # seconds: at most a million iterations and one


def mixed(prompt: Ints, output: Ints, rate: float = 1.0) -> Workload:
    """Every pair equally likely."""
    return Workload.from_arrays(prompt, output, np.full(len(prompt), rate / len(prompt)))


def chat(pairs: int = 20_000, seed: int = 3) -> Workload:
    """Prompts of mean 58 and median 21, outputs of mean 147 and median 117 (lognormal), rejected above 500."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([np.maximum(1, np.rint(rng.lognormal(math.log(median), math.sqrt(2 * math.log(mean / median)),
                                                          2 * pairs)))
                      for mean, median in ((58, 21), (147, 117))]).astype(np.int64)
    return mixed(*drawn[:, (drawn <= 500).all(axis=0)][:, :pairs])


def test_chat_like_lengths_keep_98_percent_and_97_are_proved() -> None:
    """Where a window that promises the same keeps less than 96%."""
    design = look_ahead(chat(), A100, horizon=MILLION)
    assert 0.98 <= design.expected_rate_scale / design.equilibrium.max_rate_scale <= 1
    assert 0.97 <= design.fluid_share <= 0.98
    assert paced(chat(), A100, lengths="unknown", horizon=MILLION).fluid_share < 0.96


@pytest.mark.parametrize("prefill", ["whole", 16])
def test_the_chances_of_all_iterations_and_blocks_add_up_to_delta(prefill: str | int) -> None:
    """n iterations, each with every iteration ahead up to the most chunks but one and the longest life after them."""
    replica = Replica(137_000, A100.iteration_time, prefill)
    design = look_ahead(chat(2_000), replica, horizon=MILLION, overflow_probability=0.01)
    profile = design.equilibrium.profile
    early = profile.prefill_stages - 1
    ends = [*design.points[1:], int(early.max() + (profile.stages - early).max())]
    widths = np.array(ends) - np.array(design.points)
    assert float(np.exp(design.log_chances) @ widths) * (1e6 + 1) == pytest.approx(0.01)


def test_lives_are_those_of_the_types() -> None:
    """P(R > a) by counting the types of each class, R = S - K + 1 with chunks of 16 tokens; all have a class."""
    rng = np.random.default_rng(0)
    workload = Workload.from_arrays(rng.integers(1, 200, 3_000), rng.integers(1, 60, 3_000), rng.uniform(1, 2, 3_000))
    profile = stage_profile(workload, Replica(10_000, A100.iteration_time, prefill=16))
    lives = Lives.of(profile, workload.rates)
    assert len(lives.prompts) == CLASSES
    assert float(lives.share.sum()) == pytest.approx(1.0)
    for c, (least, most) in enumerate(lives.prompts.tolist()):
        mine = (profile.prompt >= least) & (profile.prompt <= most)
        weight = workload.rates * mine / workload.rates[mine].sum()
        for age in range(0, 60, 7):
            assert lives.alive[c, age] == pytest.approx(weight @ (workload.output_tokens + 1 > age), abs=1e-12)
        for early in range(1, lives.prefilling.shape[1] + 1):
            assert lives.prefilling[c, early - 1] == pytest.approx(weight @ (profile.prefill_stages - 1 >= early))


def test_few_prompt_lengths_are_classes_of_their_own_and_long_lives_come_in_steps() -> None:
    """Three prompts, outputs up to 5,000: three classes, 1,024 rows at most; every stage is resident time."""
    workload = mixed(np.repeat([10, 50, 300], 100), np.tile(np.arange(50, 5_001, 50), 3))
    profile = stage_profile(workload, A100)
    lives = Lives.of(profile, workload.rates)
    assert lives.prompts.tolist() == [[10, 10], [50, 50], [300, 300]]
    assert lives.survival.shape[1] <= ROWS
    assert lives.step == 5
    assert float((lives.share @ lives.resident(0)).sum()) == pytest.approx(profile.stages.mean())


def test_one_length_is_admitted_by_what_it_will_hold() -> None:
    """No chance involved: at the fluid limit but for the next prompt, where windows pay for bunching."""
    design = look_ahead(mixed(np.array([512]), np.array([1000])), A100)
    assert design.expected_rate_scale > 0.97 * design.equilibrium.max_rate_scale
    assert design.survival[0][-1] == 1.0


def test_rates_decide_whether_the_rule_carries_them_not_which_it_is() -> None:
    """Scaled to 0.999 of max_rate_scale the same rule is feasible, to 1.001 it is not, and it says how much fits."""
    workload = chat(500)
    design = look_ahead(workload, A100)
    for factor in (0.1, 0.999, 1.001):
        again = look_ahead(workload.scaled(factor * design.max_rate_scale), A100)
        np.testing.assert_allclose(again.survival, design.survival, atol=1e-12)
        assert (again.points, again.feasible) == (design.points, factor < 1)
        assert again.max_rate_scale == pytest.approx(1 / factor)
    assert again.reason.startswith("infeasible: ")
    assert f"{again.max_rate_scale:.4g} of these rates" in again.reason


def test_with_several_lines_less_is_proved_than_expected() -> None:
    """The mean of the largest of two lines is above the largest of their means, how far depends on the batches."""
    line, other = IterationTime(0.0106, 4.013e-7), IterationTime(0.004, 4.013e-7, 6e-5)
    one, two = (look_ahead(chat(500), Replica(137_000, time)) for time in (line, IterationTime.largest(line, other)))
    assert two.proved_entries == one.proved_entries
    assert two.max_rate_scale < one.max_rate_scale
    assert 0.5 * two.expected_rate_scale < two.max_rate_scale < two.expected_rate_scale


def test_caps_on_sequences_and_tokens_bound_what_it_carries() -> None:
    """r E[S] <= B and r E[l + o] <= q; without them it fills the cache."""
    free = look_ahead(chat(500), A100)
    capped = look_ahead(chat(500), Replica(137_000, A100.iteration_time, max_num_seqs=100))
    metered = look_ahead(chat(500), Replica(137_000, A100.iteration_time, max_num_batched_tokens=600))
    assert free.sequences is not None
    assert free.sequences > 200
    assert capped.sequences == pytest.approx(100)
    assert metered.tokens is not None
    assert metered.tokens <= 600 * (1 + 1e-9)


def test_a_type_that_never_fits_leaves_nothing_to_install() -> None:
    """Largest stage KV above C: numbers are None, the reason is that of the fluid model."""
    design = look_ahead(mixed(np.array([10, 900]), np.array([10, 200])), Replica(1_000, IterationTime(0.01, 1e-6)))
    assert (design.exists, design.feasible) == (False, False)
    assert (design.max_rate_scale, design.expected_rate_scale) == (0.0, 0.0)
    assert (design.kv_base, design.kv_required, design.iteration_time, design.overflow_probability) == (None,) * 4
    assert "never fits" in design.reason


@pytest.mark.parametrize("replica", [
    Replica(137_000, A100.iteration_time, 64, 16), Replica(137_000, A100.iteration_time, "decode-only"),
    Replica(137_000, A100.iteration_time, attention_window=128),
    Replica(137_000, A100.iteration_time, attention_window=128, windowed_layers=(3, 4), state=5)])
def test_other_servers_get_it_too(replica: Replica) -> None:
    """Chunks, blocks, attention windows, states: more than windows keep, and at worst hardly less of it is proved."""
    design = look_ahead(chat(1_600), replica, horizon=MILLION)
    window = paced(chat(1_600), replica, lengths="unknown", horizon=MILLION)
    assert window.max_rate_scale < design.expected_rate_scale <= design.equilibrium.max_rate_scale
    assert 0.99 * window.max_rate_scale < design.max_rate_scale <= design.expected_rate_scale


def test_the_installed_part_is_a_policy_and_survives_json() -> None:
    """And the delays predicted of it are those of continuous batching."""
    design = look_ahead(chat(500), A100)
    policy = from_json(to_json(design))
    assert isinstance(policy, LookAheadPolicy)
    assert (policy.survival, policy.log_chances) == (design.survival, design.log_chances)
    assert predict(design) == predict_continuous(design.equilibrium)


def test_auto_takes_it_where_windows_do_not_carry_the_load() -> None:
    """Half-way between what the two carry; at 60% of the edge, where both do, the windows, less to install."""
    workload, replica = mixed(np.full(60, 40), np.arange(1, 61)), Replica(10_000, A100.iteration_time)
    edge = solve(workload, replica).max_rate_scale
    between = (look_ahead(workload, replica).fluid_share + paced(workload, replica, lengths="unknown").fluid_share) / 2
    near, far = (auto(workload.scaled(share * edge), replica, lengths="unknown") for share in (between, 0.6))
    assert (near.design.name, far.design.name) == ("look-ahead", "paced")
    assert {each.name for each in far.candidates} == {"paced", "look-ahead"}


@pytest.mark.parametrize(("field", "value"), [("horizon", 0.0), ("horizon", math.inf), ("overflow_probability", 0.0),
                                              ("overflow_probability", 1.0)])
def test_unusable_targets_are_refused(field: str, value: float) -> None:
    """The message names the field."""
    with pytest.raises(InputError, match=field):
        look_ahead(mixed(np.array([5]), np.array([5])), A100, **{field: value})


@pytest.mark.parametrize(("field", "value"), [
    ("prompts", ((5, 3),)), ("step", 0), ("survival", ((0.9, 0.5),)), ("survival", ((1.0, 0.5), (1.0, 0.5))),
    ("survival", ((1.0, 0.5, 0.6),)), ("points", (1,)), ("points", (0, 3)), ("thetas", (0.0,)), ("log_chances", (0.1,)),
    ("log_chances", (-1.0, -1.0)), ("thetas", ("x",)), ("survival", "x")])
def test_a_rule_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    """Classes out of order, lives that begin dead or revive, blocks that begin late or between steps."""
    sound: dict[str, object] = {"prompts": ((3, 5),), "step": 2, "survival": ((1.0, 0.5),), "points": (0,),
                                "thetas": (0.1,), "log_chances": (-1.0,)}
    with pytest.raises(InputError, match=field):
        LookAheadPolicy(**{**sound, field: value})  # type: ignore[arg-type]
