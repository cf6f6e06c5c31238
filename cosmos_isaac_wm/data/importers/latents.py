"""How are latents read that somebody has stored with `torch.save`? As a tensor, without unpickling."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...storage.structured import must_be_file, one_line
from ..episodes import DatasetError


def read_latents(path: Path, channels: int) -> Tensor:
    """Latents of one or several clips, float32 (N, T, C, h, w).

    Args:
        path: Holds a tensor (T, C, h, w) or (N, T, C, h, w), oldest first.
        channels: C.

    Raises:
        DatasetError: If it holds something else.
    """
    must_be_file(path, DatasetError)
    try:
        latents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        raise DatasetError(f"{path} is no tensor that loads without running code: {one_line(problem)}") from problem
    expected = f"expected a tensor of floats (T, {channels}, h, w) or (N, T, {channels}, h, w)"
    if not isinstance(latents, Tensor):
        raise DatasetError(f"{path} holds a {type(latents).__name__}; {expected}")
    clips = latents.unsqueeze(0) if latents.ndim == 4 else latents
    if not clips.is_floating_point() or clips.ndim != 5 or clips.shape[2] != channels or not clips.numel():
        raise DatasetError(f"{path} holds {latents.dtype} {tuple(latents.shape)}; {expected}")
    if not torch.isfinite(clips).all():
        raise DatasetError(f"{path} holds latents that are NaN or infinite")
    return clips.float()
