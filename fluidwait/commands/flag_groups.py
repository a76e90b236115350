"""Groups of flags that several commands have: each command gets one of its parameters as a dictionary of them."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

Flags = dict[str, tuple[Any, Any]]  # by the name of the parameter: its annotation for typer, its default


def with_flags(**groups: Flags) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of each group in place of its parameter of that name."""
    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(command, include_extras=True)
        parameters = []
        for each in inspect.signature(command).parameters.values():
            flags = groups.get(each.name, {each.name: (hints[each.name], each.default)})
            parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
                           for name, (hint, default) in flags.items()]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            grouped = {name: {flag: given.pop(flag) for flag in flags} for name, flags in groups.items()}
            command(**grouped, **given)

        del vars(run)["__wrapped__"]  # its signature is another
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        vars(run)["__signature__"] = inspect.Signature(parameters)
        return run

    return decorate
