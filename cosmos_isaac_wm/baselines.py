"""What a dream is measured against: nothing moves, everything goes on as it did, and the simulator with our eyes.

The third is the *predictability floor*. Contact is chaotic, so even the real simulator, restarted from a state known to
1 mm and 1 degree and driven by the same actions, ends up elsewhere; no model that sees only pictures can do better.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .data.episodes import Episode
from .protocols import Simulator
from .scene import Scene
from .sims import SIMULATORS, new_simulator
from .tracking import REFERENCE_WIDTH, errors_px512

NOISE = (1e-3, float(np.deg2rad(1.0)))  # metres and radians that a perfect eye could not tell
FLOOR_DRAWS = 4


class RestartableSimulator(Simulator, Protocol):
    """A simulator whose state can be restored and blurred."""

    def perturb(self, rng: np.random.Generator, position_m: float, angle_rad: float) -> None:
        """Jitter the objects' poses by Gaussian noise of these standard deviations."""


def simulator_for(metadata: dict[str, Any], episode: Episode, scene: Scene) -> RestartableSimulator | None:
    """The simulator that an episode was collected with, shared by all episodes of its kind.

    Args:
        metadata: Its dataset's; "simulator" names one of `sims.SIMULATORS`.
        episode: With `infos["state"]`, or nothing can be restarted.
        scene: With a camera, or its positions cannot be compared with pictures.

    Returns:
        The simulator, or None where one of these is missing, or it is not installed here, which is said once.
    """
    name = str(metadata.get("simulator"))
    if name not in SIMULATORS or scene.camera is None or "state" not in episode.infos:
        return None
    return _simulator(name, episode.kind)


@cache
def _simulator(name: str, kind: str) -> RestartableSimulator | None:
    try:
        simulator: RestartableSimulator = new_simulator(name, kind)
    except ImportError as error:
        warnings.warn(f"no predictability floor of {kind} episodes: {error}", UserWarning, stacklevel=2)
        return None
    return simulator


def constant_velocity(context: NDArray[np.float64], steps: int, scene: Scene) -> NDArray[np.float64]:
    """Go on with the last context frame's velocity, but not beyond where the scene's objects can be.

    Args:
        context: Positions in the context frames, px at 512, (K, 2).
        steps: T.
        scene: Its workspace as seen by its camera bounds the track, or else the picture.

    Returns:
        Positions (T, 2), px at 512.
    """
    track = context[-1] + np.arange(1, steps + 1)[:, None] * (context[-1] - context[-2:][0])
    height, width = scene.image_size
    low, high = np.zeros(2), np.array([width - 1.0, height - 1.0])
    if scene.camera is not None and scene.workspace_low is not None and scene.workspace_high is not None:
        (left, near), (right, far) = scene.workspace_low, scene.workspace_high
        corners = scene.to_pixels([(left, near), (left, far), (right, near), (right, far)])
        low, high = np.maximum(low, corners.min(axis=0)), np.minimum(high, corners.max(axis=0))
    scale = REFERENCE_WIDTH / width
    return np.clip(track, low * scale, high * scale)


def resimulate(
    simulator: RestartableSimulator,
    state: NDArray[np.float64],
    actions: NDArray[np.float32],
    rng: np.random.Generator | None = None,
) -> NDArray[np.float64]:
    """Restart the real simulator from a stored state and drive it.

    Args:
        simulator: Of the same kind of episode as the state.
        state: What its `get_state` gave.
        actions: (T, A).
        rng: Source of the perception-sized noise on the state, or None for the exact state.

    Returns:
        Positions in metres of the scene's markers after each step, (T, N, 2), NaN where a marker is absent.
    """
    simulator.set_state(state)
    if rng is not None:
        simulator.perturb(rng, *NOISE)
    names = simulator.scene.marker_names
    track = np.full((len(actions), len(names), 2), np.nan)
    for step, action in enumerate(actions):
        simulator.step(action)
        positions = simulator.positions()
        for index, name in enumerate(names):
            track[step, index] = positions.get(name, np.nan)
    return track


def predictability_floor(
    simulator: RestartableSimulator,
    scene: Scene,
    episode: Episode,
    last: int,
    steps: int,
    rng: np.random.Generator,
    draws: int = FLOOR_DRAWS,
) -> NDArray[np.float64]:
    """Errors of the real simulator restarted with perception-sized noise.

    Positions are projected, not drawn, so no OpenGL is needed.

    Args:
        simulator: Of the episode's kind.
        scene: With markers and a camera.
        episode: With positions and `infos["state"]`.
        last: Index of the last context frame.
        steps: T.
        rng: Source of the noise.
        draws: D, how often the noise is drawn.

    Returns:
        px at 512 for each of the scene's markers, (D, T, N), NaN where a marker is absent.
    """
    truth = scene.to_pixels(episode.marker_positions(scene.marker_names)[last + 1 : last + 1 + steps])
    tracks = [
        resimulate(simulator, episode.infos["state"][last], episode.actions[last : last + steps], rng)
        for _ in range(draws)
    ]
    return errors_px512(scene.to_pixels(np.stack(tracks)), truth, scene.image_size[1])
