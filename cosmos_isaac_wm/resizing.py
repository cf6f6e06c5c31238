"""How does a picture become as small as it is recorded? Every pixel is the mean of what it covers."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

ROWS = 64  # of a picture, where nobody asks for more


def recorded_size(shape: tuple[int, ...], rows: int | None) -> tuple[int, int]:
    """Rows and columns to record a picture with: as many rows as asked for, and what is as wide then, in eights."""
    height, width, _ = shape
    if rows is None and min(height, width) <= ROWS:
        return height, width
    wanted = rows or ROWS
    return (wanted, max(8, 8 * round(width * wanted / height / 8))) if wanted < height else (height, width)


def resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) made smaller, every pixel the mean of what it covers."""
    if picture.shape[:2] == size:
        return picture
    rows, columns = (_shares(before, after) for before, after in zip(picture.shape, size, strict=False))
    smaller = np.einsum("ih,hwc,jw->ijc", rows, picture.astype(np.float32), columns, optimize=True)
    return np.rint(smaller).astype(np.uint8)


@functools.cache  # of every picture of an environment the same
def _shares(before: int, after: int) -> NDArray[np.float32]:
    """What share of every new row's area each old row has, (after, before)."""
    edges = np.linspace(0, before, after + 1)
    old = np.arange(before)
    covered = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return (covered.clip(0) * after / before).astype(np.float32)
