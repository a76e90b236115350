"""The command that writes a certificate."""

from __future__ import annotations

from pathlib import Path

from fluid.files.written import write_file
from fluidwait.deployment.deployment import deployment_of
from fluidwait.deployment.trace_keys import Flags, TraceKeys
from fluidwait.reports import answers
from fluidwait.reports.certificate import certificate_answer, show_certificate
from fluidwait.reports.console import give, to_text
from fluidwait.study.batch import refuse_batch, refuse_closed
from fluidwait.study.certified import certified
from fluidwait.study.possible import possible_rates


def certify_command(file: Path | None, keys: Flags, possible: Flags, out: Path | None, json: bool) -> bool:
    """Prove what windows carry and what nobody does; whether the demand, all that is possible of it, is carried."""
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    refuse_batch(deployment, "certify")
    refuse_closed(deployment, "certify")
    found = certified(deployment, possible_rates(deployment, **possible))
    answer = {**answers.provenance("certify", deployment), **certificate_answer(found)}
    if out is not None:
        write_file(out, to_text(answer) + "\n")
    give(answer, json, lambda: show_certificate(found, None if out is None else str(out)))
    return found.yes
