"""`fluidwait plan` where kinds have roles: two pools, their edge, the same colocated, bad input in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import answer, written

from fluid.planning import Part, Transfer, most_tandem
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import load

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "disaggregated.toml"
REPLICA = """
[replica]
kv_capacity = 400000
first_token = "prefill"
[replica.iteration_time]
overhead = 0.008
per_kv_token = 5e-8
per_prefill_token = 4e-5
per_sequence = 1e-5
"""
KINDS = """
[[fleet.kind]]
name = "fast"
role = "prefill"
price = 3.0
[[fleet.kind]]
name = "slow"
role = "decode"
price = 2.0
[fleet.transfer]
bandwidth = 2e10
latency = 0.001
bytes_per_token = 1e5
"""
WORK = """
[[workload.type]]
name = "chat"
prompt_tokens = 3000
output_tokens = 300
rate = 30.0
"""
TEXT = REPLICA + KINDS + WORK


def test_pools_are_planned_with_their_edge_and_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the loads of the library: counts rounded up, P : D their ratio, the edge that of `most_tandem`."""
    file = written(tmp_path, TEXT)
    code, found = answer(capsys, "plan", file, "--headroom", "10%")
    read = load(file)
    prefill, decode = ([each.kind] for each in read.fleet)
    loads = [1 / most_tandem(read.workload, prefill, decode, *counts).factor for counts in (([1], [99]), ([99], [1]))]
    counts = [-(-1.1 * load // 1) for load in loads]
    assert (code, found["answer"], found["status"]) == (0, True, "optimal")
    assert [found["pools"][role]["kinds"][0]["count"] for role in ("prefill", "decode")] == counts
    assert found["cost"] == 3 * counts[0] + 2 * counts[1]
    assert found["bound"] == pytest.approx(1.1 * (3 * loads[0] + 2 * loads[1]), rel=1e-7)
    assert found["ratio"] == pytest.approx(loads[0] / loads[1], rel=1e-7)
    assert found["edge"]["factor"] == pytest.approx(min(counts[0] / loads[0], counts[1] / loads[1]), rel=1e-7)
    assert max(found["certificate"].values()) < 1e-7
    assert sum(gain > 0 for gain in found["edge"]["one_more"].values()) == 1
    assert prefill[0].part == Part("prefill", Transfer(2e10, 1e5, 0.001))


def test_the_same_replicas_colocated_carry_no_less_but_tokens_wait(tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    """One line, one replica: the colocated factor is no smaller, and an iteration beside a prefill takes d2 of it."""
    found = answer(capsys, "plan", written(tmp_path, TEXT))[1]
    assert found["colocated"]["factor"] >= found["edge"]["factor"]
    mixed = found["colocated"]["iterations"]["fast"]
    apart = found["balance"]["iterations"]["slow"]
    assert mixed["longest"] > 4e-5 * 3000 > apart["longest"] == apart["iteration_time"]
    assert found["balance"]["transfer"] == pytest.approx(0.001 + 3000 * 1e5 / 2e10)


def test_windows_of_the_decode_pool_are_those_of_its_replica(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    """The body of `thresholds` for a decode-only replica at the share of the rates of one."""
    found = answer(capsys, "plan", written(tmp_path, TEXT))[1]
    count = found["pools"]["decode"]["kinds"][0]["count"]
    alone = REPLICA.replace("[replica]", '[replica]\nprefill = "decode-only"') + WORK
    file = written(tmp_path, alone.replace("rate = 30.0", f"rate = {30.0 / count!r}"))
    designed = answer(capsys, "thresholds", file, "--policy", "paced")[1]
    mine = found["thresholds"][0]["paced"]
    assert mine["feasible"]
    assert mine["types"] == designed["types"]
    assert mine["kv_required"] == designed["kv_required"]


def test_pools_that_are_there_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of each does not carry the demand: status 1; nine do."""
    few = TEXT.replace("price = 3.0", "price = 3.0\ncount = 1").replace("price = 2.0", "price = 2.0\ncount = 1")
    code, found = answer(capsys, "plan", written(tmp_path, few))
    assert (code, found["answer"], found["there"]["carries"]) == (1, False, False)
    many = few.replace("count = 1", "count = 9")
    assert answer(capsys, "plan", written(tmp_path, many), "--spare", "1")[0] == 0
    short = TEXT.replace("price = 2.0", "price = 2.0\nmost = 1")
    code, found = answer(capsys, "plan", written(tmp_path, short))
    assert (code, found["status"], found["cost"], found["edge"]) == (1, "infeasible", None, None)


def test_the_report_fits_80_columns_and_says_it_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """P : D, the pool that binds, one more, colocated, the time between tokens, thresholds, the certificate."""
    monkeypatch.setenv("COLUMNS", "80")
    assert status(["plan", str(EXAMPLE)]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    words = " ".join(printed.split())
    for part in ("P : D is", "binds", "one more", "colocated", "time between tokens", "windows of", "certificate",
                 "upper bound"):
        assert part in words
    few = TEXT.replace("price = 3.0", "price = 3.0\ncount = 1").replace("price = 2.0", "price = 2.0\nmost = 0")
    assert status(["plan", str(written(tmp_path, few))]) == 1
    assert "no decode pool" in " ".join(capsys.readouterr().out.split())


def test_bytes_of_a_token_are_those_of_the_model() -> None:
    """Llama 3.1 70B: 2 x 80 layers x 8 heads x 128 x 2 bytes."""
    part = load(EXAMPLE).fleet[0].kind.part
    assert part is not None
    assert part.transfer.bytes_per_token == 2 * 80 * 8 * 128 * 2


@pytest.mark.parametrize(("old", "new", "named"), [
    ('role = "decode"\n', "", "fleet.kind[1].role"), ('role = "decode"', 'role = "prefill"', "fleet.kind"),
    ('role = "decode"', 'role = "both"', "fleet.kind[1].role"), ("bandwidth = 2e10\n", "", "fleet.transfer.bandwidth"),
    ("bandwidth = 2e10", "bandwidth = 0.0", "fleet.transfer.bandwidth"),
    ("latency = 0.001", "latency = -1.0", "fleet.transfer.latency"),
    ("bytes_per_token = 1e5\n", "", "fleet.transfer.bytes_per_token"),
    ("bytes_per_token = 1e5", "bytes_per_token = nan", "fleet.transfer.bytes_per_token"),
    ("latency", "delay", "fleet.transfer.delay"), ("[fleet.transfer]\n", "[target]\n", "target.bandwidth"),
    (KINDS[KINDS.index("[fleet.transfer]"):], "", "fleet.transfer"),
    ('role = "prefill"\n', '', "fleet.kind[0].role"),
    ('first_token = "prefill"', 'first_token = "prefill"\nprefill = "decode-only"', "fleet.kind[0].prefill"),
    ("output_tokens = 300", "output_tokens = 1", "output_tokens")])
def test_bad_roles_and_links_are_one_line(old: str, new: str, named: str, tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    """The key, what it must be, what was found; status 2."""
    assert old in TEXT
    assert status(["plan", str(written(tmp_path, TEXT.replace(old, new, 1)))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert named in captured.err


def test_a_target_on_the_time_between_tokens_binds_who_decodes(tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    """Within 15 ms both take more replicas of those that decode; the iteration time of the plan keeps within it."""
    free = answer(capsys, "plan", written(tmp_path, TEXT))[1]
    text = TEXT.replace("[[workload", "[target]\ntpot = 0.015\nttft = 1.0\n[[workload")
    held = answer(capsys, "plan", written(tmp_path, text))[1]
    assert held["pools"]["decode"]["kinds"][0]["limit"] == "tpot"
    assert held["pools"]["prefill"]["cost"] == free["pools"]["prefill"]["cost"]
    assert held["pools"]["decode"]["bound"] > free["pools"]["decode"]["bound"]
    assert held["colocated"]["bound"] > free["colocated"]["bound"]
    assert held["balance"]["iterations"]["slow"]["iteration_time"] <= 0.015
    assert len(held["left_open"]) == 1


def test_pools_are_simulated_beside_the_same_replicas_colocated(tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    """By four routers, with windows where requests are decoded; the report has them all, and what no cache held."""
    file = written(tmp_path, TEXT.replace("rate = 30.0", "rate = 12.0"))
    flags = ("--headroom", "50%", "--simulate", "paced", "--horizon", "40", "--replications", "2")
    code, found = answer(capsys, "plan", file, *flags)
    simulated = found["simulated"]
    assert (code, simulated["answer"]) == (0, True)
    assert [each["rule"] for each in simulated["routers"]] == ["shortest-queue", "least-kv", "round-robin", "random"]
    assert all(each["verdict"] == "stable" and each["in_transfer"] >= 3000 for each in simulated["routers"])
    assert simulated["colocated"]["tpot"]["mean"] > simulated["routers"][0]["tpot"]["mean"]
    assert status(["plan", str(file), *flags]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "apart, least-kv" in words
    assert "the plan holds" in words


def test_pools_for_rates_that_are_possible_are_those_of_the_highest(tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """Of one type within 20% each pool is that of 1.2 times the rate; not where a type ends at its prefill."""
    file = written(tmp_path, TEXT)
    found = answer(capsys, "plan", file, "--rates-within", "20%")[1]
    more = answer(capsys, "plan", written(tmp_path, TEXT.replace("rate = 30.0", "rate = 36.0")))[1]
    for role, pool in more["pools"].items():
        assert found["robust"][role]["cost"] == pool["cost"]
    two = TEXT + WORK.replace("output_tokens = 300", "output_tokens = 1").replace("chat", "classify")
    assert status(["plan", str(written(tmp_path, two)), "--rates-within", "20%"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_link_without_roles_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would say nothing."""
    plain = TEXT.replace('role = "prefill"\n', "").replace('role = "decode"\n', "")
    assert status(["plan", str(written(tmp_path, plain))]) == 2
    assert "fleet.transfer" in capsys.readouterr().err


def test_kinds_of_different_models_must_say_what_a_token_takes(tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    """FP8 on one side and 16 bit on the other; and first tokens that are made in two places."""
    text = EXAMPLE.read_text(encoding="utf-8")
    other = text.replace('role = "decode"', 'role = "decode"\nmodel = "llama-3.1-70b"\ngpu = "h100-80gb"\n'
                         'tensor_parallel = 4\nkv_dtype = "fp8"\nfirst_token = "prefill"')
    assert status(["plan", str(written(tmp_path, other))]) == 2
    assert "fleet.transfer.bytes_per_token" in capsys.readouterr().err
    assert status(["plan", str(written(tmp_path, other.replace('kv_dtype = "fp8"\nfirst_token = "prefill"', "")))]) == 2
    assert "fleet.kind[1].first_token" in capsys.readouterr().err


def test_a_pool_without_replicas_carries_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plenty there to prefill and nothing to decode: nothing is carried, with spare replicas asked for or not."""
    file = written(tmp_path, TEXT.replace('role = "prefill"', 'role = "prefill"\ncount = 40'))
    for flags in ((), ("--spare", "1")):
        code, found = answer(capsys, "plan", file, *flags)
        assert (code, found["answer"], found["there"]["carries"]) == (1, False, False), flags
        assert found["there"]["factor_without_spare"] == 0


def test_pools_are_for_the_busiest_window_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No schedule is made of them: the plan at twice the rates is that of a day with a window of scale 2."""
    windows = "".join(f"\n[[workload.window]]\nduration = 43200.0\nscale = {scale}\n" for scale in (0.5, 2.0))
    _, twice = answer(capsys, "plan", written(tmp_path, TEXT.replace("rate = 30.0", "rate = 60.0")))
    file = written(tmp_path, TEXT + windows)
    _, found = answer(capsys, "plan", file)
    assert (found["rate"], found["cost"]) == (60.0, twice["cost"])
    status(["plan", str(file)])
    assert "no schedule is made of pools" in " ".join(capsys.readouterr().out.split())
