"""What runs leave behind by class, by hand; intervals that say when they cannot be trusted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload, stage_profile
from fluidwait.__main__ import status
from thresholds import WaitPolicy
from verification import Arrivals, Greedy, Run, judge, simulate, verify
from verification.experiments.evidence.classes import evidence_of
from verification.experiments.evidence.ledger import Ledger, backlog_of, class_names, ledger_of
from verification.experiments.evidence.pieces import undrawn

SECONDS = Replica(10**6, IterationTime(1.0, 0.0))
SERVER = replace(SECONDS, max_num_seqs=1, first_token="prefill")
PAIR = Workload([PromptType(1, 1, 3.0, name="short"), PromptType(1, 2, 1.0, name="long")])


def three() -> Run:
    """FCFS for R seconds each: short at 0 and 1, long at 2, short at 3, end at 4: served [0, 1), [1, 2), [2, ..)."""
    run = simulate(Greedy(), PAIR, SERVER, arrivals=Arrivals([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 0]))
    return replace(run, end_time=4.0, finished=np.where(run.finished < 4.0, run.finished, np.nan),
                   admitted=np.where(run.admitted < 4.0, run.admitted, np.nan))


def ledger(run: Run) -> Ledger:
    found = ledger_of(run)
    assert found is not None
    return found


def test_a_ledger_by_hand() -> None:
    """Classes all, short, long. The last waits from 3 to 4, half the second half; inside by quarters 1, 1, 1, 2."""
    found = ledger(three())
    assert found.arrived.tolist() == [4.0, 3.0, 1.0]
    assert found.waiting.tolist() == [1.0, 1.0, 0.0]
    assert found.outside.tolist() == [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    assert found.inside.tolist() == [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [2.0, 1.0, 1.0]]
    assert (found.kinds, found.life) == (2, 2.0)
    assert class_names(three().profile, PAIR.names) == ("all requests", 'type "short"', 'type "long"')
    assert found == ledger(three()) != ledger(replace(three(), end_time=3.5))


def test_the_variance_of_the_work_is_that_of_what_was_drawn() -> None:
    """KV works of whole prefill and R - 1 decodes: 1 and 1 + 2; three and one of them, w = 6/4: V T = 3 (2/3)^2 + 2^2.
    Their stages, 1 and 2, w = 5/4: 3 (4/5)^2 + (8/5)^2, the least.
    """
    assert stage_profile(PAIR, SERVER).kv_work.tolist() == [1, 3]
    found = evidence_of([ledger(three())], 4.0, ())
    assert found.variance * 4.0 == pytest.approx(3 * (2 / 3) ** 2 + 4, rel=1e-12)
    assert found.firm == pytest.approx(3 * 0.8**2 + 1.6**2, rel=1e-12)
    assert (found.rate, found.on_average) == (1.0, 0.5)


def test_the_ten_largest_requests_are_kept_apart() -> None:
    """100 of one token and 10 of 100: without those all are alike, and V T is their number."""
    mix = Workload([PromptType(1, 1, 1.0), PromptType(1, 100, 0.1)])
    run = simulate(Greedy(), mix, SERVER, arrivals=Arrivals(1e3 * np.arange(110.0), np.repeat([0, 1], [100, 10])))
    found = evidence_of([ledger(run)], run.end_time, ())
    assert found.firm == pytest.approx(100, rel=1e-12)
    assert found.variance * run.end_time > 1_000


def test_many_types_are_judged_in_groups_of_like_work_too() -> None:
    """30 types of 1 to 30 output tokens, one request each: octaves of work hold all of them."""
    mix = Workload([PromptType(1, 1 + k, 1.0) for k in range(30)])
    run = simulate(Greedy(), mix, SERVER, arrivals=Arrivals(np.arange(30.0), np.arange(30)))
    found, names = ledger(run), class_names(run.profile)
    assert len(found.arrived) == len(names) == 1 + 30 + len(found.by_group)
    assert found.arrived[31:].tolist() == found.by_group.tolist()
    assert found.by_group.sum() == found.arrived[0] == 30
    assert names[31] == "requests of 1 to 2 KV token-iterations"


def test_no_requests_leave_nothing_behind() -> None:
    run = simulate(Greedy(), PAIR, SERVER, horizon=1e-9, seed=1)
    assert backlog_of(run).unserved == 0
    assert judge([run, run]).answer == "stable"


def test_what_no_replication_drew_is_said_to_be_unknown() -> None:
    """Of works 1, 3 and 5 only 3 was drawn, of another octave; 1 and 5 bring 1 + 0.6 x 5 = 4 of 7 parts of the work,
    and 1 + 0.6 x 2 = 2.2 of 4.2 parts of the tokens.
    """
    mix = Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0), PromptType(2, 2, 0.6)])
    profile = stage_profile(mix, SERVER)
    assert profile.kv_work.tolist() == [1, 3, 5]
    drawn = [ledger(simulate(Greedy(), mix, SERVER, arrivals=Arrivals([0.0, 1.0], [1, 1])))]
    reasons = {each.measure: each.reason for each in undrawn(profile, mix.rates, drawn)}
    assert "57% of the KV work" in reasons["latency"]
    assert "52% of the output tokens" in reasons["throughput"]
    assert undrawn(three().profile, PAIR.rates, [ledger(three())]) == ()


def single(kinds: list[PromptType], load: float) -> Workload:
    """A mix at a load of the server."""
    return Workload(kinds).scaled(load / sum(kind.rate * kind.output_tokens for kind in kinds))


def test_a_queue_near_saturation_says_that_its_runs_are_too_short() -> None:
    """M/D/1 at 0.98 forgets in 2 x 0.98/0.02^2 = 4,900 services; 20,000 a run are four of those."""
    found = verify(Greedy(), single([PromptType(1, 1, 1.0)], 0.98), SERVER, horizon=20_000 / 0.98)
    assert {"latency", "ttft", "latency_p99"} <= found.doubted
    assert "throughput" not in found.doubted
    assert "too short" in found.doubts[0].reason


def test_a_queue_at_half_load_raises_no_doubt() -> None:
    found = verify(Greedy(), single([PromptType(1, 1, 1.0)], 0.5), SERVER, horizon=40_000.0)
    assert found.doubts == ()


def test_a_heavy_tail_is_doubted() -> None:
    """Lengths of index 1.5 from 3 to 3,000 tokens at half load: waits of index a half."""
    lengths = 3 * 2 ** np.arange(11)
    shares = lengths ** -1.5
    kinds = [PromptType(1, int(n), float(p)) for n, p in zip(lengths, shares, strict=True)]
    found = verify(Greedy(), single(kinds, 0.5), SERVER, horizon=60_000.0, replications=5)
    assert "latency" in found.doubted


def test_a_type_that_never_came_makes_delays_doubtful() -> None:
    """At 1e-9 a second a type of 100,000 tokens brings 5 units of KV work a second, of 5.5, and hardly any tokens."""
    mix = Workload([PromptType(1, 1, 0.5), PromptType(1, 100_000, 1e-9)])
    found = verify(Greedy(), mix, SERVER, horizon=5_000.0, replications=5)
    assert found.doubted == {"latency", "latency_p99", "ttft", "ttft_p99"}
    assert "no replication drew" in found.doubts[0].reason


def test_runs_of_a_few_requests_are_too_short_to_test() -> None:
    found = verify(WaitPolicy((1,)), Workload([PromptType(1, 1, 0.5)]), SECONDS, horizon=60.0, replications=3)
    assert all("fewer than 64" in each.reason for each in found.doubts)
    assert found.doubted >= {"latency", "throughput"}


FILE = """
[replica]
kv_capacity = 1000000000
max_num_seqs = 1
first_token = "prefill"
[replica.iteration_time]
overhead = 1.0
per_kv_token = 0.0
[[workload.type]]
prompt_tokens = 1
output_tokens = 1
rate = 0.98
"""


def test_the_report_and_the_json_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`doubts` names the measures and why; the text says which interval may not hold."""
    path = tmp_path / "queue.toml"
    path.write_text(FILE, encoding="utf-8")
    arguments = ["verify", str(path), "--policy", "greedy", "--horizon", "4000", "--replications", "5"]
    status([*arguments, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert {each["measure"] for each in answer["doubts"]} >= {"latency", "ttft"}
    assert (answer["types_unjudged"], answer["falls_behind"]) == (0, [])
    assert math.isfinite(answer["latency"]["low"])
    status(arguments)
    shown = " ".join(capsys.readouterr().out.split())
    assert "? the interval of latency, latency p99, TTFT, TTFT p99 may not hold" in shown
