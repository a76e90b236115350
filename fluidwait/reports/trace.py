"""The report of `fluidwait trace`, and its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape

from fluid.traces.summary import TraceSummary
from fluid.traces.trace import RatesOverTime, Trace
from fluidwait.reports.console import console, new_table, seconds, title

SIGNIFICANT = 0.01
WINDOWS = 60
BARS = " ▁▂▃▄▅▆▇█"


def trace_answer(trace: Trace, summary: TraceSummary, section: str) -> dict[str, Any]:
    """The object of `fluidwait trace --json`."""
    rates = rates_to_show(trace)
    return {"format": summary.format, "requests": summary.requests, "skipped": summary.skipped,
            "failed": summary.failed, "bad_rows": list(trace.bad_rows), "pairs": summary.pairs,
            "duration": summary.duration, "rate": summary.rate,
            "prompt_tokens": summary.prompt_tokens._asdict(), "output_tokens": summary.output_tokens._asdict(),
            "kv_work": summary.kv_work._asdict(),
            "kv_work_share": {"1%": summary.top_1_percent, "10%": summary.top_10_percent},
            "repeated_share": summary.repeated_share, "lengths_p_value": summary.order.p_value,
            "dispersion": {f"{window:g}": index for window, index in summary.dispersion.items()},
            "poisson_p_value": summary.poisson.p_value if summary.poisson else None,
            "read_as": None if trace.read_as is None else trace.read_as._asdict(), "notes": list(trace.notes),
            "runs": list(trace.runs), "poisson_window": summary.poisson.window if summary.poisson else None,
            "rate_over_time": {key: getattr(rates, key).tolist() for key in rates._fields} if rates else None,
            "workload": section}


def show_trace(trace: Trace, summary: TraceSummary, section: str, out: Path | None, figures: list[str]) -> None:
    """The report of `fluidwait trace`."""
    title("Trace", f"{trace.source}, format {summary.format}")
    over = f" over {seconds(summary.duration)}" if summary.duration else ""
    rate = f", {summary.rate:.4g} requests/s" if summary.rate else ", at a rate it does not tell"
    console.print(f"{summary.requests:,} requests{over}{rate}; {summary.pairs:,} distinct length pairs")
    show_reading(trace)
    _show_left_out(trace)
    _show_lengths(summary)
    _show_rates(trace)
    _show_arrivals(summary)
    console.print("\n[bold]To paste into a deployment file[/bold]")
    console.print(section, markup=False, soft_wrap=True)
    if out is not None:
        console.print(f"Written to {escape(str(out))}: report.json, {', '.join(figures)} as PNG and SVG.")


def show_reading(trace: Trace) -> None:
    """What the file was read as, and what it says of its traffic."""
    if trace.read_as is not None:
        console.print(escape(f"read: {trace.read_as}"))
    for note in trace.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}")
    for i, run in enumerate(trace.runs, start=1):
        console.print(escape(f"  run {i}: {run}"))


def _show_left_out(trace: Trace) -> None:
    if trace.skipped:
        quoted = escape("; ".join(trace.bad_rows))
        console.print(f"[red]{trace.skipped:,} rows cannot be used and were left out:[/red] {quoted}")
    if trace.failed:
        console.print(f"{trace.failed:,} failed requests were left out, of the rate too")
    if trace.times is None and trace.rate:
        console.print("the rate is that of the requests over the whole duration, the time after the last arrival "
                      "included: arrivals came faster")


def _show_lengths(summary: TraceSummary) -> None:
    table = new_table("tokens", "mean", "median", "99%", "largest")
    for name in ("prompt_tokens", "output_tokens"):
        found = getattr(summary, name)
        table.add_row(name.removesuffix("_tokens"), f"{found.mean:,.4g}", f"{found.median:,.4g}", f"{found.p99:,.4g}",
                      f"{found.max:,}")
    console.print(table)
    work = summary.kv_work
    interval = "" if work.low is None else f" (95% interval {work.low:,.6g} to {work.high:,.6g})"
    console.print(f"KV work {work.mean:,.6g} token-iterations a request on average{interval}; the 1% of the requests "
                  f"with most of it hold {summary.top_1_percent:.1%}, the top 10% {summary.top_10_percent:.1%}")
    console.print(escape(f"{summary.order.reason[0].upper()}{summary.order.reason[1:]}"))
    if summary.repeated_share is not None:
        console.print(f"{summary.repeated_share:.1%} of the prompt tokens repeat the beginning of an earlier prompt: "
                      "the hit rate of a prefix cache that never forgets, which no cache exceeds")


def rates_to_show(trace: Trace) -> RatesOverTime | None:
    """The rate over time in 60 windows; None where nothing is known of it."""
    if trace.times is None or not trace.duration:
        return None
    return trace.rates_over_time(trace.duration / WINDOWS * (1 + 1e-9))


def _show_rates(trace: Trace) -> None:
    found = rates_to_show(trace)
    if found is None:
        return
    levels = (found.rates / found.rates.max() * (len(BARS) - 1)).round().astype(int)
    console.print(f"rate over time, {len(levels)} windows of {seconds(float(found.edges[1]))}, from "
                  f"{found.rates.min():.4g} to {found.rates.max():.4g} requests/s:")
    console.print("".join(BARS[level] for level in levels))


def _show_arrivals(summary: TraceSummary) -> None:
    if summary.dispersion:
        table = new_table("variance / mean of the arrivals counted in", *(seconds(w) for w in summary.dispersion))
        table.add_row("this trace (Poisson: 1)", *(f"{index:.3g}" for index in summary.dispersion.values()))
        console.print(table)
    if summary.poisson is not None:
        p, window = summary.poisson.p_value, seconds(summary.poisson.window)
        verdict = (f"not Poisson: Poisson arrivals are hardly ever so {_word(summary)}" if p < SIGNIFICANT
                   else "may be Poisson")
        console.print(f"{verdict} (p = {p:.2g}, Fisher's dispersion test on windows of {window})")


def _word(summary: TraceSummary) -> str:
    return "regular" if summary.dispersion and max(summary.dispersion.values()) < 1 else "irregular"
