"""How do tables of any simulator run together? The contract for it, and MuJoCo behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..scene import Scene
from . import SimulatorName
from .mujoco import MujocoTable


class Playable(Protocol):
    """What episodes are recorded on, N at once."""

    def reset(self, seeds: Sequence[int]) -> None:
        """Start an episode on each; where there are fewer seeds, the last tables do not matter."""

    def step(self, actions: NDArray[np.float32]) -> None:
        """Hold actions (N, A) for one control step."""

    def render(self) -> NDArray[np.uint8]:
        """Pictures (N, H, W, 3)."""

    def observe(self) -> list[dict[str, Any]]:
        """What is known of each: `<marker>_position` of all, in metres, and maybe more."""


class Tables(Playable, Protocol):
    """Simulators of one kind of episode that step together, N of them.

    They observe what is true: `<marker>_position`, `cube_pose` (w, x, y, z), `state`, `contact`.

    Attributes:
        scene: What they simulate.
    """

    scene: Scene

    def restart(self, states: NDArray[np.float64]) -> None:
        """Go back to states (N, S); where there are fewer, the last tables do not matter."""

    def perturb(self, rngs: Sequence[np.random.Generator], position_m: float, angle_rad: float) -> None:
        """Jitter the poses on the first tables, each with a generator of its own."""

    def metadata(self) -> dict[str, Any]:
        """Simulator, version, renderer: recorded with every dataset."""


class MujocoTables:
    """One table in MuJoCo, which runs in parallel as processes do, not in a batch.

    Args:
        kind: "push" or "slide".
        image_size: Height and width of the pictures.
        table: Of that kind, for example one of another world; a new one as it is recorded when None.
    """

    def __init__(self, kind: str, image_size: tuple[int, int], table: MujocoTable | None = None):
        self._table = table or MujocoTable(kind, image_size)
        self.scene = self._table.scene

    def reset(self, seeds: Sequence[int]) -> None:
        """See `Tables`."""
        (seed,) = seeds
        self._table.reset(seed)

    def restart(self, states: NDArray[np.float64]) -> None:
        """See `Tables`."""
        (state,) = states
        self._table.set_state(state)

    def perturb(self, rngs: Sequence[np.random.Generator], position_m: float, angle_rad: float) -> None:
        """See `Tables`."""
        (rng,) = rngs
        self._table.perturb(rng, position_m, angle_rad)

    def step(self, actions: NDArray[np.float32]) -> None:
        """See `Tables`."""
        self._table.step(actions[0])

    def render(self) -> NDArray[np.uint8]:
        """See `Tables`."""
        return self._table.render()[None]

    def observe(self) -> list[dict[str, Any]]:
        """See `Tables`."""
        table = self._table
        known = {"cube_pose": table.cube_pose(), "state": table.get_state(), "contact": table.in_contact()}
        return [{f"{name}_position": place for name, place in table.positions().items()} | known]

    def metadata(self) -> dict[str, Any]:
        """See `Tables`."""
        return self._table.metadata()


def new_tables(sim: SimulatorName, kind: str, count: int, image_size: tuple[int, int]) -> Tables:
    """Tables of a simulator.

    Args:
        sim: "mujoco", or "isaac-lab" inside an Isaac Lab environment.
        kind: "push" or "slide".
        count: N; one in MuJoCo.
        image_size: Height and width of the pictures.

    Raises:
        ValueError: If several are asked of MuJoCo.
        ImportError: If the simulator is not installed here.
    """
    if sim == "isaac-lab":
        from .isaac_lab import IsaacLabTables

        return IsaacLabTables(kind, count, image_size)
    if count != 1:
        raise ValueError(f"MuJoCo simulates one table in a process, not {count}; use several processes")
    return MujocoTables(kind, image_size)
