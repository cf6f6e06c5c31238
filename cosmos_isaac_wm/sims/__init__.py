"""Real simulators behind the `Simulator` contract, by name. Imported on demand: MuJoCo is heavy, Isaac Lab optional."""

from __future__ import annotations

import difflib
from pkgutil import resolve_name
from typing import Any

# By the name that their datasets carry.
SIMULATORS = {
    "mujoco": "cosmos_isaac_wm.sims.mujoco:MujocoTable",
    "isaac-lab": "cosmos_isaac_wm.sims.isaac_lab:IsaacLabTable",
}


def new_simulator(name: str, *arguments: Any) -> Any:
    """Make a simulator of a name.

    Args:
        name: A key of `SIMULATORS`.
        arguments: Kind of episode and, if it is not the scene's, size of the pictures.

    Raises:
        ValueError: If there is no such simulator.
        ImportError: If it is not installed here.
    """
    if name not in SIMULATORS:
        near = difflib.get_close_matches(name, SIMULATORS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(SIMULATORS)}"
        raise ValueError(f"unknown simulator {name!r}; {hint}")
    return resolve_name(SIMULATORS[name])(*arguments)
