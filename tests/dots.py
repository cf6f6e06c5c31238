"""What is the smallest foreign environment? A dot that actions move; `tests.dots:Dot-v0` in Gymnasium's registry."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SIZE = (32, 40)


class DotEnv(gym.Env[Any, Any]):
    """A white dot on black, which ends its episode at the right edge.

    Args:
        observes: "vector", "dict", "picture", "both" (place and picture) or "number" (which nobody can record).
        acts: "box", "discrete" or "several" (which nobody can record).
        draws: Whether pictures are of one size.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (as in the base class)

    def __init__(self, observes: str = "vector", acts: str = "box", draws: bool = True, render_mode: str | None = None):
        self.render_mode, self._observes, self._acts, self._draws = render_mode, observes, acts, draws
        place, picture = spaces.Box(-1, 1, (2,), np.float32), spaces.Box(0, 255, (*SIZE, 3), np.uint8)
        self.observation_space = {
            "vector": place,
            "dict": spaces.Dict({"now": spaces.Dict({"place": place}), "still": spaces.Box(0, 9, (1, 2), np.float64)}),
            "picture": picture,
            "both": spaces.Dict({"view": picture, "place": place}),
            "number": spaces.Discrete(3),
        }[observes]
        self.action_space = {
            "box": spaces.Box(np.array([-1, -2], np.float32), np.array([1, 2], np.float32)),
            "discrete": spaces.Discrete(3, start=4),
            "several": spaces.MultiDiscrete([2, 2]),
        }[acts]
        self._place, self._steps = np.zeros(2, np.float32), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._steps = self.np_random.uniform(-0.8, 0.4, 2).astype(np.float32), 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        push = np.array([action - 5, 0]) if self._acts == "discrete" else np.asarray(action)
        self._place = np.clip(self._place + 0.1 * push, -1, 1).astype(np.float32)
        self._steps += 1
        over = bool(self._place[0] >= 1)
        return self._seen(), -float(np.abs(self._place).sum()), over, False, {"is_success": over}

    def render(self) -> Any:
        rows, columns = SIZE if self._draws or not self._steps else (16, 16)
        picture = np.zeros((rows, columns, 3), np.uint8)
        row, column = np.rint((self._place[::-1] + 1) / 2 * (np.array([rows, columns]) - 7)).astype(int) + 3
        picture[row - 2 : row + 3, column - 2 : column + 3] = 255
        return picture

    def _seen(self) -> Any:
        place = self._place.copy()
        return {
            "vector": place,
            "dict": {"now": {"place": place}, "still": np.full((1, 2), 7.0)},
            "picture": self.render(),
            "both": {"view": self.render(), "place": place},
            "number": 1,
        }[self._observes]


gym.register("Dot-v0", DotEnv, max_episode_steps=12)
