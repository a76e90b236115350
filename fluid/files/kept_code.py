"""Compiled code on disk: numba's files, each with the SHA-256 of what it holds behind it.

Numba trusts what it finds: a file that was cut off ends the program, and machine code in which a byte has changed would
even be run. Here a file that does not match its digest is none: the function is compiled again, the file replaced.
Where nothing can be written, on a full disk say, every process compiles for itself. Either is said once, in one line on
standard error that names the folder, and changes no answer.
"""

from __future__ import annotations

import errno
import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    NullCache,
    UserProvidedCacheLocator,
)

DIGEST = hashlib.sha256().digest_size
_said: set[str] = set()


def kept(function: Callable[..., Any], folder: Path | None, places: Sequence[Path]) -> Any:
    """What numba asks for the code of a function: what lies in the folder that numba is told, if there is one.

    `places` are those where it was looked for, to be named when nothing can be kept.
    """
    if folder is not None:
        with suppress(RuntimeError, OSError):  # numba finds no place for it: a full disk, a module in a zip file
            return _Kept(function)
    return _Unkept(" or ".join(map(str, places)))


class _Here(CompileResultCacheImpl):  # type: ignore[misc]
    """In the folder that numba is told, and never beside the source, where a stamp of one file guards it."""

    _locator_classes = (UserProvidedCacheLocator,)


class _Kept(FunctionCache):  # type: ignore[misc]
    """The code of a function in its folder, as far as it can be read and written."""

    _impl_class = _Here

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Signed(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for these types; None where there is none that can be used."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever is wrong with a file, the source is there
            _say_spoilt(self._cache_path, f"{type(error).__name__}: {error}")
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for these types, if that can be."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say_unkept(self._cache_path, error.strerror or str(error))


class _Unkept(NullCache):  # type: ignore[misc]
    """No code at all, and one line when some was compiled for nothing but this process."""

    def __init__(self, places: str) -> None:
        self._places = places

    def save_overload(self, sig: Any, data: Any) -> None:
        """Say that it is lost."""
        _say_unkept(self._places, "nothing can be written there")


class _Signed(IndexDataCacheFile):  # type: ignore[misc]
    """The index and the code of a function; what does not match its digest is not there."""

    def _load_index(self) -> Any:
        return super()._load_index() if self._whole(Path(self._index_path)) else {}

    def _load_data(self, name: str) -> Any:
        path = Path(self._data_path(name))
        if not self._whole(path):
            raise FileNotFoundError(errno.ENOENT, "does not match its digest", str(path))
        return super()._load_data(name)  # numba reads as far as the object goes, not the digest behind it

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())

    def _whole(self, path: Path) -> bool:
        """Whether a file is there and matches; says so where it is there and does not."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return False
        matches = hashlib.sha256(data[:-DIGEST]).digest() == data[-DIGEST:]
        if not matches:
            _say_spoilt(self._cache_path, "it does not match its digest")
        return matches


def _say_spoilt(folder: str, why: str) -> None:
    _say("spoilt", f"compiled code in {folder} cannot be used ({why}): compiling it again")


def _say_unkept(folder: str, why: str) -> None:
    _say("unkept", f"compiled code cannot be kept in {folder} ({why}): every command compiles for itself")


def _say(what: str, sentence: str) -> None:
    """Say each kind of trouble once in a process."""
    if what not in _said:
        _said.add(what)
        print(ascii(f"fluidwait: {sentence}")[1:-1], file=sys.stderr, flush=True)
