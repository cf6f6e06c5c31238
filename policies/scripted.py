"""What pushes without learning? A mixture of behaviours that collects data, and a pusher that knows its goal.

An episode of data is a chain of short behaviours, so that approach, contact, free motion, pauses and walls all occur.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..scene import TABLE
from ..sims.dimensions import CUBE_SIZE, PUSHER_RADIUS, PUSHER_SPEED, TABLE_HALF_WIDTH

Vector = NDArray[np.float64]
Behaviour = Callable[[Vector, Vector], Vector]

_STEP = PUSHER_SPEED / TABLE.control_hz  # metres per control step at full speed
_STANDOFF = 0.75 * CUBE_SIZE + PUSHER_RADIUS + 0.02  # metres from the cube's centre where a push begins


class ExploringPusher:
    """The data-collection policy: mostly pushes from random sides, with random motion, pauses and wall contacts.

    Args:
        seed: Seed of every choice; the same seed and the same states give the same actions.
    """

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)
        self._behaviour: Behaviour = self._pause()
        self._steps_left = 0

    def __call__(self, positions: dict[str, NDArray[np.float64]]) -> NDArray[np.float32]:
        """The action (2,) in [-1, 1] for the true positions of "cube" and "pusher" in metres."""
        if self._steps_left <= 0:
            kinds = (self._push, self._wander, self._pause, self._visit_wall)
            start = kinds[self._rng.choice(len(kinds), p=(0.70, 0.15, 0.05, 0.10))]
            low, high = (5, 10) if start == self._pause else (20, 50) if start == self._push else (10, 25)
            self._steps_left = int(self._rng.integers(low, high))
            self._behaviour = start()
        self._steps_left -= 1
        action = self._behaviour(positions["cube"], positions["pusher"])
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _push(self) -> Behaviour:
        """Go around to one side of the cube, then drive through it, aiming a little off its centre."""
        rng = self._rng
        angle = rng.uniform(-np.pi, np.pi)
        heading = np.array([np.cos(angle), np.sin(angle)])
        sideways = np.array([-heading[1], heading[0]]) * rng.uniform(-0.4, 0.4) * CUBE_SIZE
        speed = rng.uniform(0.5, 1.0)
        pushing = False

        def act(cube: Vector, pusher: Vector) -> Vector:
            nonlocal pushing
            start = cube - heading * _STANDOFF + sideways
            reach = TABLE_HALF_WIDTH - PUSHER_RADIUS
            if not pushing:
                to_start = np.clip(start, -reach, reach) - pusher
                pushing = bool(np.linalg.norm(to_start) < 0.02)
                return _move(_around(pusher, to_start, cube), speed=1.0)
            return speed * heading + 2.0 * (sideways - _reject(pusher - cube, heading))

        return act

    def _wander(self) -> Behaviour:
        """Smooth random motion: an Ornstein-Uhlenbeck velocity."""
        rng = self._rng
        velocity = rng.normal(0.0, 0.7, 2)

        def act(cube: Vector, pusher: Vector) -> Vector:
            nonlocal velocity
            velocity = 0.85 * velocity + rng.normal(0.0, 0.4, 2)
            return velocity

        return act

    def _pause(self) -> Behaviour:
        return lambda cube, pusher: np.zeros(2)

    def _visit_wall(self) -> Behaviour:
        """Run against a random point of a random wall and stay there."""
        along, side = self._rng.uniform(-TABLE_HALF_WIDTH, TABLE_HALF_WIDTH), self._rng.choice([-1.0, 1.0])
        goal = np.array([along, side * TABLE_HALF_WIDTH])[:: self._rng.choice([-1, 1])]
        speed = self._rng.uniform(0.5, 1.0)
        return lambda cube, pusher: _move(goal - pusher, speed)


class GoalPusher:
    """Goes behind the object as seen from the goal, and pushes: a reference that needs no training.

    It sees what an agent sees: the observations of `obs_type="pose"`, in the dream or in the real simulator.
    """

    def predict(
        self,
        observation: dict[str, NDArray[np.float32]],
        state: Any = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], None]:
        """Actions for one observation or a batch, with the signature of Stable-Baselines3's `predict`.

        Raises:
            ValueError: If the observation is not that of a cube and a pusher.
        """
        if not isinstance(observation, dict) or observation["observation"].shape[-1] != 8:
            raise ValueError("the scripted pusher needs poses of an object and a pusher, [object, pusher, velocities]")
        pose, goal = observation["observation"], observation["desired_goal"]
        columns = (np.atleast_2d(part).astype(float) for part in (pose[..., :2], pose[..., 2:4], goal))
        actions = np.array([self._act(*row) for row in zip(*columns, strict=True)], dtype=np.float32)
        return actions.reshape(np.shape(goal)), None

    @staticmethod
    def _act(cube: Vector, pusher: Vector, goal: Vector) -> Vector:
        offset = goal - cube
        distance = float(np.linalg.norm(offset))
        heading = offset / max(distance, 1e-9)
        across = _reject(pusher - cube, heading)
        behind = float((cube - pusher) @ heading)
        if behind > 0 and np.linalg.norm(across) < 0.35 * CUBE_SIZE:  # push, and slide back to the middle of the side
            action = min(1.0, 0.3 + distance / 0.1) * heading - 8.0 * across
        else:
            reach = TABLE_HALF_WIDTH - PUSHER_RADIUS
            place = np.clip(cube - heading * _STANDOFF, -reach, reach)
            action = _move(_around(pusher, place - pusher, cube), speed=1.0)
        return np.clip(action, -1.0, 1.0)


class RandomPolicy:
    """Uniformly random actions.

    Args:
        action_space: Which ones there are.
        seed: Of the draws.
    """

    def __init__(self, action_space: spaces.Box, seed: int = 0):
        self._space, self._rng = action_space, np.random.default_rng(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.float32], None]:
        """An action for each of a batch of observations."""
        first = next(iter(observation.values())) if isinstance(observation, dict) else observation
        size = (len(first), *self._space.shape)
        return self._rng.uniform(self._space.low, self._space.high, size).astype(np.float32), None


def _move(offset: Vector, speed: float) -> Vector:
    """Velocity command towards `offset` metres away, slowing down on arrival."""
    distance = float(np.linalg.norm(offset))
    return offset / max(distance, 1e-9) * min(speed, distance / _STEP)


def _reject(vector: Vector, axis: Vector) -> Vector:
    """The part of `vector` across the unit vector `axis`."""
    return vector - axis * float(vector @ axis)


def _around(pusher: Vector, offset: Vector, cube: Vector) -> Vector:
    """Bend a straight path so that it passes beside the cube instead of through it."""
    to_cube = cube - pusher
    distance = float(np.linalg.norm(to_cube))
    ahead = float(to_cube @ offset)
    if distance > 1.3 * _STANDOFF or ahead <= 0:
        return offset
    tangent = np.array([-to_cube[1], to_cube[0]]) / max(distance, 1e-9)
    tangent *= np.sign(tangent @ offset) or 1.0
    retreat = -to_cube / max(distance, 1e-9) * max(0.0, _STANDOFF - distance)
    return tangent * 0.1 + retreat
