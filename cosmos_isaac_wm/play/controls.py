"""What can a player do? The actions of a bundle, as keys, sticks and sliders need to know them, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..scene import Scene

_MOST_CHOICES = 64  # of a discrete action: each has a button


class Controls:
    """Turns what a page asks for into actions of an environment.

    A Box is moved by deflections, A numbers in [-1, 1]: 0 is no action, or the middle where 0 is no value inside the
    bounds; -1 and 1 are the bounds. Where there is no bound, 1 stands for the value 1, or for one more than the other
    bound if that is farther.

    Args:
        space: Of actions, Box or Discrete.
        scene: Of the bundle.

    Raises:
        ValueError: If a page cannot play it.
    """

    def __init__(self, space: spaces.Space[Any], scene: Scene):
        self.space = space
        if isinstance(space, spaces.Discrete):
            if space.n > _MOST_CHOICES:
                raise ValueError(f"{scene.name} has {space.n} choices of action; at most {_MOST_CHOICES} can be played")
            self.count = int(space.n)
        elif isinstance(space, spaces.Box) and space.shape:
            low = np.where(np.isfinite(space.low), space.low, np.minimum(-1.0, space.high - 1)).ravel()
            high = np.where(np.isfinite(space.high), space.high, np.maximum(1.0, space.low + 1)).ravel()
            self._low, self._high = low, high
            self._rest = np.where((low < 0) & (high > 0), 0.0, (low + high) / 2)
            self.count = len(low)
        else:
            raise ValueError(f"{scene.name} has actions {space}; Box and Discrete can be played")
        self._agent = scene.agent

    def described(self) -> dict[str, Any]:
        """For the page: kind, number of dimensions or choices, and what the dimensions are called; JSON values."""
        if isinstance(self.space, spaces.Discrete):
            return {"kind": "discrete", "count": self.count, "names": [str(choice) for choice in range(self.count)]}
        planar = self._agent is not None and self.count == 2
        names = ["right", "away"] if planar else [str(dimension) for dimension in range(self.count)]
        return {"kind": "box", "count": self.count, "names": names}

    def rest(self) -> Any:
        """What happens while nobody touches anything: no deflection, or the first choice."""
        return self.action(0 if isinstance(self.space, spaces.Discrete) else [0.0] * self.count)

    def at_rest(self, action: NDArray[Any]) -> bool:
        """Whether an action is that of nobody's touch; no choice is, as each was chosen."""
        return isinstance(self.space, spaces.Box) and bool(np.array_equal(action, self.rest()))

    def action(self, asked: Any) -> NDArray[Any]:
        """An action of the environment's own.

        Args:
            asked: A choice from 0, or A deflections in [-1, 1].

        Raises:
            ValueError: If it is anything else.
        """
        if isinstance(self.space, spaces.Discrete):
            if isinstance(asked, bool) or not isinstance(asked, int) or not 0 <= asked < self.count:
                raise ValueError(f"expected a choice from 0 to {self.count - 1}, got {str(asked)[:40]}")
            return np.asarray(asked + int(self.space.start))
        assert isinstance(self.space, spaces.Box)
        numbers = isinstance(asked, list) and all(type(value) in (int, float) for value in asked)
        if not numbers or len(asked) != self.count or not all(-1 <= value <= 1 for value in asked):
            raise ValueError(f"expected {self.count} deflections in [-1, 1], got {str(asked)[:40]}")
        by = np.asarray(asked, np.float64)
        reach = np.where(by < 0, self._rest - self._low, self._high - self._rest)
        values = (self._rest + by * reach).clip(self._low, self._high)
        return values.astype(self.space.dtype).reshape(self.space.shape)

    def deflections(self, vector: NDArray[Any]) -> list[float] | int:
        """The inverse of `action`, to show what was done: a vector (A,), as recordings have it."""
        if isinstance(self.space, spaces.Discrete):
            return int(vector.argmax())
        off = np.asarray(vector, np.float64) - self._rest
        reach = np.where(off < 0, self._rest - self._low, self._high - self._rest)
        shown = np.divide(off, reach, out=np.zeros_like(off), where=reach > 0)
        return [round(float(value), 3) for value in shown.clip(-1, 1)]
