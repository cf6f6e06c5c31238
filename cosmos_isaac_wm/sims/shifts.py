"""Which worlds are not the recorded one? The table in MuJoCo with other friction, mass, lamp, or with late control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..scene import TABLE
from .mujoco import MujocoTable

LAMP_MOVED = 0.8  # metres


def _friction(model: mujoco.MjModel, factor: float) -> None:
    model.geom_friction[:, 0] *= factor


def _mass(model: mujoco.MjModel, factor: float) -> None:
    cube = model.body("cube").id
    model.body_mass[cube] *= factor
    model.body_inertia[cube] *= factor


def _lamp(model: mujoco.MjModel, by: float) -> None:
    model.light_pos[:, 0] += by


def _same(model: mujoco.MjModel, _: float) -> None:
    """Nothing that is compiled differs."""


_CHANGES: dict[str, tuple[Callable[[mujoco.MjModel, float], None], float]] = {
    "friction_half": (_friction, 0.5),
    "friction_double": (_friction, 2.0),
    "mass_double": (_mass, 2.0),
    "delay": (_same, 1.0),
    "lamp": (_lamp, LAMP_MOVED),
}
SHIFTS = tuple(_CHANGES)


_NOTHING_TO_SLIDES = ("delay", "mass_double")  # nobody acts; and a free cube of any mass is slowed down alike


def shifts_of(kind: str) -> tuple[str, ...]:
    """Those that make a difference to episodes of a kind."""
    return SHIFTS if kind == "push" else tuple(shift for shift in SHIFTS if shift not in _NOTHING_TO_SLIDES)


class ShiftedTable(MujocoTable):
    """The table of another world.

    Args:
        kind: "push" or "slide".
        shift: One of `SHIFTS`: all friction halved or doubled, a cube of twice the mass, every action a step late (the
            first is none), the lamp moved by 80 cm; None is the world as it is recorded.
        image_size: Height and width of the pictures.

    Raises:
        ValueError: If there is no such shift.
    """

    def __init__(self, kind: str, shift: str | None = None, image_size: tuple[int, int] = TABLE.image_size):
        if shift is not None and shift not in SHIFTS:
            raise ValueError(f"unknown shift {shift!r}; expected one of {SHIFTS}")
        super().__init__(kind, image_size)
        self._late, self._before = shift == "delay", np.zeros(2, np.float32)
        if shift is not None:
            change, amount = _CHANGES[shift]
            change(self.model, amount)
            mujoco.mj_setConst(self.model, self.data)  # what is derived from masses, without which contacts explode

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """See `MujocoTable`."""
        super().reset(seed, options)
        self._before = np.zeros(2, np.float32)

    def step(self, action: NDArray[np.float32]) -> None:
        """See `MujocoTable`; with late control the action before is held."""
        held, self._before = (self._before if self._late else action), action
        super().step(held)
