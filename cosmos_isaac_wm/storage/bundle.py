"""Where is a bundle, and is it what was written? Shipped ones go by name, others by folder or from the hub."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from .atomic import write
from .hub import HUB, KEPT, downloaded
from .paths import user_path
from .structured import content_of

SUMS = "SHA256SUMS"


class BundleError(ValueError):
    """A bundle is missing, truncated, of another format, or does not fit together."""


def seal(folder: Path, names: Sequence[str] = (), coming: Mapping[str, str] | None = None) -> None:
    """Write the checksums of files in a folder, as `sha256sum` does: `sha256sum -c SHA256SUMS`.

    Args:
        folder: Where they lie, and the checksums as well.
        names: Which files, beside those that have checksums; all in the folder and below when not given, but for
            folders that have checksums of their own.
        coming: Texts that will be written there next, by name of the file.
    """
    own = {path.parent for path in folder.rglob(f"*/{SUMS}")}
    everything = (path for path in folder.rglob("*") if path.is_file() and own.isdisjoint(path.parents))
    files = [folder / name for name in names] or sorted(path for path in everything if path != folder / SUMS)
    sums = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    sums |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in (coming or {}).items()}
    sums = {**_sums(folder), **sums} if names else sums
    write(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def part(folder: Path, name: str) -> bytes:
    """A file of a bundle, which is what was written if the folder has checksums.

    Raises:
        BundleError: If it is missing, no regular file, outside of the folder, or damaged.
    """
    path = folder / name
    if not path.exists() and not path.is_symlink():
        raise BundleError(f"no {name} in {folder}; the bundle is incomplete, copy or fit it again")
    _must_be_inside(folder, path)
    data, sums = content_of(path, BundleError), _sums(folder)
    if sums and name not in sums:
        raise BundleError(f"{folder / SUMS} does not name {name}; copy or fit the bundle again")
    _must_be(path, hashlib.sha256(data).hexdigest(), sums.get(name))
    return data


def verify(folder: Path) -> int:
    """Hold every file of a folder and those below to its checksum; how many there are, 0 where there are no checksums.

    Raises:
        BundleError: If one is missing or damaged; names it.
    """
    count = 0
    for home in sorted(path.parent for path in folder.rglob(SUMS)):
        for name, digest in _sums(home).items():
            path = home / name
            if not path.is_file():
                raise BundleError(f"{path} is missing, {SUMS} names it; copy or fit the bundle again")
            _must_be_inside(folder, path)
            _must_be(path, _digest(path), digest)
            count += 1
    return count


def _sums(folder: Path) -> dict[str, str]:
    """The checksums of a folder, by name of the file."""
    if not (folder / SUMS).exists() and not (folder / SUMS).is_symlink():
        return {}
    lines = content_of(folder / SUMS, BundleError).decode(errors="replace").splitlines()
    pairs = [line.split("  ", maxsplit=1) for line in lines]
    names = {pair[-1] for pair in pairs}
    if not lines or len(names) < len(lines) or any(len(pair) != 2 or len(pair[0]) != 64 for pair in pairs):
        raise BundleError(f"{folder / SUMS} is damaged; copy or fit the bundle again")
    return {name: digest for digest, name in pairs}


def _must_be(path: Path, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise BundleError(
            f"{path} is damaged, or was changed: it is not what {SUMS} says. Copy or fit the bundle again; after a "
            f"change of your own write {SUMS} anew: `cosmos-wm info --seal --world-model {path.parent}`"
        )


def from_hub(folder: Path) -> bool:
    """Whether a bundle lies in the cache of the Hugging Face hub, and so was made elsewhere."""
    return folder.resolve().parent.name == "snapshots"


def _must_be_inside(folder: Path, path: Path) -> None:
    """Refuse links that lead elsewhere; the cache of the hub keeps files beside its snapshots."""
    roots = [folder.resolve()]
    if from_hub(folder):
        roots.append(folder.resolve().parent.parent / "blobs")
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a link to itself, or to nothing
        raise BundleError(f"{path} is a link that leads nowhere: {error}") from error
    if not any(target.is_relative_to(root) for root in roots):
        raise BundleError(f"{path} leads out of its folder, to {target}; copy the file itself into it")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_bundle(name: str | os.PathLike[str]) -> Path:
    """The folder of a bundle, by shipped name, path, or "hf://owner/repository" ("...@revision" pins one).

    Raises:
        BundleError: If there is none; names the shipped ones, or says what the hub lacks.
    """
    return _found(name, "world model bundle", "config.yaml")


def find_perception(name: str | os.PathLike[str]) -> Path:
    """The folder of a perception, alone or in a bundle; named and raising as `find_bundle`."""
    return _found(name, "perception", "perception.yaml")


def _found(name: str | os.PathLike[str], what: str, holds: str) -> Path:
    """The folder of that name that holds a file, wherever it is."""
    if not isinstance(name, str | os.PathLike):
        raise BundleError(f"a {what} is a shipped name, a folder or hf://owner/repository, not {name!r}")
    text = os.fspath(name)
    if text.startswith(HUB):
        return downloaded(text, error=BundleError, kept=KEPT, holds=holds)
    try:
        if (user_path(text) / holds).is_file():
            return user_path(text)
    except OSError as error:  # such as a name that is too long for one
        raise BundleError(f"no {what} {text[:80]!r}: {error.strerror}") from error
    with as_file(files("cosmos_isaac_wm.weights")) as weights:
        shipped = sorted(path.parent.name for path in weights.glob(f"*/{holds}"))
        if text in shipped:
            return weights / text
    near = difflib.get_close_matches(text, shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise BundleError(f"no {what} {text!r}: not a folder with {holds}, and shipped are {shipped}{hint}")
