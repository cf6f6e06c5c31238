"""Are two folders of results the same? File by file: names, texts, arrays and pictures; what may differ stands here."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import numpy as np
import torch
from safetensors import safe_open

# Numbers that are measured with a clock, wherever they stand: no two runs measure the same.
CLOCK = re.compile(
    r"\w*(seconds|minutes|steps_per_s|ms_a_frame|time_elapsed|fps)\w*"
    r"|ms a frame"  # a column of a comparison's tables
)
# Files that are not compared at all.
IGNORED = {
    ".lock": "only says who writes",
    "*.lock": "the same",
    "events.out.tfevents.*": "TensorBoard's: its names and contents have times, and every start begins another",
}
# Files that are there and can be read, which is all that is asked of them.
READABLE_ONLY = {
    "*.pt": "checkpoints hold random states and seconds",
    "*.zip": "checkpoints of Stable-Baselines3 hold times and pickles",
    "agent_moment_*.safetensors": "the same, of what Stable-Baselines3 leaves out",
    "*.pkl": "replay buffers hold pickles, and when they are read they are trusted",
    "report.html": "its pictures and texts are those of other files, and a table of seconds",
    "error_vs_parameters.png": "the area of a dot is its speed",
    "comparison.mp4": "a film of other results; its encoder may cut pictures into other slices on a busy machine",
    "transfer.mp4": "the same",
}
_LOGGED = "progress*.csv"  # Stable-Baselines3's table, of which every start begins another
_NUMBER = r"[\"'`]?-?\d[\d.,]*(e[-+]?\d+)?"


def differences(expected: Path, found: Path, most: int = 8) -> list[str]:
    """What differs between two folders; nothing if they are the same.

    Args:
        expected: The one that is right.
        found: The other.
        most: How many differences are looked for.
    """
    names, others = _names(expected), _names(found)
    told = [f"{name} is missing" for name in sorted(names - others)[:2]]
    told += [f"{name} is too much" for name in sorted(others - names)[:2]]
    for name in sorted(names & others):
        if len(told) >= most:
            break
        try:
            difference = _difference(expected / name, found / name)
        except Exception as error:  # whatever it is, the file cannot be read
            difference = f"cannot be read: {type(error).__name__}: {error}"
        if difference:
            told.append(f"{name}: {difference}"[:300])
    for folder in sorted({path.parent for path in expected.rglob(_LOGGED)}):
        inside = folder.relative_to(expected)
        if difference := _values(logged(folder), logged(found / inside), ""):
            told.append(f"{inside / _LOGGED}: {difference}"[:300])
    return told[:most]


def logged(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of a training's tables by total steps, later tables instead of earlier ones, without what clocks say."""
    rows: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob(_LOGGED), key=lambda path: int("0" + re.sub(r"\D", "", path.stem))):
        for row in csv.DictReader(path.open(newline="")):
            steps = row.get("time/total_timesteps") or ""
            kept = {key: value for key, value in row.items() if value and not key.startswith("time/")}
            rows[steps] = kept
    return rows


def _names(folder: Path) -> set[str]:
    """Of everything in a folder, empty folders included."""
    skipped = (*IGNORED, _LOGGED)
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not any(fnmatch(path.name, pattern) for pattern in skipped)
    }


def _difference(expected: Path, found: Path) -> str:
    """What differs between two files; "" if nothing."""
    if expected.is_dir() or found.is_dir():
        return "" if expected.is_dir() == found.is_dir() else "a folder and a file"
    if any(fnmatch(found.name, pattern) for pattern in READABLE_ONLY):
        return _unreadable(found)
    if found.name == "SHA256SUMS":
        return _sums(expected, found)
    compare = _BY_SUFFIX.get(found.suffix, _texts)
    return compare(expected, found)


def _unreadable(path: Path) -> str:
    """What hinders reading a file."""
    if path.suffix == ".pt":
        torch.load(path, map_location="cpu", weights_only=True)
    elif path.suffix == ".safetensors":
        _safetensors(path)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        return f"{broken} is damaged" if broken else ""
    return "" if path.stat().st_size else "is empty"


