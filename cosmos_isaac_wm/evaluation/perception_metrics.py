"""What do tokenizer and readout make of frames and latents, and how far is it from the truth?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.episodes import Episode
from ..perception.tracking import detect, errors_px512
from ..world_model import WorldModel
from .ground_truth import Floats

PERCEPTION_STRIDE = 10  # every tenth frame measures the tokenizer and the readout
_DECODE_BATCH = 32


def decode_frames(world_model: WorldModel, latents: Tensor) -> NDArray[np.uint8]:
    """Normalised latents (T, C, h, w) to frames (T, H, W, 3), a few at a time."""
    return np.concatenate([world_model.decode(part).cpu().numpy() for part in latents.split(_DECODE_BATCH)])


def locate(world_model: WorldModel, latents: Tensor) -> Floats:
    """Positions in metres read from latents (T, C, h, w), (T, N, 2); NaN without a readout."""
    if world_model.perception.readout is None:
        return np.full((len(latents), len(world_model.scene.markers), 2), np.nan)
    with torch.no_grad():
        return world_model.locate(latents).positions.double().cpu().numpy()


def heading_errors(world_model: WorldModel, latents: Tensor, headings: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Degrees between the object's heading in latents (T, C, h, w) and the true one, (T,), and how sure it is.

    Headings that look alike count as equal: a cube is never off by more than 45 degrees. Sure is the length of the
    vector that is read: 1 for a cube with edges, 0 for a round one. NaN where unknown.

    Args:
        world_model: Its readout sees them.
        latents: Real or dreamed ones.
        headings: True ones of all markers, as of `Episode.marker_headings`, (T, N, 2) or longer.
    """
    unknown = np.full(len(latents), np.nan)
    if world_model.perception.readout is None:
        return unknown, unknown
    with torch.no_grad():
        found = world_model.locate(latents).headings
    symmetry = world_model.scene.symmetries[0]
    if found is None or not symmetry:
        return unknown, unknown
    seen = found[:, 0].double().cpu().numpy()
    true = headings[: len(seen), 0].astype(np.float64)
    across = seen[:, 0] * true[:, 1] - seen[:, 1] * true[:, 0]
    off = np.rad2deg(np.abs(np.arctan2(across, (seen * true).sum(-1)))) / symmetry
    return np.asarray(off), np.asarray(np.linalg.norm(seen, axis=-1))


def perception_figures(
    world_model: WorldModel, frames: NDArray[np.uint8], true_m: NDArray[Any], headings: NDArray[np.float32]
) -> dict[str, Floats]:
    """What tokenizer and readout do to real frames, on every tenth of them.

    Args:
        world_model: The bundle.
        frames: uint8 (T, H, W, 3).
        true_m: Where the markers are, metres, (T, N, 2), NaN where absent.
        headings: How they are turned, as of `Episode.marker_headings`, (T, N, 2).

    Returns:
        `frame_squared_error` on the scale of 255; `tokenizer_<object>_px512`, how far its centroid moves in the round
        trip (where it vanishes, as far as the picture's centre); `readout_<object>_mm` for every marker, and
        `readout_<object>_deg`.
    """
    scene, some = world_model.scene, slice(0, None, PERCEPTION_STRIDE)
    frames = frames[some]
    latents = world_model.encode(frames)
    decoded = decode_frames(world_model, latents)
    figures = {"frame_squared_error": np.square(decoded.astype(np.float64) - frames).mean(axis=(1, 2, 3))}
    if not scene.markers:
        return figures
    name = scene.marker_names[0]
    before, after = detect(frames, scene.markers[0]), detect(decoded, scene.markers[0])
    height, width = frames.shape[1:3]
    after = np.where(np.isnan(after), (width / 2, height / 2), after)
    figures[f"tokenizer_{name}_px512"] = errors_px512(after, before, width)
    errors = np.linalg.norm(locate(world_model, latents) - true_m[some], axis=-1)
    figures |= {f"readout_{marker}_mm": 1000 * errors[:, index] for index, marker in enumerate(scene.marker_names)}
    figures[f"readout_{name}_deg"] = heading_errors(world_model, latents, headings[some])[0]
    return figures


def figures_of(world_model: WorldModel, episode: Episode) -> dict[str, Floats]:
    """`perception_figures` of a recorded episode."""
    scene = world_model.scene
    places = episode.marker_positions(scene.marker_names)
    return perception_figures(world_model, episode.frames, places, episode.marker_headings(scene))
