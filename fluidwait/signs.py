"""The signs of our reports where a terminal has those of ASCII alone: ± is +-, a sparkline is of points and dashes.

Such a terminal has an encoding that knows no others (`PYTHONIOENCODING=ascii`) or says it is `TERM=dumb`; and so is any
output under `LC_ALL=C`, where Python by itself would write UTF-8.
"""

from __future__ import annotations

import codecs
import io
import os

SIGNS = {"±": "+-", "≥": ">=", "≤": "<=", "×": "x", "–": "-", "—": "-", "…": "...", "²": "^2", "°": " deg", "µ": "u",
         **dict(zip("▁▂▃▄▅▆▇█", "_.,-~+*#", strict=True))}
ERRORS = "fluidwait.signs"  # the name by which streams know our way with what they cannot encode
_TABLE = str.maketrans(SIGNS)


def in_ascii(text: str) -> str:
    """The text with signs of ASCII in the place of ours."""
    return text.translate(_TABLE)


def open_for_signs(stream: object) -> None:
    """Let a standard stream take every character, in ASCII where it shows no other."""
    if isinstance(stream, io.TextIOWrapper):
        codecs.register_error(ERRORS, _instead)
        stream.reconfigure(encoding="ascii" if _plain(stream) else None, errors=ERRORS)


def _plain(stream: io.TextIOWrapper) -> bool:
    return os.environ.get("LC_ALL") in ("C", "POSIX") or (os.environ.get("TERM") == "dumb" and stream.isatty())


def _instead(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that cannot be encoded; a question mark for those we do not use."""
    assert isinstance(error, UnicodeEncodeError)  # of no other do streams ask
    text = in_ascii(error.object[error.start:error.end])
    return "".join(each if each.isascii() else "?" for each in text), error.end
