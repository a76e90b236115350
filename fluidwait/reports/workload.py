"""The part of the report about what arrives: its origin, what prefills take, the windows its rates move through."""

from __future__ import annotations

from dataclasses import replace

from rich.markup import escape

from fluid import ClosedEquilibrium, Equilibrium, LengthPairs, Lengths, Workload, solve
from fluid.equilibrium import scale_without_prefill_cost, time_shares
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.mix import Mix
from fluidwait.deployment.timing import GIVEN
from fluidwait.deployment.write_workload import binning_errors
from fluidwait.reports.console import MOST_ROWS, console, new_table, optional, say, seconds
from fluidwait.reports.trace import show_reading
from verification import Limited, Replay
from verification.traffic.batch import Batch
from verification.traffic.bursts import Bursts

FEW = 8
FEWEST_PAIRS = 9  # of two laws
LEAST_SHARE = 1e-6  # of a law beyond its limit, to be told


def show_origin(mix: Mix) -> None:
    """Lines about the prefixes that the workload shares, the laws of its lengths, the trace behind it, if any."""
    if mix.reserved:
        console.print(f"shared prefixes hold {mix.reserved:,} KV tokens of the cache beside those of requests; every "
                      "other number of KV tokens is without them")
    for each in mix.laws:
        _show_laws(each.pairs)
    if mix.closed is not None:
        _show_users(mix.closed)
    if isinstance(mix.traffic, Limited):
        console.print(f"at most {mix.traffic.max_concurrency:,} requests at the replica at a time; a latency counts "
                      "from when a request is sent, not from when it is due")
    if isinstance(mix.traffic, Batch):
        console.print(f"{mix.traffic.requests:,} requests, all there at time 0, types in proportion to the rates")
    if isinstance(mix.traffic, Bursts):
        told = mix.traffic.dispersion(mix.workload.rate)
        memory = f", a rate that remembers for {seconds(told.seconds)}" if told.seconds else ""
        console.print(f"arrivals come in bursts: index of dispersion {told.index:,.4g} (Poisson: 1){memory}")
    if mix.trace is None:
        return
    trace, pairs = mix.trace, len(mix.workload)
    console.print(f"trace {escape(trace.source)}: {len(trace):,} requests, {pairs:,} "
                  f"{'types' if mix.binned else 'distinct length pairs'}, at {mix.workload.rate:.4g} requests/s"
                  + (f", {arrivals_of(mix)}" if not mix.windows else "")
                  + (f"; {trace.skipped:,} bad rows left out" if trace.skipped else "")
                  + (f"; {trace.failed:,} failed requests left out" if trace.failed else ""))
    show_reading(trace)
    if mix.binned is not None:
        console.print(binning_errors(mix.binned))


def _show_users(loop: ClosedEquilibrium) -> None:
    """What users send in balance, and how many of them the replica carries."""
    full = ": the replica is saturated" if loop.saturated else ""
    console.print(f"{loop.users:,} users who think {loop.think:g} s between requests send {loop.rate:.4g} requests/s "
                  f"in balance, with a latency of {seconds(loop.latency)}{full}")
    console.print(f"{loop.saturating:,.4g} users saturate it: {loop.edge:.4g} requests/s at most, "
                  f"{seconds(loop.alone)} a request alone; of these users no policy carries more than {loop.most:.4g} "
                  "requests/s")


def _show_laws(pairs: LengthPairs) -> None:
    """What the laws of lengths amount to, and what is left of them in few lengths."""
    of = f"{pairs.name}: " if pairs.name else ""
    sides = (("prompts", pairs.prompt), ("outputs", pairs.output))
    console.print(escape(of + "; ".join(f"{side} {_law(law)}" for side, law in sides)))
    if not pairs.exact:
        moved = " and ".join(f"{share:+.1%}" for share in pairs.p99_moved())
        console.print(f"[dim]in {len(pairs.few_prompts.tokens)} x {len(pairs.few_outputs.tokens)} lengths: their means "
                      f"and the mean KV work (blocks of one token) are exact, p99 moves by {moved}[/dim]")


