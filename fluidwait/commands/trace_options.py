"""The flags by which a trace is read, of every command that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fluidwait.commands.flag_groups import Flags
from fluidwait.commands.options import number, one_of_these, whole_number

PANEL: dict[str, Any] = {"show_default": False, "rich_help_panel": "How to read a trace"}
NAMED: dict[str, Any] = {"metavar": "NAME", **PANEL}
FORMATS = ("azure", "burstgpt", "vidur", "servegen", "llmservingsim", "bailian", "mooncake", "llmperf", "vllm",
           "sglang", "aiperf", "guidellm", "sharegpt", "columns")
UNITS = ("s", "ms", "us", "ns")
TRACE: Flags = {
    "format": (Annotated[str | None, typer.Option(
        help=f"Of a trace: {', '.join(FORMATS)}; by default found from its beginning.",
        autocompletion=one_of_these(FORMATS), **NAMED)], None),
    "prompt_column": (Annotated[str | None, typer.Option(
        help="Column, or key in JSON, of the prompt tokens, in any other file; dots go into objects.", **NAMED)], None),
    "output_column": (Annotated[str | None, typer.Option(help="Column or key of the output tokens.", **NAMED)], None),
    "time_column": (Annotated[str | None, typer.Option(
        help="Column or key of the arrival: a number, or date and time.", **NAMED)], None),
    "time_unit": (Annotated[str | None, typer.Option(
        metavar="UNIT", help="Of times that are numbers: s, ms, us or ns.",
        autocompletion=one_of_these(UNITS), **PANEL)], None),
    "run": (Annotated[int | None, typer.Option(
        parser=whole_number, metavar="NUMBER", help="Of a result with several runs: which.", **PANEL)], None),
    "skip_bad_rows": (Annotated[bool, typer.Option(
        "--skip-bad-rows", help="Leave out rows that cannot be used, and count them, instead of refusing the file.",
        **PANEL)], False),
    "rate": (Annotated[float | None, typer.Option(
        parser=number, metavar="REQUESTS/S", help="Total rate of the trace; by default its own.", **PANEL)], None),
}
HOW: Flags = {name: flag for name, flag in TRACE.items() if name != "rate"}  # of what is read, and not served
RunFile = Annotated[Path, typer.Argument(help="Measured run: the result of a benchmark, or a table of its requests, "
                                              "with their start, first token and end.")]
FirstToken = Annotated[str | None, typer.Option(help="Column or key of the moment of the first token.", **NAMED)]
End = Annotated[str | None, typer.Option(help="Column or key of the moment when the request ended.", **NAMED)]
