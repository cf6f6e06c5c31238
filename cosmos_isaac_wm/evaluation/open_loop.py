"""One episode dreamed open loop: four real frames, then only the recorded actions, compared with what happened.

Real and dreamed frames go through the same strict detector. A dreamed frame without a detection keeps the last dreamed
position; a real frame without one (the object is hidden) cannot be compared and is counted apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.episodes import Episode
from ..perception.tracking import REFERENCE_WIDTH, detect, errors_px512, hold_last
from ..precision import Precision
from ..rollout import DreamEngine
from ..scene import Scene
from ..world_model import WorldModel
from .baselines import (
    CONTEXT_FRAMES,
    SENSITIVITY_STEPS,
    RestartableSimulator,
    constant_velocity,
    opposed,
    opposite,
    predictability_floor,
)

PERCEPTION_STRIDE = 10  # every tenth frame measures the tokenizer and the readout
_DECODE_BATCH = 32

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """What really happened in an episode after its context, as far as pictures and data tell.

    Attributes:
        start_px: Last position seen in the context, px at 512, (N, 2); the picture's centre if there was none.
        true_px: Centroids in the raw real frames, px at 512, (T, N, 2), NaN where hidden.
        true_m: True positions in metres, (T, N, 2), NaN where unknown.
        baseline_errors: Errors by baseline, px at 512, (D, T) for D draws: of the first marker, and under
            "agent_floor" the floor's of the agent.
    """

    start_px: Floats
    true_px: Floats
    true_m: Floats
    baseline_errors: dict[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenLoop:
    """One episode, dreamed open loop for T steps, beside its truth. N markers; the manipulated object is the first.

    Attributes:
        number: Of the episode in its dataset.
        kind: Of the episode.
        reference: The truth.
        dream_px: Centroids in the dreamed frames, px at 512, (T, N, 2); the last one is held where none was found.
        detected: Where one was found, (T, N).
        dream_m: Positions read from the dreamed latents in metres, (T, N, 2), NaN without a readout.
        figures: Per frame, of tokenizer and readout on real frames (see `perception_figures`), and for scenes without
            markers `latent_l1`, the mean distance of dreamed from real latents.
        divergence: How far dreamed and real positions go apart under opposite actions, in metres, NaN where unknown.
        turned_deg: Between dreamed and true heading of the object, in degrees, (T,), NaN where unknown.
    """

    number: int
    kind: str
    reference: Reference
    dream_px: Floats
    detected: NDArray[np.bool_]
    dream_m: Floats
    figures: dict[str, Floats] = field(default_factory=dict)
    divergence: tuple[float, float] = (np.nan, np.nan)
    turned_deg: Floats = field(default_factory=lambda: np.empty(0))

    def errors_px(self, marker: int = 0) -> Floats:
        """Distance between dreamed and real centroid per step, px at 512, (T,); NaN where the real one is hidden."""
        return np.asarray(np.linalg.norm(self.dream_px - self.reference.true_px, axis=-1)[:, marker])

    def rmse_px(self, marker: int = 0) -> float:
        """Root mean square of `errors_px`; NaN if nothing could be compared."""
        return rmse(self.errors_px(marker)) if self.dream_px.shape[1] else np.nan

    def errors_mm(self, marker: int = 0) -> Floats:
        """Distance between readout and true position per step in millimetres, (T,)."""
        return np.asarray(1000 * np.linalg.norm(self.dream_m - self.reference.true_m, axis=-1)[:, marker])


def rmse(errors: Floats) -> float:
    """Root of the mean square of what is not NaN; NaN if nothing is."""
    known = errors[np.isfinite(errors)]
    return float(np.sqrt(np.mean(known**2))) if known.size else np.nan


def first_dreamed(world_model: WorldModel) -> int:
    """Index of the first frame of an episode that is dreamed, not seen."""
    return max(CONTEXT_FRAMES, int(world_model.dynamics.context_length))


def dream(
    world_model: WorldModel,
    episodes: Sequence[Episode],
    horizon: int | None = None,
    dtype: Precision = "float32",
    first: int | None = None,
) -> Tensor:
    """Dream episodes of equal length under their actions from frame `first` on (see `first_dreamed`).

    Returns:
        Normalised latents (B, T, C, h, w); T is `horizon`, or up to the episodes' ends if that is sooner or None.
    """
    first = first or first_dreamed(world_model)
    seen = slice(first - world_model.dynamics.context_length, first)
    actions = np.stack([episode.actions[first - 1 :][:horizon] for episode in episodes])
    context = torch.stack([world_model.encode(episode.frames[seen]) for episode in episodes])
    engine = DreamEngine(world_model, len(episodes), dtype)
    return engine.open_loop(context, torch.from_numpy(actions).to(world_model.device))


def decode_frames(world_model: WorldModel, latents: Tensor) -> NDArray[np.uint8]:
    """Normalised latents (T, C, h, w) to frames (T, H, W, 3), a few at a time."""
    return np.concatenate([world_model.decode(part).cpu().numpy() for part in latents.split(_DECODE_BATCH)])


def locate(world_model: WorldModel, latents: Tensor) -> Floats:
    """Positions in metres read from latents (T, C, h, w), (T, N, 2); NaN without a readout."""
    if world_model.perception.readout is None:
        return np.full((len(latents), len(world_model.scene.markers), 2), np.nan)
    with torch.inference_mode():
        return world_model.locate(latents).positions.double().cpu().numpy()


def heading_errors(world_model: WorldModel, latents: Tensor, episode: Episode, frames: slice) -> Floats:
    """Degrees between the object's heading in latents (T, C, h, w) and in these frames of an episode, (T,).

    NaN where one is unknown. Headings that look alike count as equal: a cube is never off by more than 45 degrees.
    """
    if world_model.perception.readout is None:
        return np.full(len(latents), np.nan)
    with torch.inference_mode():
        headings = world_model.locate(latents).headings
    symmetry = world_model.scene.symmetries[0]
    if headings is None or not symmetry:
        return np.full(len(latents), np.nan)
    seen = headings[:, 0].double().cpu().numpy()
    true = episode.marker_headings(world_model.scene)[frames, 0][: len(seen)].astype(np.float64)
    across = seen[:, 0] * true[:, 1] - seen[:, 1] * true[:, 0]
    return np.asarray(np.rad2deg(np.abs(np.arctan2(across, (seen * true).sum(-1)))) / symmetry)


def detect_all(frames: NDArray[np.uint8], scene: Scene) -> Floats:
    """Centroids of every marker, px at 512, (T, N, 2), NaN where there is none."""
    scale = REFERENCE_WIDTH / frames.shape[2]
    tracks = [detect(frames, marker) * scale for marker in scene.markers]
    return np.stack(tracks, axis=1) if tracks else np.empty((len(frames), 0, 2))


def reference(
    scene: Scene,
    episode: Episode,
    context_length: int,
    horizon: int | None = None,
    simulator: RestartableSimulator | None = None,
    rng: np.random.Generator | None = None,
) -> Reference:
    """The truth of an episode and what the baselines make of it.

    Args:
        scene: The bundle's.
        episode: The recorded one.
        context_length: Frames before the first dreamed one.
        horizon: T; to the episode's end when None.
        simulator: Of the episode's kind, for the predictability floor; the episode may tell itself when None.
        rng: Of the floor's noise; no floor when None.
    """
    frames = episode.frames[: None if horizon is None else context_length + horizon]
    steps = len(frames) - context_length
    seen = detect_all(frames, scene)
    context = hold_from_centre(seen[:context_length], scene)
    true_px = seen[context_length:]
    if not scene.markers:
        return Reference(context[-1], true_px, true_px)
    true_m = episode.marker_positions(scene.marker_names)[context_length:][:steps].astype(np.float64)
    errors = {
        "static": np.linalg.norm(context[-1:, 0] - true_px[:, 0], axis=-1)[None],
        "constant_velocity": np.linalg.norm(constant_velocity(context[:, 0], steps, scene) - true_px[:, 0], axis=-1)[
            None
        ],
    }
    floor = None if rng is None else predictability_floor(simulator, scene, episode, context_length - 1, steps, rng)
    if floor is not None:
        errors["floor"] = floor[..., 0]
        if scene.agent_index is not None:
            errors["agent_floor"] = floor[..., scene.agent_index]
    return Reference(context[-1], true_px, true_m, errors)


def hold_all(seen: Floats, start: Floats) -> Floats:
    """`hold_last` for every marker of tracks (T, N, 2) from starts (N, 2)."""
    held = [hold_last(seen[:, n], start[n]) for n in range(seen.shape[1])]
    return np.stack(held, axis=1) if held else seen


def hold_from_centre(seen: Floats, scene: Scene) -> Floats:
    """`hold_last` for every marker of tracks (T, N, 2), px at 512, which begin at the picture's centre."""
    centre = REFERENCE_WIDTH / 2 * np.array([1.0, scene.image_size[0] / scene.image_size[1]])
    return hold_all(seen, np.broadcast_to(centre, seen.shape[1:]))


