"""What is a picture to a network? uint8 frames and float images, one into the other."""

from __future__ import annotations

import torch
from torch import Tensor


def to_images(frames: Tensor) -> Tensor:
    """uint8 frames (B, H, W, 3) to float images (B, 3, H, W) in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def to_frames(images: Tensor) -> Tensor:
    """Float images (B, 3, H, W) in [-1, 1] to uint8 frames (B, H, W, 3)."""
    return ((images.permute(0, 2, 3, 1) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
