"""What is known at a moment of a dream that is played? All to go on from there, and all that a recording needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data.episodes import Episode
from ..scene import Environment, Scene
from ..spaces import STATE


@dataclass
class Moment:
    """A dream after a step, or at its start.

    Attributes:
        state: As of `DreamEnv.get_state`.
        frame: The dream's picture, uint8 (H, W, 3).
        observation: What an agent sees.
        info: As of the environment.
        true_frame: The real picture beside it, uint8 (H, W, 3); None where nobody simulates.
        true_positions: Where things really are, (x, y) in metres by marker.
        action: What led here, a vector (A,); None at the start.
        by_policy: Whether a policy chose it.
        reward: For it.
        terminated: Whether the episode is over by itself.
        truncated: Whether it was cut off.
    """

    state: dict[str, Tensor]
    frame: NDArray[np.uint8]
    observation: Any
    info: dict[str, Any]
    true_frame: NDArray[np.uint8] | None = None
    true_positions: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    action: NDArray[np.float32] | None = None
    by_policy: bool = False
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False

    @property
    def ended(self) -> bool:
        """Whether the episode ends here."""
        return self.terminated or self.truncated

    @property
    def nbytes(self) -> int:
        """Of memory, about."""
        return 2 * self.frame.nbytes + sum(value.nbytes for value in self.state.values())


def episode_of(moments: Sequence[Moment], scene: Scene, kind: str, seed: int, real: bool) -> Episode:
    """A demonstration as it is stored, from its start to its last moment.

    Rewards and ends are the dream's, as its player met them.

    Args:
        moments: T + 1 of them, T at least 1.
        scene: Of the bundle.
        kind: Of episode.
        seed: That the dream began with.
        real: Whether pictures and positions are the real ones beside the dream.
    """
    frames = [moment.true_frame if real else moment.frame for moment in moments]
    led = moments[1:]
    truncations = np.array([moment.truncated for moment in led])
    truncations[-1] |= not led[-1].terminated  # the player stopped
    observations: dict[str, NDArray[Any]] = {}
    if scene.environment is not None:
        rows = [_beside_picture(moment.observation, scene.environment) for moment in moments]
        observations = _stacked(rows)
    return Episode(
        np.stack([frame for frame in frames if frame is not None]),
        np.stack([moment.action for moment in led if moment.action is not None]),
        kind,
        seed,
        positions=_positions(moments, scene, real),
        infos={"by_policy": np.array([moment.by_policy for moment in moments])},
        rewards=np.array([moment.reward for moment in led]),
        terminations=np.array([moment.terminated for moment in led]),
        truncations=truncations,
        observations=observations,
    )


def _positions(moments: Sequence[Moment], scene: Scene, real: bool) -> dict[str, NDArray[np.float32]]:
    """(T + 1, 2) in metres by marker; one that is not seen is where it was last seen."""
    found = {}
    for name in scene.marker_names:
        track, last = [], None
        for moment in moments:
            seen = moment.true_positions.get(name) if real else moment.info.get(f"{name}_position")
            last = last if seen is None else np.asarray(seen, np.float32)
            track.append(last)
        first = next((place for place in track if place is not None), None)
        if first is not None:
            found[name] = np.stack([first if place is None else place for place in track])
    return found


def _beside_picture(observation: Any, environment: Environment) -> dict[str, Any]:
    """What is observed beside the picture, by its key, as recordings of the environment have it."""
    if environment.picture is None:
        return dict(observation) if isinstance(observation, dict) else {STATE: observation}
    if not isinstance(observation, dict):
        return {}
    return {key: value for key, value in observation.items() if key != environment.picture}


def _stacked(rows: Sequence[Any]) -> Any:
    """Nested dicts of values as nested dicts of arrays, with a first axis of so many rows."""
    if isinstance(rows[0], dict):
        return {key: _stacked([row[key] for row in rows]) for key in rows[0]}
    return np.stack([np.asarray(row) for row in rows])
