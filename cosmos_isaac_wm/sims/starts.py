"""Where does an episode on the table begin? In every simulator at the same place for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dimensions import CUBE_SIZE, PUSHER_RADIUS, TABLE_HALF_WIDTH

_APART = 0.10  # metres between the centres of cube and pusher, at least


@dataclass(frozen=True)
class TableStart:
    """A start, in metres, radians and seconds.

    Attributes:
        cube: (x, y) of the cube, (2,).
        yaw: Its angle about the vertical.
        velocity: Its (x, y) velocity, (2,).
        spin: Its angular velocity about the vertical.
        pusher: (x, y) of the pusher, (2,); None in a slide.
    """

    cube: NDArray[np.float64]
    yaw: float
    velocity: NDArray[np.float64]
    spin: float
    pusher: NDArray[np.float64] | None

    @property
    def cube_pose(self) -> NDArray[np.float64]:
        """The cube's (x, y, z, qw, qx, qy, qz)."""
        return np.array([*self.cube, CUBE_SIZE / 2, np.cos(self.yaw / 2), 0.0, 0.0, np.sin(self.yaw / 2)])


def draw_start(kind: str, seed: int, options: dict[str, Any] | None = None) -> TableStart:
    """A random start.

    Args:
        kind: "push", or "slide": without a pusher, the cube launched at 0.4 to 1.0 m/s with some spin.
        seed: Any non-negative integer.
        options: Optional `"cube"` (x, y) and `"pusher"` (x, y) in metres instead of random ones.
    """
    options, rng = options or {}, np.random.default_rng(seed)
    reach = TABLE_HALF_WIDTH - CUBE_SIZE
    cube = np.asarray(options.get("cube", rng.uniform(-reach, reach, 2)), dtype=np.float64)
    yaw = float(rng.uniform(-np.pi, np.pi))
    if kind == "slide":
        speed, heading = rng.uniform(0.4, 1.0), rng.uniform(-np.pi, np.pi)
        velocity = speed * np.array([np.cos(heading), np.sin(heading)])
        return TableStart(cube, yaw, velocity, float(rng.uniform(-2.0, 2.0)), None)
    reach = TABLE_HALF_WIDTH - PUSHER_RADIUS - 0.005
    pusher = rng.uniform(-reach, reach, 2)
    while np.linalg.norm(pusher - cube) < _APART:
        pusher = rng.uniform(-reach, reach, 2)
    return TableStart(cube, yaw, np.zeros(2), 0.0, np.asarray(options.get("pusher", pusher), dtype=np.float64))
