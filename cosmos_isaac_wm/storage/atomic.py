"""How is a file or a folder written so that it is whole or not there? Under a temporary name, and renamed."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from .paths import user_path

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # disks are shared, process numbers are not
_LEFT_OVER = re.compile(rf"\..*\.writing-{_HOST}-(\d+)-[0-9a-f]+")
_ASIDE = ".replaced"
_LITTLE = 2**16  # bytes of free room that count as none


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file: what is there now, or all of `content`.

    Raises:
        OSError: If there is no room for it; says how much is missing.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with replacing(path, len(data)) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a file of JSON, as `write`."""
    write(path, json.dumps(content, indent=2) + "\n")


@contextmanager
def replacing(path: str | os.PathLike[str], size: int = 0) -> Iterator[Path]:
    """A temporary path with the suffix of `path`, which becomes `path` when the block ends well, and goes otherwise.

    Args:
        path: Of the file.
        size: Bytes that will be written, if that is known: without room for them nothing is begun.

    Raises:
        OSError: If the disk is full; says which file is meant, how much is missing, and what to do.
    """
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clean(path.parent, path.name)
    temporary = _temporary(path)
    try:
        with _room_for(path, size):
            temporary.touch()
            mode = temporary.stat().st_mode  # as the umask has it; some libraries write for their own user only
            yield temporary
            temporary.chmod(mode)
            _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | os.PathLike[str], keep: bool = False) -> Iterator[Path]:
    """A new folder that takes the place of `path`, with all that is in it, when the block ends well.

    Args:
        path: Of the folder.
        keep: Whether the new one begins with the files of the old one; replace them, do not write into them.

    Raises:
        OSError: As `replacing`.
    """
    path = user_path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    clean(path.parent, path.name)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        with _room_for(path):
            if keep and path.is_dir():
                shutil.copytree(path, temporary, copy_function=_linked, dirs_exist_ok=True)
            yield temporary
            for file in temporary.rglob("*"):
                _flush(file)
            _flush(temporary)
        _take_place(temporary, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clean(folder: Path, name: str = "") -> None:
    """Remove what processes of this machine that are gone have left half written in a folder.

    Args:
        folder: Where.
        name: Of the file or folder that they were writing; any when not given.
    """
    for entry in os.scandir(folder):
        if entry.name.startswith(f".{name}") and entry.name.endswith(_ASIDE):
            _put_back(Path(entry.path))
        elif entry.name.startswith(f".{name}") and (found := _LEFT_OVER.match(entry.name)):
            if psutil.pid_exists(int(found[1])):
                continue
            with suppress(FileNotFoundError):  # another process cleans, too
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def must_have_room(path: Path, size: int) -> None:
    """Refuse to begin what there is no room for.

    Raises:
        OSError: If there are less than `size` bytes left where `path` is; says how much is missing.
    """
    if size > (free := shutil.disk_usage(path.parent).free):
        raise _full(path, size - free)


def _put_back(aside: Path) -> None:
    """Give a folder that was to be replaced its name again, unless its successor has it."""
    with suppress(OSError):  # another process cleans, too
        path = aside.with_name(aside.name[1 : -len(_ASIDE)])
        shutil.rmtree(aside) if path.exists() else aside.rename(path)


def _temporary(path: Path) -> Path:
    """A name beside `path` that nobody else has; process numbers come again."""
    return path.with_name(f".{path.name}.writing-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def _room_for(path: Path, size: int = 0) -> Iterator[None]:
    """Say what a full disk means, whatever words the library that met it has."""
    must_have_room(path, size)
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        said = number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if said or (number is None and shutil.disk_usage(path.parent).free < _LITTLE):
            raise _full(path, size) from error
        raise


def _full(path: Path, missing: int) -> OSError:
    much = f"{missing / 2**20:,.1f} MiB more are needed; " if missing else ""
    return OSError(
        errno.ENOSPC,
        f"the disk is full, {path} could not be written: {much}make room and run the same command again, it goes on "
        "from what is finished",
    )


def _flush(path: Path) -> None:
    """Have the system write a file, or a folder's names, to the disk, so that they survive a loss of power."""
    if os.name == "nt" and path.is_dir():  # which Windows does by itself, and cannot be asked for
        return
    with suppress(PermissionError):  # folders of others, below which ours lie
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no such thing
                raise
        finally:
            os.close(handle)


def _linked(source: str, target: str) -> None:
    """The same file under another name; a copy where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _take_place(new: Path, path: Path) -> None:
    """Let a folder become `path`; what was there is in its stead afterwards."""
    if not path.exists() or not any(path.iterdir()):
        with suppress(FileNotFoundError):
            path.rmdir()
        new.rename(path)
    elif not _exchanged(new, path):
        aside = path.with_name(f".{path.name}{_ASIDE}")  # where `clean` finds it if this process ends in between
        path.rename(aside)
        try:
            new.rename(path)
        except OSError:
            aside.rename(path)
            raise
        with suppress(FileNotFoundError):  # another process has cleaned
            aside.rename(new)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether Linux has exchanged two names in one step."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
