"""The report of `fluidwait calibrate`, and its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape

from fluid.calibration.calibration import Bounds, Calibration, FittedBatch
from fluid.replica import Line
from fluidwait.reports.console import console, new_table, seconds, title

UNITS = (("overhead", "ms", 1e3), ("per_kv_token", "us", 1e6), ("per_prefill_token", "us", 1e6),
         ("per_sequence", "us", 1e6))


def calibration_answer(found: Calibration, warnings: tuple[str, ...]) -> dict[str, Any]:
    """The object of `fluidwait calibrate --json`."""
    return {"pieces": [line._asdict() for line in found.pieces],
            "intervals": [each._asdict() for each in found.intervals],
            "mape": found.mape, "r2": found.r2, "rows": found.rows, "outliers": found.outliers,
            "skipped": found.batches.skipped, "covered": found.covered._asdict(),
            "worst": [each._asdict() for each in found.worst],
            "outlier_rows": [each._asdict() for each in found.outlier_rows],
            "regions": [each._asdict() for each in found.regions],
            "held_out": [each._asdict() for each in found.held_out],
            "notes": list(found.notes), "warnings": list(warnings), "iteration_time": found.to_toml()}


def show_calibration(found: Calibration, warnings: tuple[str, ...], out: Path | None) -> None:
    """The report of `fluidwait calibrate`."""
    several = len(found.pieces) > 1
    title("Iteration time", f"{found.batches.source}, " + (f"the largest of {len(found.pieces)} lines" if several
                                                           else "one line"))
    console.print(f"{found.rows:,} batches, {found.outliers:,} of them set aside as outliers; mean error "
                  f"{found.mape:.2%}, R² {found.r2:.5f}")
    _show_lines(found)
    covered = found.covered
    console.print(f"measured: KV {_range(covered.kv)} tokens, prefill {_range(covered.prefill)} tokens, "
                  f"{_range(covered.size)} sequences, {seconds(covered.seconds[0])} to {seconds(covered.seconds[1])}")
    _show_regions(found)
    for note in (*found.notes, *warnings):
        console.print(f"[red]note:[/red] {escape(note)}")
    _show_batches("fit worst", found.worst)
    _show_batches("outliers", found.outlier_rows[:len(found.worst)])
    console.print("\n[bold]To paste into a deployment file[/bold]")
    console.print(found.to_toml(), markup=False, soft_wrap=True)
    if out is not None:
        console.print(f"Written to {escape(str(out))}: report.json, iteration_time.toml, fit as PNG and SVG.")


def _show_lines(found: Calibration) -> None:
    table = new_table("coefficient", *(name for i in range(len(found.pieces))
                                       for name in (f"line {i + 1}" if len(found.pieces) > 1 else "value", "95%")))
    for k, (name, unit, factor) in enumerate(UNITS):
        cells: list[str] = []
        for line, interval in zip(found.pieces, found.intervals, strict=True):
            cells += _cells(line, interval[k], k, factor)
        table.add_row(f"{name} ({unit})", *cells)
    console.print(table)


def _show_regions(found: Calibration) -> None:
    table = new_table("batches", "rows", "set aside", "mean error", "fitted too long by")
    for name, rows, outliers, mape, bias in found.regions:
        errors = ["-", "-"] if mape is None or bias is None else [f"{mape:.2%}", f"{bias:+.2%}"]
        table.add_row(name, f"{rows:,}", f"{outliers:,}", *errors)
    console.print(table)


def _cells(line: Line, interval: Bounds | None, k: int, factor: float) -> list[str]:
    if interval is None:
        return ["-", "not told"]
    return [f"{line[k] * factor:.5g}", f"{interval[0] * factor:.4g} to {interval[1] * factor:.4g}"]


def _show_batches(heading: str, batches: tuple[FittedBatch, ...]) -> None:
    if not batches:
        return
    table = new_table(heading, "KV tokens", "prefill", "sequences", "measured", "fitted", "error")
    for each in batches:
        table.add_row(f"line {each.line}", f"{each.kv:,.0f}", f"{each.prefill:,.0f}", f"{each.size:,.0f}",
                      seconds(each.measured), seconds(each.fitted), f"{each.error:+.1%}")
    console.print(table)


def _range(interval: Bounds) -> str:
    return f"{interval[0]:,.0f} to {interval[1]:,.0f}"
