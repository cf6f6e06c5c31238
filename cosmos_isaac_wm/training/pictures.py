"""Which pictures does a tokenizer learn from, and what in them matters? A few of every episode, and what moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from ..data.dataset import EpisodeDataset

_MOST = 16  # that a pixel of a small thing counts
_FEW = 8  # things in a frame that count alike; where there are more, most are noise or pieces of a moving background


def drawn(dataset: EpisodeDataset, count: int, rng: np.random.Generator, shown: bool) -> NDArray[np.uint8]:
    """So many pictures of every training episode, (N, H, W, 3)."""
    found: list[NDArray[np.uint8]] = []
    bar = tqdm(dataset.indices("train"), desc="read frames", unit="episode", disable=not shown)
    for episode in dataset.episodes(bar):
        few = min(count, len(episode.frames))
        found.append(episode.frames[np.sort(rng.choice(len(episode.frames), few, replace=False))])
    return np.concatenate(found)


def together(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Pictures or masks (N, H, W, ...) of several datasets in one array, small ones in its upper left corner."""
    ends = np.cumsum([len(part) for part in parts])
    whole = np.zeros((ends[-1], *np.max([part.shape[1:] for part in parts], axis=0)), parts[0].dtype)
    for part, end in zip(parts, ends, strict=True):
        whole[end - len(part) : end, : part.shape[1], : part.shape[2]] = part
    return whole


def foreground(frames: NDArray[np.uint8], threshold: int = 24) -> NDArray[np.bool_]:
    """Where pictures (N, H, W, 3) of a fixed camera differ from their median picture, grown by one pixel: (N, H, W)."""
    sample: Sequence[int] = np.linspace(0, len(frames) - 1, min(len(frames), 400)).astype(int).tolist()
    background = np.median(frames[sample], axis=0).astype(np.int16)
    masks = np.empty(frames.shape[:3], dtype=bool)
    for index, frame in enumerate(frames):
        different = np.abs(frame.astype(np.int16) - background).max(axis=-1) > threshold
        masks[index] = ndimage.binary_dilation(different)
    return masks


def importance(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """How often foreground pixels (N, H, W) count: so that each connected thing counts like its frame's largest.

    A target of four pixels beside an arm of a hundred would not be missed otherwise. From 1 to `_MOST`, 0 elsewhere.
    """
    counted = np.zeros(masks.shape, np.uint8)
    for mask, count in zip(masks, counted, strict=True):
        things, _ = ndimage.label(mask)
        areas = np.bincount(things.ravel())[1:]
        if areas.size:
            alike = areas.max() / areas * min(1.0, _FEW / len(areas)) ** 2
            count[mask] = alike.clip(1, _MOST).round()[things[mask] - 1]
    return counted
