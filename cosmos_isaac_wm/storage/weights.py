"""How are tensors kept, and what are weights known by? Safetensors only, checked before they are used."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor, nn

from .atomic import replacing
from .bundle import BundleError, part
from .structured import must_be_file, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_WIDEST, _MOST_BLOCKS = 8192, 512  # of networks that anybody would mean
_DIGEST = "blake2b"  # in a file's metadata
_BYTES_A_WEIGHT = 16  # itself, its gradient, and what an optimiser keeps


def fingerprint(module: nn.Module, description: str = "") -> str:
    """A short hash of all of a module's tensors, and of a description of it."""
    digest = hashlib.sha256(description.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all, with a hash of its tensors in its metadata."""
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    size = sum(tensor.nbytes for tensor in dense.values())
    with replacing(path, size) as temporary:
        save_file(dense, temporary, metadata={**(metadata or {}), _DIGEST: _hash(dense)})


def read_tensors(path: Path, error: type[Exception] = ValueError) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file that `save_tensors` wrote, and its metadata.

    Raises:
        error: If it is damaged, or holds anything else than what was written.
    """
    must_be_file(path, error)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, TypeError) as problem:
        raise error(f"{path} is truncated or damaged: {one_line(problem)}") from problem
    if metadata.get(_DIGEST) != _hash(tensors):
        raise error(f"{path} is damaged, or of an earlier version: it does not hold what its hash says")
    return tensors, metadata


def _hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a bundle's safetensors file, and its metadata.

    Raises:
        BundleError: If the file is missing, truncated, or not what was written.
    """
    data = part(folder, name)
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / name} is truncated or damaged ({error}); copy or fit the bundle again") from error
    return tensors, dict(header.get("__metadata__") or {})


def load_weights(module: nn.Module, folder: Path, name: str, elsewhere: str | None = None) -> None:
    """Load a safetensors file of a bundle into a module.

    Args:
        module: Where to.
        folder: Of the bundle.
        name: Of the file.
        elsewhere: Prefix of tensors that the file need not hold, because they come from another one.

    Raises:
        BundleError: If the file is missing, truncated, holds NaN, or has tensors of other names, types or shapes.
    """
    state, _ = load_tensors(folder, name)
    path = folder / name
    if broken := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise BundleError(f"{path} holds NaN or infinite weights in {broken[0]!r}; fit the bundle again")
    if elsewhere is not None:
        state |= {name: tensor for name, tensor in module.state_dict().items() if name.startswith(elsewhere)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(
            f"{path} does not fit the bundle's configuration, or another version made it: {one_line(error)}"
        ) from error


def must_be_buildable(config: DataclassInstance, build: Callable[[], nn.Module], weights: Path | None = None) -> None:
    """Refuse a network that nobody means, before memory is asked for.

    Args:
        config: Its shape.
        build: Makes it.
        weights: The file of its weights, if there is one: it must hold as many as are described.

    Raises:
        ValueError: If a number is out of reason, the network cannot be made, or it does not fit into the memory.
    """
    for field in dataclasses.fields(config):
        numbers = getattr(config, field.name)
        most = _MOST_BLOCKS if field.name == "blocks" else _WIDEST
        for number in numbers if isinstance(numbers, tuple) else (numbers,):
            if isinstance(number, int) and not 0 <= number <= most:
                raise ValueError(f"{field.name} {number} is out of reason; expected 0 to {most}")
    try:
        with torch.device("meta"):
            module = build()
    except (RuntimeError, AssertionError, ZeroDivisionError, IndexError) as error:
        raise ValueError(f"no network can be made of {config}: {one_line(error)}") from error
    size = sum(parameter.numel() for parameter in module.parameters())
    if weights is not None and weights.is_file() and size > (held := weights.stat().st_size):
        raise ValueError(f"{size:,} weights are described, but {weights} has {held:,} bytes")
    if (needed := _BYTES_A_WEIGHT * size) > (free := psutil.virtual_memory().available):
        raise ValueError(f"{size:,} weights take {needed / 2**30:.1f} GiB to train, {free / 2**30:.1f} GiB are free")
