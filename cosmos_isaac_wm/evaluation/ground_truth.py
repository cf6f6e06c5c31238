"""What really happened in an episode, and what do the baselines make of it?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..data.episodes import Episode
from ..perception.tracking import REFERENCE_WIDTH, detect, hold_last
from ..protocols import RestartableSimulator
from ..scene import Scene
from .baselines import SPEED_NOISE, constant_velocity, predictability_floor

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


def reference(
    scene: Scene,
    episode: Episode,
    context_length: int,
    horizon: int | None = None,
    simulator: RestartableSimulator | None = None,
    rng: np.random.Generator | None = None,
) -> Reference:
    """The truth of a recorded episode.

    Args:
        scene: The bundle's.
        episode: The recorded one.
        context_length: Frames before the first dreamed one.
        horizon: T; to the episode's end when None.
        simulator: Of the episode's kind, for the predictability floor; the episode may tell itself when None.
        rng: Of the floor's noise; no floor when None.
    """
    frames = episode.frames[: None if horizon is None else context_length + horizon]
    steps, last = len(frames) - context_length, context_length - 1
    seen = detect_all(frames, scene)
    context = hold_from_centre(seen[:context_length], scene)
    if not scene.markers:
        return Reference(context[-1], seen[context_length:], seen[context_length:])
    true_m = episode.marker_positions(scene.marker_names)[context_length:][:steps].astype(np.float64)
    floor, knowable = (
        None if rng is None else predictability_floor(simulator, scene, episode, last, steps, rng, speed=speed)
        for speed in (0.0, SPEED_NOISE)
    )
    return with_baselines(scene, context, seen[context_length:], true_m, floor, knowable)


def with_baselines(
    scene: Scene,
    context_px: Floats,
    true_px: Floats,
    true_m: Floats,
    floor: Floats | None = None,
    knowable: Floats | None = None,
) -> Reference:
    """The truth, and how far the baselines are from it.

    Args:
        scene: With N markers, at least one.
        context_px: Where they were seen in the context frames, px at 512, (K, N, 2).
        true_px: Where they were seen afterwards, px at 512, (T, N, 2), NaN where hidden.
        true_m: Where they really were then, metres, (T, N, 2), NaN where unknown.
        floor: Errors of the restarted simulator, px at 512, (D, T, N), or None where nothing is known.
        knowable: The same of a simulator whose velocities are as uncertain as eyes are.
    """
    moved = constant_velocity(context_px[:, 0], len(true_px), scene)
    errors = {
        "static": np.linalg.norm(context_px[-1:, 0] - true_px[:, 0], axis=-1)[None],
        "constant_velocity": np.linalg.norm(moved - true_px[:, 0], axis=-1)[None],
    }
    if floor is not None:
        errors["floor"] = floor[..., 0]
        if scene.agent_index is not None:
            errors["agent_floor"] = floor[..., scene.agent_index]
    if knowable is not None:
        errors["knowable"] = knowable[..., 0]
    return Reference(context_px[-1], true_px, true_m, errors)


def detect_all(frames: NDArray[np.uint8], scene: Scene) -> Floats:
    """Centroids of every marker, px at 512, (T, N, 2), NaN where there is none."""
    scale = REFERENCE_WIDTH / frames.shape[2]
    tracks = [detect(frames, marker) * scale for marker in scene.markers]
    return np.stack(tracks, axis=1) if tracks else np.empty((len(frames), 0, 2))


def hold_all(seen: Floats, start: Floats) -> Floats:
    """`hold_last` for every marker of tracks (T, N, 2) from starts (N, 2)."""
    held = [hold_last(seen[:, n], start[n]) for n in range(seen.shape[1])]
    return np.stack(held, axis=1) if held else seen


def hold_from_centre(seen: Floats, scene: Scene) -> Floats:
    """`hold_last` for every marker of tracks (T, N, 2), px at 512, which begin at the picture's centre."""
    centre = REFERENCE_WIDTH / 2 * np.array([1.0, scene.image_size[0] / scene.image_size[1]])
    return hold_all(seen, np.broadcast_to(centre, seen.shape[1:]))
