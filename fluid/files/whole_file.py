"""A small file read as a whole: no more bytes than it may have, be it a device or a pipe without end."""

from __future__ import annotations

import os
from pathlib import Path

from fluid.errors import FileError


def read_small(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a file of at most `most`; raises FileError where it has more, or cannot be read."""
    source = os.fspath(path)
    try:
        with Path(source).open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise FileError(source, "", f"cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL in the name
        raise FileError(source, "", "cannot be read: not a file name") from None
    if len(data) > most:
        raise FileError(source, "", f"must be at most {most:,} bytes long")
    return data