def measure(
    world_model: WorldModel,
    episode: Episode,
    number: int,
    latents: Tensor,
    truth: Reference,
    divergence: tuple[float, float] = (np.nan, np.nan),
    first: int | None = None,
) -> OpenLoop:
    """Compare dreamed latents (T, C, h, w) with the episode they belong to, from frame `first` on."""
    scene, length = world_model.scene, first or first_dreamed(world_model)
    seen = detect_all(decode_frames(world_model, latents), scene)
    figures = perception_figures(world_model, episode)
    if not scene.markers:
        real = world_model.encode(episode.frames[length : length + len(latents)])
        figures["latent_l1"] = (latents - real).abs().mean(dim=(1, 2, 3)).double().cpu().numpy()
    return OpenLoop(
        number,
        episode.kind,
        truth,
        hold_all(seen, truth.start_px),
        np.asarray(np.isfinite(seen).all(axis=-1)),
        locate(world_model, latents),
        figures,
        divergence,
        heading_errors(world_model, latents, episode, slice(length, None)),
    )


def perception_figures(world_model: WorldModel, episode: Episode) -> dict[str, Floats]:
    """What tokenizer and readout do to real frames, on every tenth of them.

    Returns:
        `frame_squared_error` on the scale of 255; `tokenizer_<object>_px512`, how far its centroid moves in the round
        trip (where it vanishes, as far as the picture's centre); `readout_<object>_mm` for every marker, and
        `readout_<object>_deg`.
    """
    scene, frames = world_model.scene, episode.frames[::PERCEPTION_STRIDE]
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
    true_m = episode.marker_positions(scene.marker_names)[::PERCEPTION_STRIDE]
    for marker, errors in zip(
        scene.marker_names, np.linalg.norm(locate(world_model, latents) - true_m, axis=-1).T, strict=True
    ):
        figures[f"readout_{marker}_mm"] = 1000 * errors
    figures[f"readout_{name}_deg"] = heading_errors(world_model, latents, episode, slice(0, None, PERCEPTION_STRIDE))
    return figures


