"""How is Isaac Lab's table driven? Many that step together, and one behind the `Simulator` contract.

Runs inside an Isaac Lab environment (docs/isaac.md).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..scene import TABLE, Scene
from .dimensions import CUBE_SIZE, PUSHER_RADIUS
from .isaac_scene import SUBSTEPS
from .isaac_task import TableEnv, TableEnvCfg, start_state


def _touch(state: NDArray[np.float64]) -> bool:
    """Whether the pusher is within a millimetre of the cube, which stands upright."""
    turn = 2 * np.arctan2(state[6], state[3])
    across, along = state[13:15] - state[:2]
    local = np.abs([np.cos(turn) * across + np.sin(turn) * along, np.cos(turn) * along - np.sin(turn) * across])
    gap = np.linalg.norm(np.maximum(local - CUBE_SIZE / 2, 0.0))
    return bool(gap < PUSHER_RADIUS + 1e-3)


def blurred(
    state: NDArray[np.float64], rng: np.random.Generator, position_m: float, angle_rad: float, speed: float = 0.0
) -> NDArray[np.float64]:
    """A state whose cube, its velocity and, when pushing, the pusher are jittered in the plane by Gaussian noise."""
    state = np.array(state)
    state[:2] += rng.normal(0.0, position_m, 2)
    turn = Rotation.from_rotvec([0.0, 0.0, rng.normal(0.0, angle_rad)])
    turned = turn * Rotation.from_quat(np.roll(state[3:7], -1))
    state[3:7] = np.roll(turned.as_quat(), 1)
    if len(state) > 13:  # after the cube's pose and velocity comes the pusher
        state[13:15] += rng.normal(0.0, position_m, 2)
    if speed:
        state[7:9] += rng.normal(0.0, speed, 2)
    return state


class IsaacLabTables:
    """N tables of one kind that step together.

    Isaac Lab knows one simulation in a process: a second object closes the first, which opens again when it is used.

    Args:
        kind: "push" or "slide".
        count: N, one or more.
        image_size: Height and width of the pictures.
        device: "auto", "cpu" or "cuda:0".
        stack: "newton" or "isaac-sim", as of `TableEnvCfg`.
    """

    _open: IsaacLabTables | None = None

    def __init__(
        self,
        kind: str = "push",
        count: int = 1,
        image_size: tuple[int, int] = TABLE.image_size,
        device: str = "auto",
        stack: str = "newton",
    ):
        if count < 1:
            raise ValueError(f"expected one table or more, got {count}")
        self.kind, self.count = kind, count
        self.scene = Scene.from_dict({**TABLE.to_dict(), "image_size": list(image_size)})
        self._cfg = TableEnvCfg(kind=kind, image_size=image_size, stack=stack, seed=0)
        self._cfg.scene.num_envs = count
        if device != "auto":
            self._cfg.sim.device = device
        self._running = contextlib.ExitStack()
        self._env: TableEnv | None = None
        self._kept: NDArray[np.float64] | None = None  # while another one is open

    @property
    def env(self) -> TableEnv:
        """The Isaac Lab environment, opened if it is not."""
        if self._env is None:
            from isaaclab.app import launch_simulation

            if (other := IsaacLabTables._open) is not None:
                other._kept = other.states()
                other.close()
            self._running.enter_context(
                launch_simulation(self._cfg, {"device": self._cfg.sim.device, "visualizer": []})
            )
            with contextlib.redirect_stdout(sys.stderr):
                self._env = TableEnv(self._cfg)
                self._env.reset()
            IsaacLabTables._open = self
            kept, self._kept = self._kept, None
            if kept is not None:
                self.set_states(kept)
        return self._env

    def reset(self, seeds: Sequence[int]) -> None:
        """Start an episode on every table; fewer seeds than tables leave the last ones with the last seed."""
        self.restart(np.stack([start_state(self.kind, seed) for seed in seeds]))

    def restart(self, states: NDArray[np.float64]) -> None:
        """Go back to states (N, S); fewer than tables leave the last ones with the last state."""
        self.set_states(states[np.minimum(np.arange(self.count), len(states) - 1)])

    def perturb(self, rngs: Sequence[np.random.Generator], position_m: float, angle_rad: float) -> None:
        """Jitter the first tables' poses by Gaussian noise, each with a generator of its own."""
        states = self.states()
        for row, rng in enumerate(rngs):
            states[row] = blurred(states[row], rng, position_m, angle_rad)
        self.set_states(states)

    def step(self, actions: NDArray[np.float32]) -> None:
        """Hold planar velocity commands (N, 2) in [-1, 1] for a control step."""
        self.env.advance(torch.from_numpy(np.asarray(actions, np.float32)).to(self.env.device))

    def render(self) -> NDArray[np.uint8]:
        """Pictures (N, H, W, 3)."""
        return self.env.frames.cpu().numpy().copy()

    def states(self) -> NDArray[np.float64]:
        """Complete states, (N, S)."""
        return self.env.states().double().cpu().numpy()

    def observe(self) -> list[dict[str, Any]]:
        """What is true of each table: `cube_position`, `pusher_position`, `cube_pose`, `state`, `contact`."""
        rows = []
        for state in self.states():
            row: dict[str, Any] = {"cube_position": state[:2], "cube_pose": state[:7], "state": state, "contact": False}
            if self.kind == "push":
                row |= {"pusher_position": state[13:15], "contact": _touch(state)}
            rows.append(row)
        return rows

    def set_states(self, states: NDArray[np.float64]) -> None:
        """Restore states of `states`, (N, S)."""
        self.env.set_states(torch.from_numpy(np.asarray(states)))
        self.env.refresh()

    def metadata(self) -> dict[str, Any]:
        """Simulator, physics, renderer and their versions: recorded with every dataset."""
        newton = self._cfg.stack == "newton"
        physics = f"newton {version('newton')}, mujoco-warp {version('mujoco-warp')}" if newton else "physx"
        return {
            "simulator": "isaac-lab",
            "simulator_version": version("isaaclab"),
            "physics": f"{physics}, {SUBSTEPS} steps",
            "renderer": f"newton-warp/{version('warp-lang')}" if newton else "rtx",
            "rays_per_pixel": self._cfg.supersampling**2,
            "shadows": True,
            "device": self._cfg.sim.device.partition(":")[0],
        }

    def close(self) -> None:
        """End the simulation."""
        if self._env is not None:
            self._env.close()
            self._env = None
            self._running.close()
            IsaacLabTables._open = None


