"""Who works in a folder? One process at a time; it is free again when that process is gone, however it ended."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from .atomic import clean

_FILE = ".lock"


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
