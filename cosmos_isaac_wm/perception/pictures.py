"""What is a picture to a network? uint8 frames and float images, one into the other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def to_images(frames: Tensor) -> Tensor:
    """uint8 frames (B, H, W, 3) to float images (B, 3, H, W) in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def to_frames(images: Tensor) -> Tensor:
    """Float images (B, 3, H, W) in [-1, 1] to uint8 frames (B, H, W, 3)."""
    return ((images.permute(0, 2, 3, 1) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def padded_size(size: tuple[int, int], compression: int) -> tuple[int, int]:
    """Height and width as a tokenizer takes them: as they are where it divides them, else an even number of cells.

    Args:
        size: Height and width of the frames.
        compression: Pixels along the edge of a latent cell.
    """
    even = 2 * compression
    height, width = (edge if edge % compression == 0 else -(-edge // even) * even for edge in size)
    return height, width


def padded(images: Tensor, compression: int) -> Tensor:
    """Images (B, 3, H, W) with their last row and column repeated up to the `padded_size`."""
    height, width = images.shape[-2:]
    whole = padded_size((height, width), compression)
    if whole == (height, width):
        return images
    return F.pad(images, (0, whole[1] - width, 0, whole[0] - height), mode="replicate")
