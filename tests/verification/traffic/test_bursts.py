"""Arrivals in bursts have the rate, the gaps and the index of dispersion that they state."""

import math

import numpy as np
import pytest
from scipy import stats

from fluid import InputError, IterationTime, PromptType, Replica, Workload
from thresholds import Dispersion, WaitPolicy, paced, predict, predict_continuous
from thresholds.guarantees import equilibrium_of
from verification import GammaBursts, Greedy, OnOff, Poisson, Predicted, simulate, t_interval, verify
from verification.traffic.bursts import Bursts
from verification.traffic.predicted_lengths import Misclassified
from verification.traffic.processes import steady_dispersion

MIX = Workload([PromptType(10, 10, 15.0), PromptType(20, 5, 5.0)])
GPU = Replica(137_000, IterationTime(0.0106, 4.013e-7, 5e-5, 8e-5), first_token="prefill")
CHAT = Workload([PromptType(512, 200, 3.0)])


def counts(traffic: Bursts, horizon: float, replications: int) -> np.ndarray:
    """Requests of each replication."""
    return np.array([len(traffic.draw(MIX, horizon, 3, r)) for r in range(replications)])


@pytest.mark.parametrize("traffic", [GammaBursts(0.1), GammaBursts(4.0), OnOff(1.0, 3.0), OnOff(0.5, 0.1)])
@pytest.mark.parametrize("horizon", [0.3, 40.0])
def test_the_mean_count_is_the_rate_at_every_horizon(traffic: Bursts, horizon: float) -> None:
    """Both processes begin stationary: E N(T) = lambda T, also before the first burst is over."""
    found = counts(traffic, horizon, 400)
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - 20 * horizon) < 4 * error


@pytest.mark.parametrize(("traffic", "index", "seconds"), [
    (GammaBursts(0.2), 5.0, 0.0), (GammaBursts(4.0), 0.25, 0.0),
    (OnOff(1.0, 3.0), 1 + 2 * 20 * 9 / 4, 0.75), (OnOff(2.0, 0.5), 1 + 2 * 20 * 0.25 / 2.5, 0.4)])
def test_the_index_of_dispersion_is_that_of_the_counts(traffic: Bursts, index: float, seconds: float) -> None:
    """Var N / E N over long windows, its standard error I sqrt(2/n) for n windows (their counts are nearly normal)."""
    assert traffic.dispersion(20.0) == Dispersion(index, seconds)
    found = counts(traffic, 200.0, 400)
    bias = (index - 1) * seconds / 200  # I(t) = I - (I - 1) T_c (1 - e^(-t/T_c)) / t
    measured = found.var(ddof=1) / (20 * 200)
    assert abs(measured - (index - bias)) < 4 * index * math.sqrt(2 / 400) + 0.02 * index


def test_gaps_follow_the_gamma_law() -> None:
    """Kolmogorov's test at 0.1% on the gaps of one long run, the law that of the benchmark's flag."""
    times = GammaBursts(0.25).draw(MIX, 500.0, 1, 0).times
    assert stats.kstest(np.diff(times), stats.gamma(0.25, scale=1 / (20 * 0.25)).cdf).pvalue > 0.001


def test_nobody_comes_while_it_is_off() -> None:
    """Of a process that is on 1% of the time nearly all windows are empty; while on the rate is 100 times the mean."""
    times = OnOff(1.0, 99.0).draw(MIX, 10_000.0, 0, 0).times
    busy = np.unique(np.floor(times / 0.5).astype(int))
    assert len(busy) < 0.05 * 20_000
    assert len(times) / (len(busy) * 0.5) > 500  # 2,000/s, in windows that are on in part


@pytest.mark.parametrize("traffic", [GammaBursts(0.2), OnOff(3.0, 2.0)])
def test_types_come_with_their_shares_and_times_are_sorted(traffic: Bursts) -> None:
    """A quarter of the requests are of the second type, within 4 standard errors; all inside the horizon."""
    drawn = traffic.draw(MIX, 300.0, 2, 1)
    assert (np.diff(drawn.times) >= 0).all()
    assert drawn.times[-1] < 300
    assert abs(drawn.types.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / len(drawn))
    again = traffic.draw(MIX, 300.0, 2, 1)
    assert np.array_equal(drawn.times, again.times)


