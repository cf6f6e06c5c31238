"""How does one episode go when it is dreamed open loop: four real frames, then only the recorded actions?

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
from ..precision import Precision
from ..protocols import RestartableSimulator
from ..rollout import DreamEngine
from ..world_model import WorldModel
from .baselines import CONTEXT_FRAMES, SENSITIVITY_STEPS, opposed, opposite
from .ground_truth import Floats, Reference, detect_all, hold_all
from .perception_metrics import decode_frames, figures_of, heading_errors, locate


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
        sure: How sure the dreamed heading is, from 0 to 1, (T,), NaN where unknown.
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
    sure: Floats = field(default_factory=lambda: np.empty(0))

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
    begun = first - world_model.dynamics.context_length
    actions = np.stack([episode.actions[first - 1 :][:horizon] for episode in episodes])
    led = np.stack([episode.actions[begun : first - 1] for episode in episodes])
    context = torch.stack([world_model.encode(episode.frames[begun:first]) for episode in episodes])
    engine = DreamEngine(world_model, len(episodes), dtype)
    followed, past = (torch.from_numpy(each).to(world_model.device) for each in (actions, led))
    return engine.open_loop(context, followed, past=world_model.perception.scale_actions(past))


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
    figures = figures_of(world_model, episode)
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
        *heading_errors(world_model, latents, episode.marker_headings(scene)[length:]),
    )


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
