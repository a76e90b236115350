"""Where the command starts: every refusal is one line on standard error and exit status 2."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import typer
from typer.main import get_command

from fluid.errors import FluidwaitError, one_line
from fluidwait.commands.app import app

# the base class of the parser's errors, wherever typer keeps its parser
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 yes or done, 1 no, 2 bad input."""
    sys.exit(status(list(sys.argv[1:] if arguments is None else arguments)))


def status(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    if sys.stdout is None:
        sys.stdout = io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the plus-minus sign still gets its report
    try:
        code = get_command(app).main(args=arguments, prog_name="fluidwait", standalone_mode=False)
        sys.stdout.flush()
        return _interrupted() if code == INTERRUPTED else int(code or 0)  # the parser may make Ctrl-C a status
    except SystemExit:  # the printer of --help, when the reader of our output left
        return 0
    except FluidwaitError as error:
        return _refuse(str(error))
    except USAGE_ERROR as error:
        return _refuse(getattr(error, "format_message", error.__str__)())
    except OSError as error:
        return _refuse(f"{error.filename or 'file'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()


def _interrupted() -> int:
    print("fluidwait: interrupted", file=sys.stderr)
    return INTERRUPTED


def _refuse(message: str) -> int:
    print(f"fluidwait: {one_line(' '.join(message.split()))}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    main()