def test_bursts_that_cannot_be_used_are_refused() -> None:
    """Shapes outside three decades, and periods without length."""
    for make in (lambda: GammaBursts(0.0), lambda: GammaBursts(1e4), lambda: OnOff(0.0, 1.0), lambda: OnOff(1.0, -1)):
        with pytest.raises(InputError):
            make()


def test_poisson_arrivals_are_the_limits() -> None:
    """Gamma gaps of shape 1, and periods much shorter than gaps: the latency of Poisson streams, 4 standard errors."""
    def latency(traffic: Bursts | Poisson) -> np.ndarray:
        runs = [simulate(Greedy(0.0), CHAT, GPU, horizon=150.0, traffic=traffic, seed=5, replication=r)
                for r in range(20)]
        return np.array([np.nanmean(run.latency) for run in runs])

    base = latency(Poisson())
    for traffic in (GammaBursts(1.0), OnOff(0.01, 0.01)):
        other = latency(traffic)
        error = math.sqrt((base.var(ddof=1) + other.var(ddof=1)) / 20)
        assert abs(other.mean() - base.mean()) < 4 * error


@pytest.mark.parametrize(("traffic", "accuracy"), [
    (GammaBursts(4.0), 0.05), (GammaBursts(0.25), 0.05), (GammaBursts(0.1), 0.05), (OnOff(2.0, 2.0), 0.08)])
def test_the_heavy_traffic_factor_predicts_the_delay_of_sharing(traffic: Bursts, accuracy: float) -> None:
    """Greedy admission far below its boundary, load 0.45: the accuracy measured in mathematics, section 15.4."""
    predicted = predict_continuous(equilibrium_of(Greedy(0.0), CHAT, GPU), dispersion=traffic.dispersion(3.0)).latency
    runs = [simulate(Greedy(0.0), CHAT, GPU, horizon=600.0, traffic=traffic, seed=1, replication=r) for r in range(10)]
    measured = t_interval([float(np.nanmean(run.latency[run.arrivals.times > 60])) for run in runs], 0.9999)
    slack = accuracy * predicted
    assert measured.low - slack < predicted < measured.high + slack


def test_the_queue_before_a_window_grows_with_the_dispersion() -> None:
    """WAIT at a load of 0.9 with gaps of c^2 = 4: its queue is 4 times that under Poisson arrivals (Kingman)."""
    replica = Replica(137_000, IterationTime(0.05, 0.0), first_token="prefill")
    mix, policy = Workload([PromptType(10, 1, 90.0)]), WaitPolicy((5,))
    gather, service = 4 / (2 * 90.0), 0.05
    poisson = predict(policy, mix, replica).latency
    bursty = predict(policy, mix, replica, GammaBursts(0.25).dispersion(90.0))
    assert bursty.latency - gather - service == pytest.approx(4 * (poisson - gather - service))
    runs = [simulate(policy, mix, replica, horizon=400.0, traffic=GammaBursts(0.25), seed=4, replication=r)
            for r in range(10)]
    measured = t_interval([float(np.nanmean(run.latency)) for run in runs], 0.9999)
    assert bursty.latency_accuracy is not None
    assert measured.low * (1 - 0.25) < bursty.latency < measured.high * (1 + 0.25)


def test_verify_holds_bursts_against_the_prediction_at_their_dispersion() -> None:
    """Throughput and latency are checked; TTFT, of which nothing is claimed, is not."""
    found = verify(paced(CHAT, GPU), CHAT, GPU, horizon=400.0, replications=6, traffic=GammaBursts(0.25))
    checks = {each.name: each for each in found.checks}
    assert found.verified
    assert checks["latency"].predicted == predict(paced(CHAT, GPU), dispersion=Dispersion(4.0)).latency
    assert "throughput" in checks
    assert "ttft" not in checks


def test_errors_that_move_streams_between_types_leave_no_dispersion() -> None:
    """A rule that goes by type sees other streams than the workload's; others see all requests."""
    predicted = Predicted(Misclassified(0.5), GammaBursts(0.25))
    assert steady_dispersion(predicted, True, 10.0) is None
    assert steady_dispersion(predicted, False, 10.0) == Dispersion(4.0)
    assert Dispersion(4.0, 10.0).over(30.0) == pytest.approx(1 + 3 / (1 + 1 / 3))
