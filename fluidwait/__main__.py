"""Where the command starts: every refusal is one line on standard error and exit status 2.

Nothing heavy is imported here, so that Ctrl-C finds `status` at work and not a module being loaded.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from fluidwait.signs import open_for_signs

BAD_INPUT, UNFORESEEN, INTERRUPTED = 2, 3, 130
TRACEBACK = "FLUIDWAIT_TRACEBACK"  # set in the environment: the traceback of what nobody foresaw is shown too


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 yes or done, 1 no, 2 bad input, 3 an error of ours, 130 interrupted."""
    sys.exit(status(list(sys.argv[1:] if arguments is None else arguments)))


def status(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    _open_what_is_closed()
    try:
        return _status(arguments)
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        return _interrupted() if _began_with_interrupt(error) else _unforeseen(error)


def _status(arguments: list[str]) -> int:
    import typer
    from typer.main import get_command

    from fluid.errors import FluidwaitError
    from fluidwait.commands.app import app

    usage_error: type[Exception] = typer.BadParameter.__mro__[2]  # the base of the parser's errors, wherever it is kept
    try:
        code = get_command(app).main(args=arguments, prog_name="fluidwait", standalone_mode=False)
        sys.stdout.flush()
        return _interrupted() if code == INTERRUPTED else int(code or 0)  # the parser may make Ctrl-C a status
    except SystemExit:  # the printer of --help, when the reader of our output left
        return 0
    except FluidwaitError as error:
        return _refuse(str(error))
    except usage_error as error:
        return _refuse(getattr(error, "format_message", error.__str__)())
    except OSError as error:
        return _refuse(f"{error.filename or 'file'}: {error.strerror or error}")
    except MemoryError as error:
        return _refuse(f"memory ran out ({error}): a shorter --horizon, fewer --replications or --jobs 1 need less")
    except typer.Abort as abort:
        ended = abort.__cause__  # the parser calls the end of any file an abort, as if it had asked a question
        return _unforeseen(ended) if isinstance(ended, EOFError) else _interrupted()


def _open_what_is_closed() -> None:
    """Let no file of ours become standard output or standard error, and let both take every character."""
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        open_for_signs(stream)  # a terminal without the plus-minus sign still gets its report


def _interrupted() -> int:
    print("fluidwait: interrupted", file=sys.stderr)
    return INTERRUPTED


def _began_with_interrupt(error: BaseException | None) -> bool:
    """Whether a library made an error of its own out of Ctrl-C, as some do while they are imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _refuse(message: str) -> int:
    from fluid.errors import one_line

    print(f"fluidwait: {one_line(' '.join(message.split()))}", file=sys.stderr)
    return BAD_INPUT


def _unforeseen(error: Exception) -> int:
    """One line for what is a fault of this program, or of what it runs on."""
    if os.environ.get(TRACEBACK):
        import traceback

        traceback.print_exception(error)
    what = " ".join(ascii(f"{type(error).__name__}: {error}")[1:-1].split())
    print(f"fluidwait: unforeseen {what[:300]}; with {TRACEBACK}=1 in the environment the traceback is shown",
          file=sys.stderr)
    return UNFORESEEN


if __name__ == "__main__":
    main()
