"""`fluidwait plan`: the report and its JSON, a fleet that is there, what is infeasible, bad input in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import ONE_SERVER, ONE_TYPE, answer, written

from fluid import stability_region
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import load

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "fleet.toml"
TEXT = EXAMPLE.read_text(encoding="utf-8")


def with_keys(*lines: str) -> str:
    """The example with keys of its kind "small"."""
    return TEXT.replace("price = 1.2\n", "price = 1.2\n" + "".join(f"{line}\n" for line in lines))


def test_a_mixed_fleet_is_planned_and_beats_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, costs, shares that sum to 1, a certificate that holds, what growth and failures take."""
    code, found = answer(capsys, "plan", EXAMPLE)
    assert (code, found["answer"], found["status"]) == (0, True, "optimal")
    assert found["cost"] == pytest.approx(sum(each["price"] * each["count"] for each in found["kinds"]))
    assert found["bound"] <= found["cost"] < found["single"]["cost"]
    assert max(found["certificate"].values()) < 1e-7
    assert [sum(each["shares"].values()) for each in found["types"]] == pytest.approx([1.0, 1.0])
    assert [each["traffic"] for each in found["growth"]] == pytest.approx([1.1, 1.2, 1.5])
    costs = [found["cost"], *(each["cost"] for each in found["growth"])]
    assert costs == sorted(costs)
    assert all(0 < each["filled"] <= 1 for each in found["kinds"] if each["count"])


