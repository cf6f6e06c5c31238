"""What is left of a picture after tokenizer and readout? Decibels, what moves, and every tracked object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..borders import ours
from ..data.dataset import EpisodeDataset
from ..perception import Perception
from ..perception.tracking import detect, sizes
from ..scene import Scene
from .pictures import foreground, importance

_EPISODES, _STRIDE = 20, 10  # of each dataset, and every so manyth frame
_SEEN, _KEPT = 0.8, 0.5  # below which an object counts as lost, and what moves too


@dataclass(frozen=True)
class RoundTrip:
    """Of pictures that were not trained on, where there are such.

    Attributes:
        figures: `round_trip_db`; `moving_kept`, the share of what differs from the median picture that survives, where
            small things count like large ones; for every tracked object `<name>_seen`, the share of pictures in which
            it is found again within its own size, `<name>_size_mm`, and with a readout `<name>_read_mm`, the median
            error.
        lost: The objects that are not there any more, or are read less precisely than they are large; "what moves".
    """

    figures: dict[str, float]
    lost: list[str]

    def words(self) -> str:
        """The verdict on one line."""
        parts = [f"round trip {self.figures['round_trip_db']:.1f} dB"]
        if "moving_kept" in self.figures:
            parts.append(f"{100 * self.figures['moving_kept']:.0f} % of what moves is kept")
        for name in (key.removesuffix("_seen") for key in self.figures if key.endswith("_seen")):
            told = f"{name} found again in {100 * self.figures[f'{name}_seen']:.0f} %"
            if f"{name}_read_mm" in self.figures:
                told += f", read to {self.figures[f'{name}_read_mm']:.0f} mm (it is {self._size(name)} large)"
            parts.append(told)
        line = "; ".join(parts)
        if not self.lost:
            return line
        return (
            f"{line}\nWARNING: {' and '.join(self.lost)} will be lost in dreams. Train the tokenizer for longer "
            "(--fit.updates), or from other weights (--pretrained)"
        )

    def _size(self, name: str) -> str:
        return f"{self.figures[f'{name}_size_mm']:.0f} mm"


@ours
def round_trip(perception: Perception, datasets: Sequence[EpisodeDataset]) -> RoundTrip:
    """Look at held-out pictures before and after.

    Args:
        perception: Trained.
        datasets: Of its scene.
    """
    scene = perception.scene
    episodes = [data[i] for data in datasets for i in data.held_out("val")[:_EPISODES]]
    frames = np.concatenate([episode.frames[::_STRIDE] for episode in episodes])
    truth = np.concatenate([episode.marker_positions(scene.marker_names)[::_STRIDE] for episode in episodes])
    decoded, read = [], []
    for start in range(0, len(frames), 32):
        latents = perception.encode(frames[start : start + 32])
        decoded.append(perception.decode(latents).cpu().numpy())
        if perception.readout is not None:
            read.append(perception.locate(latents).positions.cpu().numpy())
    after = np.concatenate(decoded)
    squared = np.square(after.astype(np.float32) - frames).mean()
    figures = {"round_trip_db": float(10 * np.log10(255**2 / max(squared, 1e-6)))}
    lost = []
    kept = _moving_kept(frames, after)
    if kept is not None:
        figures["moving_kept"] = kept
        lost += ["what moves"] if kept < _KEPT else []
    error = np.linalg.norm(np.concatenate(read) - truth, axis=-1) if read else None
    for index, marker in enumerate(scene.markers):
        before, again = detect(frames, marker), detect(after, marker)
        there = np.isfinite(before).all(axis=1)
        if not there.any():
            continue
        pixels = sizes(frames[there], marker)
        found = np.linalg.norm(again[there] - before[there], axis=1) <= pixels  # NaN where it is not there any more
        figures[f"{marker.name}_seen"] = float(found.mean())
        size = float(np.median(pixels)) * _millimetres(scene)
        if np.isfinite(size):
            figures[f"{marker.name}_size_mm"] = size
        if error is not None and np.isfinite(error[:, index]).any():
            figures[f"{marker.name}_read_mm"] = 1000 * float(np.nanmedian(error[:, index]))
        if found.mean() < _SEEN or figures.get(f"{marker.name}_read_mm", 0.0) > size:
            lost.append(marker.name)
    return RoundTrip(figures, lost)


def _moving_kept(frames: NDArray[np.uint8], after: NDArray[np.uint8]) -> float | None:
    """1 less the error where pictures differ from their median, as a share of that difference; None if none does."""
    counted = importance(foreground(frames))
    if not counted.any():
        return None
    median = np.median(frames, axis=0)
    missed, there = (np.abs(each.astype(np.float32) - frames).mean(axis=3) for each in (after, median))
    return float(1 - (counted * missed).sum() / (counted * there).sum())


def _millimetres(scene: Scene) -> float:
    """About how large a pixel is in the middle of the workspace."""
    if scene.workspace_low is None or scene.workspace_high is None:
        return float("nan")
    low, high = np.array(scene.workspace_low), np.array(scene.workspace_high)
    if scene.camera is None:
        return float(1000 * (high - low)[0] / scene.image_size[1])
    middle = (low + high) / 2
    across = np.linalg.norm(np.subtract(*(scene.to_pixels(middle + np.array([off, 0.0])) for off in (0.05, -0.05))))
    return float(100 / across)
