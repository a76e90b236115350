"""A sweep of plans, as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from fluidwait.deployment.deployment import Deployment
from fluidwait.reports.console import console, new_table, title
from fluidwait.study.plans import PlanRow

MOST_ROWS = 60


def plans_answer(rows: Sequence[PlanRow]) -> dict[str, Any]:
    """The body of `plans --json`."""
    return {"plans": [{**row._asdict(), "fleet": json.loads(row.fleet), "priced": row.priced or None,
                       "price": row.price if row.priced else None} for row in rows]}


def as_csv(rows: Sequence[PlanRow]) -> str:
    """A line for each plan; the fleet in a column for each kind."""
    kinds = sorted({name for row in rows for name in json.loads(row.fleet)})
    plain = [name for name in PlanRow._fields if name != "fleet"]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*plain, *kinds])
    for row in rows:
        fleet = json.loads(row.fleet)
        values = ["" if getattr(row, name) is None else getattr(row, name) for name in plain]
        lines.writerow([*values, *(fleet.get(name, 0) for name in kinds)])
    return text.getvalue()


def show_plans(deployment: Deployment, rows: Sequence[PlanRow], out: object) -> None:
    """A row for each plan."""
    title("Plans", f"{deployment.source}: {len(rows):,}")
    days, priced = any(row.day is not None for row in rows), any(row.priced for row in rows)
    table = new_table("requests/s", "head-room", "spare", *(["price"] if priced else []), "fleet", "an hour",
                      "one kind", *(["a period"] if days else []))
    for row in rows[:MOST_ROWS]:
        fleet = " + ".join(f"{n} x {name}" for name, n in json.loads(row.fleet).items()) or f"none: {row.reason}"
        table.add_row(f"{row.rate:.4g}", f"{row.headroom:.0%}", str(row.spare),
                      *([f"{row.price:g} {escape(row.priced)}"] if priced else []), escape(fleet[:60]), _cost(row.cost),
                      _cost(row.single), *([_cost(row.day)] if days else []))
    console.print(table)
    if days:
        console.print("[dim]requests/s are means over the period; the fleet is that of its busiest window[/dim]")
    if len(rows) > MOST_ROWS:
        console.print(f"[dim]the first {MOST_ROWS} of {len(rows):,} plans; --out and --json have them all[/dim]")
    if out is not None:
        console.print(escape(f"{out}: plans.csv, report.json, plans.sqlite"))


def _cost(value: float | None) -> str:
    return "-" if value is None else f"{value:,.6g}"