def test_without_kinds_it_is_the_replica_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """500 requests/s take as many replicas as the edge load says, at a price of 1."""
    file = written(tmp_path, ONE_TYPE.format(rate=500.0))
    read = load(file)
    load_of_one = stability_region(read.workload, read.replica).edge_load([500.0])
    code, found = answer(capsys, "plan", file)
    assert (code, found["cost"]) == (0, -(-load_of_one // 1))
    assert answer(capsys, "plan", file, "--spare", "2")[1]["cost"] == found["cost"] + 2
    assert answer(capsys, "plan", file, "--headroom", "50%")[1]["bound"] == pytest.approx(1.5 * load_of_one)


def test_a_fleet_that_is_too_small_says_what_to_add_and_whom_to_admit(tmp_path: Path,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    """4 small ones there: status 1, the factor, what is added, admissions with certificates; enough of them: 0."""
    code, found = answer(capsys, "plan", written(tmp_path, with_keys("count = 4")))
    assert (code, found["answer"], found["status"]) == (1, False, "optimal")
    assert 0 < found["there"]["factor"] < 1
    assert sum(found["there"]["added"].values()) > 0
    assert [each["objective"] for each in found["admission"]] == ["requests", "tokens", "max-min", "proportional"]
    assert all(max(each["certificate"].values()) < 1e-6 for each in found["admission"])
    code, found = answer(capsys, "plan", written(tmp_path, with_keys("count = 17")))
    assert (code, found["there"]["carries"], found["admission"]) == (0, True, [])
    code, found = answer(capsys, "plan", written(tmp_path, with_keys("count = 17")), "--spare", "1")
    assert (code, found["there"]["carries"]) == (1, False)


def test_the_report_fits_80_columns_and_says_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """The fleet, one kind, N-1, growth, worth, certificate, what is assumed."""
    monkeypatch.setenv("COLUMNS", "80")
    assert status(["plan", str(written(tmp_path, with_keys("count = 4")))]) == 1
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    for part in ("which carries up to", "until then admit by", "of one kind", "N-1", "traffic +50%", "at the margin",
                 "certificate", "upper bound"):
        assert part in words


def test_what_is_infeasible_is_said_with_the_smallest_change(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    """`most` too small, or a type that fits no kind: status 1 and a sentence."""
    few = with_keys("most = 2").replace("price = 4.0", "price = 4.0\nmost = 1")
    code, found = answer(capsys, "plan", written(tmp_path, few))
    assert (code, found["status"], found["cost"]) == (1, "infeasible", None)
    assert 0 < found["carries"] < 1
    assert sum(found["missing"].values()) > 0
    huge = TEXT.replace("prompt_tokens = 8000", "prompt_tokens = 800000")
    code, found = answer(capsys, "plan", written(tmp_path, huge))
    assert code == 1
    assert "fits no kind" in found["reason"]
    assert status(["plan", str(written(tmp_path, huge))]) == 1
    assert "no fleet: type" in " ".join(capsys.readouterr().out.split())


def test_kinds_of_the_catalogue_have_their_own_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model on a GPU by name, as in [replica]."""
    text = with_keys('model = "llama-2-7b"', 'gpu = "h100-80gb"').replace("kv_capacity = 60000\n", "").split(
        "[fleet.kind.iteration_time]")
    file = written(tmp_path, text[0] + "[[workload.type]]" + text[1].split("[[workload.type]]", 1)[1])
    kinds = load(file).fleet
    assert [each.placement is not None for each in kinds] == [False, True]
    assert kinds[1].kind.replica.kv_capacity > 60_000
    assert answer(capsys, "plan", file)[0] == 0


@pytest.mark.parametrize(("keys", "named"), [
    (["price = 2.0"], "TOML"), (["cost = 2.0"], "fleet.kind[1].cost"), (["most = -1"], "fleet.kind[1].most"),
    (["count = 3", "most = 2"], "fleet.kind[1].count"), (['gpu = "h100-80gb"'], "fleet.kind[1].model"),
    (["tensor_parallel = 2"], "fleet.kind[1].tensor_parallel"), (["block = 0"], "fleet.kind[1].block"),
    (["most = 1.5"], "fleet.kind[1].most")])
def test_bad_kinds_are_one_line(keys: list[str], named: str, tmp_path: Path,
                                capsys: pytest.CaptureFixture[str]) -> None:
    """The key of the kind, what it must be, what was found; status 2."""
    assert status(["plan", str(written(tmp_path, with_keys(*keys)))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert named in captured.err


@pytest.mark.parametrize(("old", "new", "named"), [
    ('name = "small"', 'name = "big"', "fleet.kind[1].name"), ("price = 4.0", "price = 0.0", "fleet.kind[0].price"),
    ("price = 4.0", "", "fleet.kind[0].price"), ("price = 4.0", "price = nan", "fleet.kind[0].price"),
    ("rate = 20.0 ", "rate = 1e12 ", "replicas"), ("overhead = 0.012\n", "", "fleet.kind[1].iteration_time.overhead")])
def test_bad_values_are_one_line(old: str, new: str, named: str, tmp_path: Path,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    """Names twice, prices of nothing, a demand beyond all fleets."""
    assert status(["plan", str(written(tmp_path, TEXT.replace(old, new)))]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert named in captured.err


@pytest.mark.parametrize("flags", [["--headroom", "-1"], ["--headroom", "nan"], ["--headroom", "much"],
                                   ["--spare", "-1"], ["--spare", "0.5"], ["--spare", "1000"],
                                   ["--horizon", "100"], ["--confidence", "95%"],
                                   ["--confidence", "95%", "--rates-within", "10%"]])
def test_bad_flags_are_one_line(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and the flag is named."""
    assert status(["plan", *flags]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert flags[0] in captured.err


def test_a_batch_and_a_closed_loop_have_no_rate_to_plan_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are refused in one line."""
    for lines in ("[workload]\narrivals = { batch = 100 }\n", "[workload]\nusers = 10\nthink = 1.0\n"):
        assert status(["plan", str(written(tmp_path, ONE_TYPE.format(rate=5.0).replace("[[", lines + "[[")))]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_plan_is_simulated_behind_routers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The planned routers come first and are stable; taking turns without types is not: status 0, a table, JSON."""
    asked = ["plan", written(tmp_path, TEXT), "--headroom", "20%", "--simulate", "vllm-v1", "--horizon", "500",
             "--replications", "2"]
    code, found = answer(capsys, *asked)
    routers = {(each["rule"], each["as_planned"]): each for each in found["simulated"]["routers"]}
    assert (code, found["answer"], found["simulated"]["answer"], len(routers)) == (0, True, True, 8)
    assert routers["shortest-queue", True]["verdict"] == "stable"
    assert routers["round-robin", False]["verdict"] == "unstable"
    assert routers["shortest-queue", True]["latency"]["mean"] < routers["random", True]["latency"]["mean"]
    assert status([str(each) for each in asked]) == 0
    assert "the plan holds with the shortest queue of the planned kind" in capsys.readouterr().out.replace("\n", " ")


def test_a_simulated_fleet_is_held_against_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One kind has four routers; a TTFT that nobody meets is missed, and the answer is no."""
    text = ONE_TYPE.format(rate=60.0) + "[target]\nttft_p50 = 0.001\n"
    code, found = answer(capsys, "plan", written(tmp_path, text), "--headroom", "30%", "--simulate", "paced",
                         "--horizon", "60", "--replications", "2")
    simulated = found["simulated"]
    assert (code, found["answer"], simulated["answer"], len(simulated["routers"])) == (1, True, False, 4)
    assert simulated["routers"][0]["targets"][0]["answer"] == "missed"


@pytest.mark.parametrize(("flags", "needs"), [
    (["--simulate", "mc-sf"], "--simulate must be \"vllm-v1\" or"),
    (["--simulate", "vllm-v1", "--replications", "1"], "--replications must be a whole number of replications from 2"),
    (["--simulate", "vllm-v1", "--horizon", "-1"], "--horizon must be"),
    (["--simulate", "vllm-v1", "--seed", "-1"], "--seed must be"),
    (["--simulate", "vllm-v1", "--replications", "2", "--horizon", "0.001"], "--horizon must be 0.0167 seconds at"),
])
def test_how_to_simulate_is_checked(flags: list[str], needs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, status 2."""
    assert status(["plan", str(EXAMPLE), *flags]) == 2
    assert needs in capsys.readouterr().err


DAY = EXAMPLE.with_name("fleet-day.toml")


def test_a_day_of_rates_has_a_schedule_and_says_what_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It covers the day, costs less than the peak's fleet all day, and what is there too few of waits."""
    code, found = answer(capsys, "plan", DAY)
    day = found["day"]
    assert (code, day["status"]) == (0, "optimal")
    assert day["pieces"][0]["start"] == 0
    assert day["pieces"][-1]["end"] == day["period"] == 86_400
    assert day["bound"] <= day["cost"] < day["peak_cost"] == pytest.approx(24 * found["cost"])
    assert max(day["certificate"].values()) < 1e-6
    assert day["autoscaler"]["backlog"]["largest"] > 0
    assert day["there"] is None
    few = written(tmp_path, DAY.read_text(encoding="utf-8").replace("price = 1.2\n", "price = 1.2\ncount = 12\n"))
    code, found = answer(capsys, "plan", few)
    assert code == 1
    assert found["day"]["there"]["largest"] > 0
    assert status(["plan", str(few)]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "07:00" in shown
    assert "with what is there all the time: requests wait up to" in shown


def test_what_is_never_carried_grows_in_seconds_of_the_busiest_window(tmp_path: Path,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    """No window fits one replica: a day adds its factors less the share carried of the busiest one."""
    file = written(tmp_path, DAY.read_text(encoding="utf-8").replace("price = 1.2\n", "price = 1.2\ncount = 5\n"))
    _, found = answer(capsys, "plan", file)
    windows = zip((25_200, 10_800, 7_200, 21_600, 21_600), (0.25, 0.8, 1.0, 0.7, 0.45), strict=True)
    left = sum(seconds * (factor - found["there"]["factor"]) for seconds, factor in windows)
    assert found["day"]["there"]["growth"] == pytest.approx(left)


def test_what_waits_until_the_next_day_is_told_by_its_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The clock does not go on beyond 24:00."""
    file = written(tmp_path, DAY.read_text(encoding="utf-8").replace("price = 1.2\n", "price = 1.2\ncount = 9\n"))
    moment = round(answer(capsys, "plan", file)[1]["day"]["there"]["drained"] - 86_400)
    assert moment > 0
    status(["plan", str(file)])
    hour, minute = divmod(moment // 60, 60)
    assert f"until {hour:02d}:{minute:02d}:{moment % 60:02d} of the next" in " ".join(capsys.readouterr().out.split())


def test_a_start_up_time_that_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Negative, or beyond the period."""
    text = DAY.read_text(encoding="utf-8")
    for time, said in (("-1.0", "start_up"), ("90000.0", "86400 seconds of the period")):
        assert status(["plan", str(written(tmp_path, text.replace("start_up = 180.0", f"start_up = {time}")))]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_targets_limit_what_replicas_carry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Iterations within the time between tokens, predictions within TTFT, and what a plan cannot see is said."""
    costs = [answer(capsys, "plan", EXAMPLE)[1]["cost"]]
    for ttft in (0.4, 0.2):
        asked = f"\n[target]\ntpot = 0.04\nttft = {ttft}\nttft_p99 = 3.0\n"
        code, found = answer(capsys, "plan", written(tmp_path, TEXT + asked))
        assert code == 0
        costs.append(found["cost"])
        used = [each for each, kind in zip(found["targets"]["kinds"], found["kinds"], strict=True) if kind["count"]]
        assert used
        for each in used:
            assert each["iteration_time"] <= 0.04 * (1 + 1e-9)
            assert each["ttft"] <= ttft * 1.01
            assert 0 < each["use"] <= 0.9
        assert found["targets"]["left"] == ["ttft_p99 up to 3 s"]
        assert max(found["certificate"].values()) < 1e-7
    assert costs == sorted(costs)
    code, found = answer(capsys, "plan", written(tmp_path, TEXT + "\n[target]\nttft = 1e-4\n"))
    assert (code, found["status"]) == (1, "infeasible")
    assert "ttft up to 0.0001 s" in found["reason"]
    code, other = answer(capsys, "plan", tmp_path / "mix.toml", "--rates-within", "10%")
    assert (code, other["robust"]["counts"], other["robust"]["reason"]) == (1, None, found["reason"])
    code, found = answer(capsys, "plan", written(tmp_path, TEXT + "\n[target]\nitl_p99 = 0.01\n"))
    assert (code, [each["count"] for each in found["kinds"]][1]) == (0, 0)
    assert status(["plan", str(written(tmp_path, TEXT + "\n[target]\ntpot = 0.001\n"))]) == 1
    assert "without any work takes 9 ms" in " ".join(capsys.readouterr().out.split())


def test_uncertain_rates_cost_what_their_corner_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """Over a box it is the plan with that head-room; an ellipsoid inside it costs no more; not asked, there is none."""
    assert answer(capsys, "plan", EXAMPLE)[1]["robust"] is None
    _, box = answer(capsys, "plan", EXAMPLE, "--rates-within", "10%")
    _, room = answer(capsys, "plan", EXAMPLE, "--headroom", "10%")
    assert box["robust"]["cost"] == room["cost"] == box["robust"]["bound"]
    assert box["robust"]["price"] == pytest.approx(room["cost"] - box["cost"])
    _, together = answer(capsys, "plan", EXAMPLE, "--rates-within", "10%", "--set", "ellipsoid")
    assert box["cost"] <= together["robust"]["bound"] <= together["robust"]["cost"] <= box["robust"]["cost"]
    assert status(["plan", str(EXAMPLE), "--set", "ellipsoid"]) == 2
    assert "--set" in capsys.readouterr().err


def test_tails_are_held_by_simulating_a_replica(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """M/D/1 of 100 requests/s: a mean latency of twice the service is kept up to 200/3 requests/s. 200 of them take as
    many replicas as the lower end of the search says; without targets there is nothing to hold."""
    file = written(tmp_path, ONE_SERVER.format(rate=200.0) + "\n[target]\nlatency = 0.02\n")
    code, found = answer(capsys, "plan", file, "--tails")
    (tail,) = found["targets"]["tails"]
    assert code == 0
    assert tail["settled"]
    assert tail["low"] < 200 / 3 < tail["high"]
    assert tail["edge"] == pytest.approx(100.0)
    assert found["cost"] == -(-200 // min(tail["low"], 100 * found["targets"]["kinds"][0]["use"]))
    assert status(["plan", str(EXAMPLE), "--tails"]) == 2
    assert "--tails" in capsys.readouterr().err


def test_tails_keep_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dear replica that is there stays in the plan, though one of the cheap kind alone would cost less."""
    kinds = "".join(f'[[fleet.kind]]\nname = "{name}"\nprice = {price}\ncount = {count}\n'
                    for name, price, count in (("dear", 5.0, 1), ("cheap", 1.0, 0)))
    file = written(tmp_path, ONE_SERVER.format(rate=100.0) + kinds + "\n[target]\nlatency = 0.02\n")
    _, found = answer(capsys, "plan", file, "--tails")
    assert {each["name"]: each["count"] for each in found["kinds"]} == {"dear": 1, "cheap": 1}
    assert found["cost"] == 6.0
    assert found["there"]["factor"] > 0
