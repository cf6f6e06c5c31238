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
from ..sims.gymnasium_env import Shown
from ..spaces import STATE, stacked


@dataclass(eq=False)  # one is another than any that looks the same
class Moment:
    """A dream after a step, or at its start.

    Attributes:
        state: As of `DreamEnv.get_state`.
        frame: The dream's picture, uint8 (H, W, 3).
        observation: What an agent sees.
        info: As of the environment.
        true_frame: The real picture beside it, uint8 (H, W, 3); None where nobody simulates.
        true_positions: Where things really are, (x, y) in metres by marker.
        shown: All that a twin's environment showed beside it; None where there is none.
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
    shown: Shown | None = None
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


def until_end(moments: Sequence[Moment], real: bool) -> list[Moment]:
    """Moments up to the first at which the episode is over; what is played on after that is no part of it.

    It is over where the dream is; with real pictures also where the twin's environment is. That one's own time limit
    does not count, as it began before the dream did.

    Args:
        moments: Of a dream, from its start.
        real: As of `episode_of`.
    """
    ended = (number for number, moment in enumerate(moments) if moment.ended or _judged(moment, real).terminated)
    return list(moments[: next(ended, len(moments)) + 1])


def episode_of(moments: Sequence[Moment], scene: Scene, kind: str, seed: int, real: bool) -> Episode:
    """A demonstration as it is stored, from its start to its last moment.

    Args:
        moments: T + 1 of them, T at least 1; of `until_end`.
        scene: Of the bundle.
        kind: Of episode.
        seed: That the dream began with.
        real: Whether pictures and positions are the real ones beside the dream; so are then what a twin's environment
            observes, its rewards, and whether it is over. Else all are the dream's, as its player met them.
    """
    led = [_judged(moment, real) for moment in moments[1:]]
    truncations = np.zeros(len(led), bool)
    truncations[-1] = moments[-1].truncated or not led[-1].terminated  # the player stopped
    observations: dict[str, NDArray[Any]] = {}
    if scene.environment is not None:
        observations = stacked([_beside_picture(moment, scene.environment, real) for moment in moments])
    return Episode(
        np.array([moment.true_frame if real else moment.frame for moment in moments], np.uint8),
        np.array([moment.action for moment in moments[1:]], np.float32),
        kind,
        seed,
        positions=_positions(moments, scene, real),
        infos={"by_policy": np.array([moment.by_policy for moment in moments])},
        rewards=np.array([each.reward for each in led]),
        terminations=np.array([each.terminated for each in led]),
        truncations=truncations,
        observations=observations,
    )


def _judged(moment: Moment, real: bool) -> Moment | Shown:
    """Who says what a step was worth and whether it was the last; the table's own judge looks at the dream alone."""
    return moment.shown if real and moment.shown is not None else moment


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


def _beside_picture(moment: Moment, environment: Environment, real: bool) -> dict[str, Any]:
    """What is observed beside the picture, by its key, as recordings of the environment have it."""
    if real and moment.shown is not None:
        return moment.shown.rest
    observation = moment.observation
    if environment.picture is None:
        return dict(observation) if isinstance(observation, dict) else {STATE: observation}
    if not isinstance(observation, dict):
        return {}
    return {key: value for key, value in observation.items() if key != environment.picture}