def _sums(expected: Path, found: Path) -> str:
    """What is wrong with a list of hashes: it names other files, or they are not what it says."""
    tables = [
        dict(line.split(maxsplit=1)[::-1] for line in path.read_text().splitlines()) for path in (expected, found)
    ]
    if tables[0].keys() != tables[1].keys():
        return f"other names: {sorted(tables[0].keys() ^ tables[1].keys())}"
    wrong = [name for name, told in tables[1].items() if sha256((found.parent / name).read_bytes()).hexdigest() != told]
    return f"wrong for {wrong}" if wrong else ""


def _values(expected: Any, found: Any, where: str) -> str:
    """What differs between two trees of values, without what clocks say."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = [key for key in {**expected, **found} if not CLOCK.fullmatch(str(key).rpartition("/")[2])]
        pairs = [(key, expected.get(key, "nothing"), found.get(key, "nothing")) for key in keys]
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = [(str(number), *pair) for number, pair in enumerate(zip(expected, found, strict=True))]
    else:
        return "" if expected == found or expected != expected else f"{where}: {found!r} instead of {expected!r}"
    return next((told for key, one, other in pairs if (told := _values(one, other, f"{where}/{key}"))), "")


def _json(expected: Path, found: Path) -> str:
    return _values(json.loads(expected.read_text()), json.loads(found.read_text()), "")


def _csv(expected: Path, found: Path) -> str:
    tables = [list(csv.DictReader(io.StringIO(path.read_text()))) for path in (expected, found)]
    return _values(tables[0], tables[1], "")


def _texts(expected: Path, found: Path) -> str:
    """Of two texts, line by line, with the numbers behind names of clocks left out."""
    measured = re.compile(rf"((?:{CLOCK.pattern})[\"'`]?\s*[:=|]\s*){_NUMBER}")
    lines = [_without_columns(measured.sub(r"\1N", path.read_text()).splitlines()) for path in (expected, found)]
    told = [f"{other!r} instead of {one!r}" for one, other in zip(*lines, strict=False) if one != other]
    return told[0] if told else "" if len(lines[0]) == len(lines[1]) else f"{len(lines[1])} lines"


def _without_columns(lines: list[str]) -> list[str]:
    """Markdown without the columns of its tables that clocks fill."""
    kept, left_out = list[str](), set[int]()
    for line in lines:
        cells = line.split("|")
        if len(cells) > 1 and not any(line.startswith("|") for line in kept[-1:]):  # the head of a table
            left_out = {number for number, cell in enumerate(cells) if CLOCK.fullmatch(cell.strip())}
        kept.append("|".join(cell for number, cell in enumerate(cells) if number not in left_out or len(cells) == 1))
    return kept


def _arrays(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """What differs between named arrays, to the last bit."""
    if expected.keys() != found.keys():
        return f"other names: {sorted(expected.keys() ^ found.keys())[:5]}"
    for name, one in expected.items():
        first, second = np.asarray(one), np.asarray(found[name])
        if first.dtype != second.dtype or first.shape != second.shape:
            return f"{name} is {second.dtype} {second.shape} instead of {first.dtype} {first.shape}"
        if first.tobytes() != second.tobytes() and (first.dtype != object or first.tolist() != second.tolist()):
            return f"{name} differs in {int((first != second).sum())} of {first.size} numbers"
    return ""


def _safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="np") as file:
        told = {f"metadata {key}": value for key, value in (file.metadata() or {}).items()}
        return told | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping


def _hdf5(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        found.update({f"{name}@{key}": value for key, value in item.attrs.items()})
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def _npz(path: Path) -> dict[str, Any]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _by(read: Callable[[Path], dict[str, Any]]) -> Callable[[Path, Path], str]:
    return lambda expected, found: _arrays(read(expected), read(found))


_BY_SUFFIX: dict[str, Callable[[Path, Path], str]] = {
    ".json": _json,
    ".csv": _csv,
    ".safetensors": _by(_safetensors),
    ".hdf5": _by(_hdf5),
    ".npz": _by(_npz),
    ".png": _by(lambda path: {"pixels": iio.imread(path)}),
}
