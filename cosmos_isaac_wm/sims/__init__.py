"""Real simulators behind the `Simulator` contract, by name. Imported on demand: MuJoCo is heavy, Isaac Lab optional."""

from __future__ import annotations

import ctypes.util
import difflib
import os
from pkgutil import resolve_name
from typing import Literal

from ..protocols import RestartableSimulator

SimulatorName = Literal["mujoco", "isaac-lab"]
# By the name that their datasets carry.
SIMULATORS: dict[SimulatorName, str] = {
    "mujoco": "cosmos_isaac_wm.sims.mujoco:MujocoTable",
    "isaac-lab": "cosmos_isaac_wm.sims.isaac_lab:IsaacLabTable",
}


def _choose_gl() -> None:
    """Name an off-screen GL for mujoco, which reads MUJOCO_GL once, whoever imports it: so before any of us does."""
    if "MUJOCO_GL" not in os.environ:
        for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
            if ctypes.util.find_library(library):
                os.environ["MUJOCO_GL"] = backend
                os.environ.setdefault("PYOPENGL_PLATFORM", backend)
                break


_choose_gl()


def new_simulator(name: str, kind: str, *image_size: tuple[int, int]) -> RestartableSimulator:
    """Make a simulator of a name.

    Args:
        name: A key of `SIMULATORS`.
        kind: Of episode, "push" or "slide".
        image_size: Height and width of the pictures; the scene's when not given.

    Raises:
        ValueError: If there is no such simulator.
        ImportError: If it is not installed here.
    """
    path = next((path for known, path in SIMULATORS.items() if known == name), None)
    if path is None:
        near = difflib.get_close_matches(name, SIMULATORS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(SIMULATORS)}"
        raise ValueError(f"unknown simulator {name!r}; {hint}")
    made: RestartableSimulator = resolve_name(path)(kind, *image_size)
    return made
