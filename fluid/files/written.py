"""Files written whole or not at all.

What is to be written is put into a file beside its place, all of it on the disk, and only then renamed: whoever looks,
also after a kill or on a disk that is full, finds the file of before or the new one. Several files are all put there
before the first is renamed, so that no new report lies beside old figures. A link is replaced, what it points to stays
as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fluid.errors import FileError


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write the files of these names into a folder, made if need be, all or none of them; text as UTF-8.

    Raises FileError, naming the file, where one cannot be written: then nothing has changed.
    """
    parts: dict[Path, Path] = {}
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            path = folder / name
            parts[path] = _beside(path, content.encode() if isinstance(content, str) else content)
        for path, part in parts.items():
            os.replace(part, path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise FileError(str(path), "", f"cannot be written: {getattr(error, 'strerror', None) or error}") from None


def write_file(path: Path, content: str | bytes) -> None:
    """Write one file; its folder must be there."""
    if not path.parent.is_dir():
        raise FileError(str(path), "", "cannot be written: there is no such folder")
    write_files(path.parent, {path.name: content})


def _beside(path: Path, content: bytes) -> Path:
    """Put the content, down to the disk, into a hidden file beside its place."""
    if path.exists() and not path.is_file():  # renaming over a device would take it away from everybody
        raise OSError(None, "it is a folder" if path.is_dir() else "it is not an ordinary file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    return part
