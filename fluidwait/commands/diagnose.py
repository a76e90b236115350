"""The command on a measured run of a real server."""

from __future__ import annotations

from pathlib import Path

from fluidwait.deployment.deployment import deployment_of
from fluidwait.deployment.trace_keys import Flags, TraceKeys, as_flags
from fluidwait.reports import answers
from fluidwait.reports.console import give
from fluidwait.reports.diagnosis import diagnosis_answer, show_diagnosis
from verification.measured.diagnosis import diagnose
from verification.measured.forecast import forecast


def diagnose_command(file: Path, keys: Flags, first_token_column: str | None, end_column: str | None,
                     deployment: Path | None, json: bool) -> bool:
    """Say of a measured run whether the server keeps up, where time goes, and how far a deployment is from it."""
    read = TraceKeys.of_flags(keys)
    served = None if deployment is None else deployment_of(deployment)
    with as_flags():
        run = read.measured(file, str(file), first_token_column, end_column)
    found = diagnose(run)
    model = None if served is None else forecast(found, served.replica)
    answer = {**answers.provenance("diagnose", run), **diagnosis_answer(found, model)}
    give(answer, json, lambda: show_diagnosis(found, model))
    return found.stable
