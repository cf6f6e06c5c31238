"""How are weights read, and what are they known by? Safetensors only, checked before they are used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .bundle import BundleError


def fingerprint(module: nn.Module, description: str = "") -> str:
    """A short hash of all of a module's tensors, and of a description of it."""
    digest = hashlib.sha256(description.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def load_weights(module: nn.Module, path: Path, elsewhere: str | None = None) -> None:
    """Load a safetensors file into a module.

    Args:
        module: Where to.
        path: The file.
        elsewhere: Prefix of tensors that the file need not hold, because they come from another one.

    Raises:
        BundleError: If the file is missing, truncated, holds NaN, or has tensors of other names or shapes.
    """
    if not path.is_file():
        raise BundleError(f"no {path.name} in {path.parent}; the bundle is incomplete, copy or fit it again")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise BundleError(f"{path} is truncated or damaged ({error}); copy or fit the bundle again") from error
    if broken := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise BundleError(f"{path} holds NaN or infinite weights in {broken[0]!r}; fit the bundle again")
    try:
        if elsewhere is not None:
            state |= {name: tensor for name, tensor in module.state_dict().items() if name.startswith(elsewhere)}
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"{path} does not fit the bundle's configuration: {error}") from error