def divergences(
    world_model: WorldModel,
    episodes: Sequence[Episode],
    latents: Tensor,
    simulators: Sequence[RestartableSimulator | None],
    first: int | None = None,
) -> list[tuple[float, float]]:
    """How far opposite actions lead away from the recorded ones within 16 steps, in the dream and in reality.

    Args:
        world_model: The bundle.
        episodes: B of equal length.
        latents: Their dreams under the recorded actions, (B, T, C, h, w).
        simulators: Per episode the one it was recorded with, or None where it is not at hand.
        first: Index of the first dreamed frame; see `first_dreamed`.

    Returns:
        Per episode the mean distance in metres over all markers, dreamed and real; NaN without an agent in the scene or
        a readout, or where the real one is not known.
    """
    scene, last = world_model.scene, (first or first_dreamed(world_model)) - 1
    steps = min(SENSITIVITY_STEPS, latents.shape[1])
    ends = [
        opposed(simulator, scene, episode, last, steps) if scene.agent in episode.positions else None
        for episode, simulator in zip(episodes, simulators, strict=True)
    ]
    if all(end is None for end in ends):
        return [(np.nan, np.nan)] * len(episodes)
    turned = [dataclasses.replace(episode, actions=opposite(episode.actions, scene)) for episode in episodes]
    dreamed = locate(world_model, dream(world_model, turned, steps, first=first)[:, -1]) - locate(
        world_model, latents[:, steps - 1]
    )
    found = []
    for distance, episode, end in zip(np.linalg.norm(dreamed, axis=-1), episodes, ends, strict=True):
        if end is None:
            found.append((np.nan, np.nan))
            continue
        recorded = episode.marker_positions(scene.marker_names)[last + steps]
        found.append((float(distance.mean()), float(np.linalg.norm(end - recorded, axis=-1).mean())))
    return found
