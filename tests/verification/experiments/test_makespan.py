"""A batch of requests takes as long as arithmetic says, and never less than what nobody can beat."""

from pathlib import Path

import numpy as np
import pytest
from command_line import answer, written

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve
from fluidwait.__main__ import status
from thresholds import WaitPolicy, paced
from verification import Batch, Greedy, Misclassified, makespan, simulate
from verification.experiments.makespan import least_makespan

FIXED = Replica(10_000, IterationTime(1.0, 0.0), max_num_seqs=4)
GPU = Replica(20_000, IterationTime(0.0106, 4.013e-7, 5e-5, 8e-5), block=16, max_num_seqs=64)
MIX = Workload([PromptType(100, 20, 3.0), PromptType(300, 90, 1.0)])


@pytest.mark.parametrize(("requests", "seconds"), [(1, 5.0), (4, 5.0), (5, 10.0), (40, 50.0)])
def test_rounds_of_equal_requests_are_counted(requests: int, seconds: float) -> None:
    """Four at a time, a prefill and four decodes of a second each: ceil(N/4) times 5 seconds, 5 N/4 at least."""
    found = makespan(Greedy(0.0), Workload([PromptType(5, 4, 1.0)]), FIXED, requests, replications=2)
    assert found.seconds.tolist() == [seconds] * 2
    assert found.least == pytest.approx(5 * requests / 4)
    assert found.throughput == pytest.approx(4 * requests / seconds)
    assert found.done


def test_the_makespan_is_the_end_of_the_run_of_the_batch() -> None:
    """A replication is `simulate` on the requests of `Batch.draw`; the answer is the same whatever the threads."""
    found = makespan(Greedy(0.0), MIX, GPU, 200, replications=3, seed=7, workers=2)
    run = simulate(Greedy(0.0), MIX, GPU, arrivals=Batch(200).draw(MIX, 0.0, 7, 2))
    assert found.seconds[2] == run.end_time == np.max(run.finished)
    assert found.throughput[2] == run.throughput
    assert makespan(Greedy(0.0), MIX, GPU, 200, replications=3, seed=7, workers=1).seconds.tolist() == (
        found.seconds.tolist())


@pytest.mark.parametrize("policy", [Greedy(0.0), Greedy(0.01, eviction="recompute"), paced(MIX, GPU)])
def test_nobody_beats_the_bound_and_large_batches_come_near(policy: object) -> None:
    """Makespans are never below the bound; of greedy admission they come within 10% of it as the batch grows."""
    small, large = (makespan(policy, MIX, GPU, n, replications=3) for n in (30, 3000))
    assert (small.seconds >= small.least).all()
    assert (large.seconds >= large.least).all()
    assert large.ratio < small.ratio
    if isinstance(policy, Greedy):
        assert large.ratio < 1.1


def test_the_bound_is_the_edge_for_the_counts() -> None:
    """1 / the largest factor on rates n_j, which for one type is n over the largest rate."""
    mix = Workload([PromptType(100, 20, 1.0)])
    drawn = Batch(50).draw(mix, 0.0, 0, 0)
    edge = solve(mix, GPU).max_rate_scale
    assert least_makespan(drawn, mix, GPU) == pytest.approx(50 / edge)


def test_requests_left_in_a_cohort_are_unfinished() -> None:
    """WAIT with a threshold of 2 serves pairs only: of 5 requests one never completes, and the run is not done."""
    found = makespan(WaitPolicy((2,)), Workload([PromptType(5, 1, 1.0)]), FIXED, 5, replications=2)
    assert found.unfinished.tolist() == [1 + 2, 1 + 2]  # the last pair of two stages waits for one behind it
    assert not found.done


def test_types_come_with_their_shares_and_may_be_mistaken() -> None:
    """A quarter of a batch is of the second type; predictions that err change what a rule by type sees."""
    types = Batch(4000).draw(MIX, 1.0, 1, 0).types
    assert abs(types.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert makespan(Greedy(0.0), MIX, GPU, 50, replications=1, predictor=Misclassified(0.5)).done
    with pytest.raises(InputError, match="requests must be a whole number"):
        Batch(0)


TEXT = """
[replica]
kv_capacity = 20000
iteration_time = { overhead = 0.0106, per_kv_token = 4.013e-7 }
[workload]
arrivals = { batch = 120 }
[[workload.type]]
prompt_tokens = 100
output_tokens = 20
rate = 3.0
"""


def test_the_commands_tell_makespans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` of one policy, `run` of the engine and designs, the shortest first; a batch has no rate."""
    file = written(tmp_path, TEXT)
    code, one = answer(capsys, "verify", file, "--policy", "greedy", "--replications", 2)
    assert code == 0
    mix = Workload([PromptType(100, 20, 3.0)])
    replica = Replica(20_000, IterationTime(0.0106, 4.013e-7))
    direct = makespan(Greedy(), mix, replica, 120, replications=2)
    assert one["makespan"]["mean"] == pytest.approx(direct.seconds.mean())
    code, every = answer(capsys, "run", file, "--replications", 2)
    times = [each["makespan"]["mean"] for each in every["makespans"]]
    assert code == 0
    assert times == sorted(times)
    assert {"vllm-v1", "paced"} <= {each["policy"] for each in every["makespans"]}
    assert status(["run", str(file), "--replications", "2"]) == 0
    assert "times what nobody can beat" in " ".join(capsys.readouterr().out.split())
    assert status(["capacity", str(file)]) == 2
    assert "must not be a batch for capacity" in capsys.readouterr().err