def _law(law: Lengths) -> str:
    """A law with its mean, and what its limit took from it."""
    told = law.caption()
    if law.clipped < LEAST_SHARE or len(law.tokens) == 1:
        return told
    return f"{told} ({law.clipped:.2%} beyond, clipped; mean {law.stated_mean:,.4g} before)"
def arrivals_of(mix: Mix) -> str:
    """How the requests of a trace arrive, in words."""
    if isinstance(mix.traffic, Replay):
        return "replayed at its own moments, stretched to this rate"
    return "with Poisson arrivals" + ("" if mix.trace and mix.trace.times is None else
                                      ' instead of its own moments (workload.arrivals = "trace")')


def in_few_types(mix: Mix, equilibrium: Equilibrium) -> Equilibrium:
    """The equilibrium to show type by type: of a trace, that of its length pairs put together into a few; of laws of
    lengths, that of fewer pairs of them.
    """
    few, error = mix.workload, 0.0
    if len(mix.workload) > MOST_ROWS and mix.trace is not None:
        binned = mix.trace.binned(FEW, mix.workload.rate)
        few, error = binned.workload, binned.kv_work_error
    elif len(mix.workload) > MOST_ROWS and mix.only_laws and len(mix.laws) <= MOST_ROWS // FEWEST_PAIRS:
        stated = sum(each.rate for each in mix.laws)
        few = Workload([kind for each in mix.laws for kind in Workload.from_pairs(
            replace(each.pairs, bins=FEWEST_PAIRS), each.rate * mix.workload.rate / stated).types])
    if few is mix.workload:
        return equilibrium
    console.print(f"[dim]in {len(few)} types, for reading only (KV work {error:+.2%}):[/dim]")
    return solve(few, equilibrium.replica)


def show_shares(equilibrium: Equilibrium) -> None:
    """What an iteration is spent on, and how much of the region prefills take."""
    shares = time_shares(equilibrium)
    if shares is not None:
        parts = zip(("overhead", "reading KV", "prefill", "sequences"), shares, strict=True)
        console.print("an iteration is spent on " + ", ".join(f"{name} {part:.1%}" for name, part in parts if part))
    if equilibrium.profile.prefilled.any() and not any(line.per_prefill_token
                                                       for line in equilibrium.replica.iteration_time.pieces):
        console.print("prefills take no time here: per_prefill_token is 0")
    free, edge = scale_without_prefill_cost(equilibrium), equilibrium.max_rate_scale
    if 0 < edge < free:
        console.print(f"prefill takes {1 - edge / free:.1%} of the region: if it took no time, the mix would be stable "
                      f"up to {free:.4g} of these rates instead of {edge:.4g}")


def show_timing(deployment: Deployment) -> None:
    """Where the iteration time comes from, and how far the edge may be from where it is printed."""
    timing = deployment.timing
    if timing is None or timing.source == GIVEN:
        return
    console.print(f"iteration time {escape(timing.detail)}")
    interval = timing.rate_interval(deployment.workload, deployment.replica)
    if interval is not None:
        low, high = interval
        rate = deployment.workload.rate
        edge = (f"at {low * rate:.4g} requests/s or more, {low:.3g}" if high is None else
                f"between {low * rate:.4g} and {high * rate:.4g} requests/s, {low:.3g} to {high:.3g}")
        console.print(f"at 95% the edge lies {edge} of these rates")


def show_windows(mix: Mix) -> None:
    """The windows of one period, which of them do not fit, and what waits at their ends."""
    if not mix.windows:
        return
    table = new_table("window", "requests/s", "KV tokens", "iteration", "backlog", "")
    for each in mix.windows:
        balance = each.equilibrium
        table.add_row(f"{each.start:,.6g} to {each.end:,.6g} s", f"{balance.workload.rate:.4g}",
                      optional(balance.kv_required), seconds(balance.iteration_time), seconds(each.backlog),
                      "[green]fits[/green]" if balance.stable else "[red]does not fit[/red]")
    console.print(table)
    if mix.overload:
        say(False, mix.overload)
    console.print("[dim]backlog: the seconds it takes to serve what waits at the end of a window[/dim]\n")
    console.print(f"What follows is said of the busiest window that fits, {mix.workload.rate:.4g} requests/s:")