class IsaacLabTable:
    """One table behind the `Simulator` contract, as `sims.mujoco.MujocoTable` is.

    Args:
        kind: "push" or "slide".
        image_size: Height and width of the pictures.
        device: "auto", "cpu" or "cuda:0".
    """

    def __init__(self, kind: str = "push", image_size: tuple[int, int] = TABLE.image_size, device: str = "auto"):
        self._tables = IsaacLabTables(kind, 1, image_size, device)
        self.kind, self.scene = kind, self._tables.scene

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """Start an episode with random poses drawn from `seed`.

        Args:
            seed: Any non-negative integer; the same seed gives the same start.
            options: Optional `"cube"` (x, y) and `"pusher"` (x, y) in metres instead of random ones.
        """
        self.set_state(start_state(self.kind, seed, options))

    def step(self, action: NDArray[np.float32]) -> None:
        """Hold the planar velocity command `action` (2,) in [-1, 1] for 0.1 s.

        Raises:
            ValueError: If the action has another shape or is not finite.
        """
        action = np.asarray(action, dtype=np.float32)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"expected a finite action of shape (2,), got {action}")
        self._tables.step(action[None])

    def render(self) -> NDArray[np.uint8]:
        """The oblique camera's picture, (H, W, 3)."""
        return self._tables.render()[0]

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """(x, y) in metres of the cube and, when pushing, of the pusher."""
        (row,) = self._tables.observe()
        return {name: row[f"{name}_position"] for name in self.scene.marker_names if f"{name}_position" in row}

    def get_state(self) -> NDArray[np.float64]:
        """The complete physics state, as of `TableEnv.states`."""
        return self._tables.states()[0]

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Restore a state of `get_state` of the same kind of episode.

        Raises:
            ValueError: If the state has another length.
        """
        state = np.asarray(state, np.float64)
        expected = start_state(self.kind, 0).shape
        if state.shape != expected:
            raise ValueError(
                f"a {self.kind} state of Isaac Lab has shape {expected}, got {state.shape}: was it saved from another "
                "kind or simulator?"
            )
        self._tables.set_states(state[None])

    def perturb(self, rng: np.random.Generator, position_m: float, angle_rad: float, speed: float = 0.0) -> None:
        """Jitter planar poses, and the cube's velocity (m/s), by Gaussian noise: what a perfect eye could not tell."""
        self.set_state(blurred(self.get_state(), rng, position_m, angle_rad, speed))

    def metadata(self) -> dict[str, Any]:
        """See `IsaacLabTables.metadata`."""
        return self._tables.metadata()

    def close(self) -> None:
        """End the simulation."""
        self._tables.close()
