"""Whose is a folder? One process's at a time, until that is gone, however it ended; and always that of one recipe."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .atomic import clean, write_json
from .structured import read

_FILE = ".lock"
_MOST_SHOWN = 8  # differences


class InUse(OSError):
    """Another process works in the folder."""


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Work in a folder, which is made where there is none, alone; what dead processes left half written there goes.

    Raises:
        InUse: If another process does; says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        holder = (folder / _FILE).read_text().strip() or "another process"
        raise InUse(
            f"{folder} is in use by {holder}: wait for it to end, or choose another folder; it is free as soon as that "
            "process is gone"
        ) from error
    try:
        now = datetime.now().isoformat(sep=" ", timespec="seconds")
        (folder / _FILE).write_text(f"process {os.getpid()} on {platform.node()}, since {now}\n")
        clean(folder.absolute().parent, folder.name)
        for inside in (folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())):
            if inside.is_dir():
                clean(inside)
        yield
    finally:
        lock.release()


def claim(
    path: Path, content: Mapping[str, Any], begun: bool = True, free: str = "", error: type[Exception] = ValueError
) -> None:
    """Bind a folder of results, through a file in it, to what they are results of.

    Args:
        path: Of the file.
        content: What made them.
        begun: Whether there is anything in it that would be gone on with; if not, it is bound anew.
        free: What is not among that, and may change from run to run, in words.
        error: What to raise.

    Raises:
        error: If the folder is bound to something else; says what differs.
    """
    content = json.loads(json.dumps(content, default=str))
    if not (begun and path.exists()):
        write_json(path, content)
        return
    if pairs := list(_differences(read(path, dict[str, Any], error), content)):
        shown = [[key, *(str(value)[:80] for value in values)] for key, *values in pairs[:_MOST_SHOWN]]
        differing = ", ".join(f"{key} {there} instead of {here}" for key, there, here in shown)
        more = f" and {len(pairs) - _MOST_SHOWN} more" if len(pairs) > _MOST_SHOWN else ""
        raise error(
            f"{path.parent} holds another {path.stem} ({differing}{more}); repeat its arguments or choose another --out"
            f"{f' (only {free} may change)' if free else ''}"
        )


def _differences(held: Any, given: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: keys, and both values."""
    if isinstance(held, dict) and isinstance(given, dict):
        for name in dict.fromkeys([*held, *given]):
            yield from _differences(held.get(name), given.get(name), f"{key}.{name}" if key else name)
    elif isinstance(held, list) and isinstance(given, list) and len(held) != len(given):
        yield f"number of {key}", len(held), len(given)
    elif isinstance(held, list) and isinstance(given, list):
        for number, values in enumerate(zip(held, given, strict=True)):
            yield from _differences(*values, f"{key}.{number}")
    elif held != given:
        yield key, held, given
