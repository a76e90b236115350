"""Reading laws of lengths: `prompt_tokens = { lognormal = { mean = 1500, p95 = 4000 }, max = 8192 }`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fluid.arrays import MOST_TOKENS
from fluid.errors import FileError, InputError, whole
from fluid.lengths.law import Lengths
from fluid.lengths.pairs import MOST_PAIRS, LengthPairs
from fluid.replica import Replica
from fluid.stages import stage_profile
from fluid.workload import PromptType, Workload
from fluidwait.deployment.schema import LengthsTable, TypeTable
from fluidwait.deployment.toml import keys_of

LAWS = ("lognormal", "geometric", "uniform", "fixed")


def read_pairs(table: TypeTable, i: int, bins: int | None, replica: Replica, source: str) -> LengthPairs | None:
    """The pairs of lengths of the i-th [[workload.type]]; None where both its lengths are numbers.

    Raises FileError, one line, where a law does not exist, or its longest request is longer than the replica takes.
    """
    place = f"workload.type[{i}]"
    if isinstance(table.prompt_tokens, int) and isinstance(table.output_tokens, int):
        return None
    prompt, output = (_lengths(getattr(table, key), place, key, source) for key in ("prompt_tokens", "output_tokens"))
    with keys_of(source, place):
        longest = PromptType(int(prompt.tokens[-1]), int(output.tokens[-1]), table.rate, table.name)
        stage_profile(Workload([longest]), replica)  # refuses a type that the replica cannot serve
    with keys_of(source, "workload"):
        return LengthPairs(prompt, output, table.name, MOST_PAIRS if bins is None else bins)


def _lengths(given: int | LengthsTable, place: str, field: str, source: str) -> Lengths:
    """The law that a key states; a number is that of one length."""
    if isinstance(given, int):
        with keys_of(source, place):
            return Lengths.fixed(whole(field, given, unit="tokens", most=MOST_TOKENS))
    key, named = f"{place}.{field}", [law for law in LAWS if getattr(given, law) is not None]
    if len(named) != 1:
        raise FileError(source, key, f"must hold one of {', '.join(LAWS)} (got {', '.join(named) or 'none'})")
    limits = {name: value for name in ("min", "max") if (value := getattr(given, name)) is not None}
    if limits and named[0] in ("uniform", "fixed"):
        raise FileError(source, f"{key}.{next(iter(limits))}",
                        f"must stand beside lognormal or geometric (got {named[0]})")
    with _keys_of_law(source, key, named[0]):
        return _law(given, limits)


def _law(given: LengthsTable, limits: dict[str, int]) -> Lengths:
    if given.lognormal is not None:
        return Lengths.lognormal(**given.lognormal.model_dump(), **limits)
    if given.geometric is not None:
        return Lengths.geometric(mean=given.geometric.mean, **limits)
    if given.uniform is not None:
        return Lengths.uniform(given.uniform.min, given.uniform.max)
    return Lengths.fixed(whole("fixed", given.fixed, unit="tokens", most=MOST_TOKENS))


@contextmanager
def _keys_of_law(source: str, key: str, law: str) -> Iterator[None]:
    """Turn an InputError about a number of a law into a FileError about its key; limits stand beside the law."""
    beside = (law,) if law == "uniform" else (law, "min", "max")
    with keys_of(source, key):
        try:
            yield
        except InputError as error:
            if error.field in beside:
                raise
            raise InputError(f"{law}.{error.field}", error.requirement, error.value, error.where, error.guess) from None
