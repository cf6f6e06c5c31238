"""What does LeRobot want to know of every column? How large its values are, with which its policies normalise them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def of_numbers(values: ArrayLike) -> dict[str, Any]:
    """Of numbers (T,) or vectors (T, D), each component by itself; plain lists of D."""
    rows = np.asarray(values, np.float64).reshape(len(np.asarray(values)), -1)
    told = {"min": rows.min(axis=0), "max": rows.max(axis=0), "mean": rows.mean(axis=0), "std": rows.std(axis=0)}
    told |= {name: np.quantile(rows, share, axis=0) for name, share in _QUANTILES.items()}
    return {name: value.tolist() for name, value in told.items()} | {"count": [len(rows)]}


def histogram(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value is there in every colour of pictures (T, H, W, 3), (3, 256)."""
    return np.stack([np.bincount(frames[..., colour].ravel(), minlength=256) for colour in range(3)])


def of_pictures(counts: NDArray[np.int64], frames: int) -> dict[str, Any]:
    """Of pictures by their histogram, from 0 to 1 and as LeRobot has them, nested lists (3, 1, 1)."""
    values, shares = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    seen, below = counts > 0, np.cumsum(shares, axis=1)
    told = {
        "min": seen.argmax(axis=1) / 255,
        "max": (255 - seen[:, ::-1].argmax(axis=1)) / 255,
        "mean": mean,
        "std": std,
    }
    told |= {name: (below >= share).argmax(axis=1) / 255 for name, share in _QUANTILES.items()}
    return {name: value.reshape(3, 1, 1).tolist() for name, value in told.items()} | {"count": [frames]}
