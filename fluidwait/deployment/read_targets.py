"""The targets of a deployment: what its [target] table asks of the delays, or flags in its place."""

from __future__ import annotations

from typing import Any

from fluid.errors import InputError
from fluidwait.deployment.schema import PromiseTable
from verification.experiments.targets.bounds import Bound, Goodput, Targets
from verification.experiments.targets.names import DELAYS, GOOD_SHARE

Asked = dict[str, Any]  # of flags: a number for each of DELAYS, "goodput" and "share", None where not given


def read_targets(table: PromiseTable) -> Targets:
    """The targets of a table; raises InputError for one that cannot be used."""
    bounds = tuple(Bound(name, getattr(table, name)) for name in DELAYS if getattr(table, name) is not None)
    if table.goodput is None and table.share != GOOD_SHARE:
        raise InputError("share", "given beside goodput only", table.share)
    return Targets(bounds, None if table.goodput is None else Goodput.read(table.goodput, table.share))


def asked_targets(asked: Asked) -> Targets | None:
    """The targets of flags, None where there are none; raises InputError, naming the flag, for one that cannot be used.
    """
    bounds = tuple(_bound(name, asked[name]) for name in DELAYS if asked[name] is not None)
    share = asked["share"]
    if asked["goodput"] is None and share is not None:
        raise InputError("--share", "given beside --goodput only", share)
    goodput = None if asked["goodput"] is None else _goodput(asked["goodput"], GOOD_SHARE if share is None else share)
    return Targets(bounds, goodput) if bounds or goodput else None


def _bound(name: str, seconds: float) -> Bound:
    try:
        return Bound(name, seconds)
    except InputError as error:
        raise InputError(f"--{name.replace('_', '-')}", error.requirement, seconds) from None


def _goodput(conditions: str, share: float) -> Goodput:
    try:
        return Goodput.read(conditions, share, "--goodput")
    except InputError as error:
        raise InputError(f"--{error.field.lstrip('-')}", error.requirement, error.value, guess=error.guess) from None
