"""What is a dream measured against? Nothing moves, everything goes on as it did, and the simulator with our eyes.

The third is the *predictability floor*. Contact is chaotic, so even the real simulator, restarted from a state known to
1 mm and 1 degree and driven by the same actions, ends up elsewhere; no model that sees only pictures can do better. Its
velocities are exact, which no eye has: the *knowable* floor leaves the object's open, too.

Where the simulator is slow or not at hand, an episode may tell what it did when it was restarted: `<marker>_restarted`,
(T + 1, D, 2), D times with that noise, and `<marker>_opposed`, (T + 1, 2), under opposite actions for
`SENSITIVITY_STEPS`; both in metres, from the last frame of a context of `CONTEXT_FRAMES` on, and NaN elsewhere.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.episodes import Episode
from ..perception.tracking import REFERENCE_WIDTH, errors_px512
from ..protocols import RestartableSimulator
from ..scene import Scene
from ..sims import SIMULATORS, new_simulator

NOISE = (1e-3, float(np.deg2rad(1.0)))  # metres and radians that a perfect eye could not tell
SPEED_NOISE = 5e-3  # metres a second that four frames leave open, by a straight line through what the readout sees
FLOOR_DRAWS = 4
CONTEXT_FRAMES = 4  # before the first dreamed one, also where a model looks back on fewer
SENSITIVITY_STEPS = 16  # after which opposite actions are compared


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


def simulator_unless_told(
    metadata: dict[str, Any], episode: Episode, scene: Scene, last: int
) -> RestartableSimulator | None:
    """`simulator_for`, or None where the episode tells all that it would be asked for, from frame `last` on."""
    wanted = ["restarted", *(["opposed"] if scene.agent in episode.positions else [])]
    told = all(_recorded(episode, scene, what, last) is not None for what in wanted)
    return None if told else simulator_for(metadata, episode, scene)


@cache
def _simulator(name: str, kind: str) -> RestartableSimulator | None:
    try:
        return new_simulator(name, kind)
    except ImportError as error:
        warnings.warn(f"no predictability floor of {kind} episodes: {error}", UserWarning, stacklevel=2)
        return None


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
    speed: float = 0.0,
) -> NDArray[np.float64]:
    """Restart the real simulator from a stored state and drive it.

    Args:
        simulator: Of the same kind of episode as the state.
        state: What its `get_state` gave.
        actions: (T, A).
        rng: Source of the perception-sized noise on the state, or None for the exact state.
        speed: Of the noise on the object's velocity, m/s.

    Returns:
        Positions in metres of the scene's markers after each step, (T, N, 2), NaN where a marker is absent.
    """
    simulator.set_state(state)
    if rng is not None:
        simulator.perturb(rng, *NOISE, *([speed] if speed else []))
    names = simulator.scene.marker_names
    track = np.full((len(actions), len(names), 2), np.nan)
    for step, action in enumerate(actions):
        simulator.step(action)
        positions = simulator.positions()
        for index, name in enumerate(names):
            track[step, index] = positions.get(name, np.nan)
    return track


def predictability_floor(
    simulator: RestartableSimulator | None,
    scene: Scene,
    episode: Episode,
    last: int,
    steps: int,
    rng: np.random.Generator,
    draws: int = FLOOR_DRAWS,
    speed: float = 0.0,
) -> NDArray[np.float64] | None:
    """Errors of the real simulator restarted with perception-sized noise.

    Positions are projected, not drawn, so no OpenGL is needed.

    Args:
        simulator: Of the episode's kind, or None to take the episode's record.
        scene: With markers and a camera.
        episode: With positions, and with `infos["state"]` or a record.
        last: Index of the last context frame.
        steps: T.
        rng: Source of the noise.
        draws: D, how often the noise is drawn; a record has its own number, and its own noise.
        speed: Of the noise on the object's velocity, m/s, of which no record tells.

    Returns:
        px at 512 for each of the scene's markers, (D, T, N), NaN where a marker is absent; None where nothing is known.
    """
    if scene.camera is None:
        return None
    if simulator is not None:
        state, actions = episode.infos["state"][last], episode.actions[last : last + steps]
        tracks = restarted(simulator, state, actions, rng, draws, speed)
    elif not speed and (recorded := _recorded(episode, scene, "restarted", last)) is not None:
        tracks = recorded[last + 1 : last + 1 + steps].transpose(2, 0, 1, 3)
    else:
        return None
    return floor_errors(scene, tracks, episode.marker_positions(scene.marker_names)[last + 1 : last + 1 + steps])


def restarted(
    simulator: RestartableSimulator,
    state: NDArray[np.float64],
    actions: NDArray[np.float32],
    rng: np.random.Generator,
    draws: int = FLOOR_DRAWS,
    speed: float = 0.0,
) -> NDArray[np.float64]:
    """Where the markers go in D restarts with noise, metres, (D, T, N, 2); arguments as of `resimulate`."""
    return np.stack([resimulate(simulator, state, actions, rng, speed) for _ in range(draws)])


def floor_errors(scene: Scene, tracks: NDArray[np.float64], true_m: NDArray[Any]) -> NDArray[np.float64]:
    """Distances of restarted tracks (D, T, N, 2) from the true one (T, N, 2), metres, as px at 512, (D, T, N)."""
    return errors_px512(scene.to_pixels(tracks), scene.to_pixels(true_m), scene.image_size[1])


def opposite(actions: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
    """Actions (..., A), mirrored in the middle of their range."""
    return np.add(scene.action_low, scene.action_high, dtype=np.float32) - actions


def opposed(
    simulator: RestartableSimulator | None, scene: Scene, episode: Episode, last: int, steps: int
) -> NDArray[np.float64] | None:
    """Where opposite actions lead in reality.

    Args:
        simulator: Of the episode's kind, or None to take the episode's record.
        scene: With markers.
        episode: With `infos["state"]` or a record.
        last: Index of the last context frame.
        steps: For how long, up to `SENSITIVITY_STEPS`.

    Returns:
        Positions in metres of the scene's markers, (N, 2); None where they are not known.
    """
    if simulator is not None:
        actions = opposite(episode.actions[last : last + steps], scene)
        return resimulate(simulator, episode.infos["state"][last], actions)[-1]
    track = _recorded(episode, scene, "opposed", last)
    return None if track is None else track[last + steps]


def _recorded(episode: Episode, scene: Scene, what: str, last: int) -> NDArray[np.float64] | None:
    """What an episode tells of being restarted at frame `last`, (T + 1, N, ..., 2), or None."""
    keys = {name: f"{name}_{what}" for name in scene.marker_names}
    told = {name: episode.infos[key] for name, key in keys.items() if key in episode.infos}
    if not told or last != CONTEXT_FRAMES - 1:
        return None
    absent = np.full_like(next(iter(told.values())), np.nan)
    return np.stack([told.get(name, absent) for name in keys], axis=1).astype(np.float64)
