"""What would somebody write into a file who means harm? YAML bombs, code to be run, and shapes that fill the memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

DEPTH = 10_000
_VERSION = b"3\n"  # of torch's archives


class Payload:
    """Runs a command when it is unpickled; a harmless one, and the worker stops it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What unpickling calls."""
        return os.system, ("true",)


def billion_laughs(path: Path, random: Random) -> None:
    """Anchors that grow ninefold, ten times."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    path.write_text(path.read_text() + "\n" + "\n".join(lines) + "\n")


def own_anchor(path: Path, random: Random) -> None:
    """A mapping that holds itself, under the name of one that was there."""
    keys = [line.partition(":")[0] for line in path.read_text().splitlines() if line.endswith(":") and line[0] != " "]
    key = random.choice(keys or ["scene"])
    path.write_text(path.read_text() + f"\n{key}: &self\n  {key}: *self\n  config: *self\n")


def deep(path: Path, random: Random) -> None:
    """Lists in lists, ten thousand of them."""
    opening = "" if path.suffix == ".json" else path.read_text() + "\ndeep: "
    path.write_text(opening + "[" * DEPTH + "]" * DEPTH)


def tag_of_code(path: Path, random: Random) -> None:
    """A YAML tag that asks for a call."""
    tag = random.choice(["!!python/object/apply:os.system [true]", "!!python/name:os.system", "!!binary x"])
    path.write_text(path.read_text() + f"\nmore: {tag}\n")


def environment_of_code(path: Path, random: Random) -> None:
    """Minari's metadata without spaces, but with an environment that is a call."""
    content = json.loads(path.read_text())
    content = {key: value for key, value in content.items() if not key.endswith("_space")}
    spec = {"id": "Harmless-v0", "entry_point": "subprocess:check_output", "kwargs": {"args": ["true"]}}
    more: dict[str, Any] = {
        "reward_threshold": None,
        "nondeterministic": False,
        "max_episode_steps": None,
        "order_enforce": True,
    }
    more |= {"disable_env_checker": True, "additional_wrappers": [], "vector_entry_point": None}
    path.write_text(json.dumps({**content, "env_spec": json.dumps({**spec, **more})}))


def header(path: Path, random: Random) -> None:
    """The header of a safetensors file says something else."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    told = json.loads(content[8 : 8 + length])
    name = random.choice([key for key in told if key != "__metadata__"])
    change = random.randrange(6)
    if change == 0:
        path.write_bytes((2**62).to_bytes(8, "little") + content[8:])
        return
    if change == 1:
        told[name]["shape"] = [10**7, 10**7]
    elif change == 2:
        told[name]["dtype"] = "F64"
    elif change == 3:
        told[name]["data_offsets"] = [0, 2**62]
    elif change == 4:
        told[name + "x"] = told.pop(name)
    else:
        told["__metadata__"] = {"kinds": random.choice(["", "3", "[1]", '{"a": 1}', "[" * DEPTH])}
    text = json.dumps(told).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def array_of_code(path: Path, random: Random) -> None:
    """An array of an npz file is a pickle that runs something."""
    with np.load(path) as arrays:
        known = {name: arrays[name] for name in arrays.files}
    known[random.choice([*known])] = np.array([Payload()], dtype=object)
    np.savez(path, **known)


def array_of_nothing(path: Path, random: Random) -> None:
    """An array of an npz file says that it has a thousand billion items."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    members[random.choice([*members])] = buffer.getvalue()
    _write_zip(path, members)


def member_of_code(path: Path, random: Random) -> None:
    """A part of an archive is a pickle that runs something."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    code = pickle.dumps(Payload())
    name = random.choice([name for name in members if name.endswith((".pkl", ".pth", "data"))])
    if name.endswith(".pth"):  # which is such an archive itself
        inner = io.BytesIO()
        _write_zip(inner, {"archive/data.pkl": code, "archive/version": _VERSION})
        code = inner.getvalue()
    members[name] = code
    _write_zip(path, members)


def _write_zip(path: Path | io.BytesIO, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def hdf5_object(path: Path, random: Random) -> None:
    """An array of an HDF5 file is missing, is something else, or lies elsewhere."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = random.choice(sorted(names))
        change = random.randrange(6)
        del file[name]
        if change == 1:
            file.create_dataset(name, shape=(10**10, 32, 32, 3), dtype="u1", chunks=(1, 32, 32, 3))
        elif change == 2:
            file[name] = "text"
        elif change == 3:
            file[name] = h5py.ExternalLink("/etc/hostname", "/x")
        elif change == 4:
            file[name] = h5py.SoftLink("/" + name)
        elif change == 5:
            file[name] = np.zeros((0, 3), "f8")


def hdf5_attribute(path: Path, random: Random) -> None:
    """A property of an episode is missing or another."""
    with h5py.File(path, "r+") as file:
        group = file[random.choice(sorted(file))]
        key = random.choice(sorted(group.attrs))
        value = random.choice([None, -1, 2**40, 1e30, float("nan"), "", "x", b"\xff\xfe", [[1]], True])
        if value is None:
            del group.attrs[key]
        else:
            group.attrs[key] = value


Change = Callable[[Path, Random], None]
BY_SUFFIX: dict[str, tuple[Change, ...]] = {
    ".yaml": (billion_laughs, own_anchor, deep, tag_of_code),
    ".json": (deep,),
    ".safetensors": (header, header),
    ".npz": (array_of_code, array_of_nothing),
    ".pt": (member_of_code,),
    ".zip": (member_of_code,),
    ".hdf5": (hdf5_object, hdf5_object, hdf5_attribute),
}
