"""How does Isaac Lab step the table? As a task of its own: pictures in, planar velocities out, N tables at once.

Runs inside an Isaac Lab environment (docs/isaac.md). Isaac Lab's quaternions are (x, y, z, w), ours (w, x, y, z); they
are converted in `TableEnv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..scene import KINDS, TABLE
from . import dimensions
from .isaac_scene import STACKS, SUBSTEPS, TableSceneCfg, WarpRendererCfg, furnish, newton  # says so without Isaac Lab
from .starts import draw_start

from isaaclab.envs import DirectRLEnv, DirectRLEnvCfg  # isort: skip
from isaaclab.sim import SimulationCfg  # isort: skip
from isaaclab.utils import configclass  # isort: skip


@configclass
class TableEnvCfg(DirectRLEnvCfg):
    """Configuration of `TableEnv`; the scene follows from the first four."""

    kind: str = "push"
    """Kind of episode: "push" or "slide"."""
    image_size: tuple[int, int] = TABLE.image_size
    """Height and width of the pictures."""
    supersampling: int = 2
    """Rows and columns of rays in a pixel, which are averaged. With one ray the Warp renderer's edges are jagged and
    tell less of where an object is. RTX smooths edges itself: 1 with "isaac-sim", whatever is said here."""
    stack: str = "newton"
    """"newton": Newton physics and the Warp renderer. "isaac-sim": PhysX and RTX, which nobody has run yet."""
    goal: tuple[float, float] = (0.15, 0.15)
    """Where the cube shall go, (x, y) in metres; pictures do not show it."""
    decimation: int = SUBSTEPS
    episode_length_s: float = TABLE.episode_steps / TABLE.control_hz
    action_space: Any = gym.spaces.Box(-1.0, 1.0, (TABLE.action_dim,), np.float32)
    observation_space: Any = None
    state_space: Any = 0
    sim: SimulationCfg = SimulationCfg(dt=1 / (TABLE.control_hz * SUBSTEPS), render_interval=SUBSTEPS)
    scene: TableSceneCfg = TableSceneCfg()

    def __post_init__(self) -> None:
        """Build the scene.

        Raises:
            ValueError: If the kind or the stack is unknown, or there are no rays.
        """
        for name, value, known in (("kind", self.kind, KINDS), ("stack", self.stack, STACKS)):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; expected one of {known}")
        if self.supersampling < 1:
            raise ValueError(f"expected supersampling of one ray or more, got {self.supersampling}")
        if self.stack == "isaac-sim":
            self.supersampling = 1
        camera = furnish(self.scene, self.kind, self.image_size, self.supersampling)
        self.observation_space = gym.spaces.Box(0, 255, (*self.image_size, 3), np.uint8)
        self.sim.device = "cuda:0" if torch.cuda.is_available() else "cpu"
        if self.stack == "newton":
            self.sim.physics, camera.renderer_cfg = newton(), WarpRendererCfg(enable_shadows=True)
        else:
            from isaaclab_physx.physics import PhysxCfg
            from isaaclab_physx.renderers import IsaacRtxRendererCfg

            self.sim.physics, camera.renderer_cfg, self.scene.env_spacing = PhysxCfg(), IsaacRtxRendererCfg(), 4.0


def start_state(kind: str, seed: int, options: dict[str, Any] | None = None) -> NDArray[np.float64]:
    """A random start as a state of `TableEnv.states`; see `draw_start`."""
    start = draw_start(kind, seed, options)
    state = [*start.cube_pose, *start.velocity, 0.0, 0.0, 0.0, start.spin]
    return np.array(state if start.pusher is None else [*state, *start.pusher, 0.0, 0.0])


class TableEnv(DirectRLEnv):
    """Cube and pusher on walled tables, N at once: pictures in, planar velocities out.

    Observations are `{"policy": uint8 (N, H, W, 3)}`; the reward is minus the distance of the cube from the goal, as a
    share of the table's diagonal, and an episode ends with the cube at the goal or after its time.
    """

    cfg: TableEnvCfg

    def __init__(self, cfg: TableEnvCfg, render_mode: str | None = None, **kwargs: Any):
        camera, side = cfg.scene.camera, cfg.supersampling
        built = None if camera is None else (camera.height, camera.width)
        if (cfg.scene.pusher is None) != (cfg.kind == "slide") or built != tuple(side * n for n in cfg.image_size):
            raise ValueError(
                "kind, image_size, supersampling and stack make the scene, so say them when the configuration is made, "
                "as in TableEnvCfg(kind='slide'), and do not change them afterwards"
            )
        super().__init__(cfg, render_mode, **kwargs)
        self.cube, self.camera = self.scene["cube"], self.scene["camera"]
        self.pusher = self.scene["pusher"] if cfg.kind == "push" else None
        self._goal = torch.tensor(cfg.goal, device=self.device)
        self._target = torch.zeros(self.num_envs, TABLE.action_dim, device=self.device)
        self._rng = np.random.default_rng(cfg.seed)

    @property
    def frames(self) -> Tensor:
        """Pictures of the current state, uint8 (N, H, W, 3)."""
        drawn, side = self.camera.data.output["rgb"].torch[..., :3], self.cfg.supersampling
        if side == 1:
            return drawn
        return drawn.unflatten(2, (-1, side)).unflatten(1, (-1, side)).float().mean(dim=(2, 4)).round_().byte()

    def states(self) -> Tensor:
        """Complete states (N, S): the cube's position, quaternion (w, x, y, z) and velocities, linear and angular.

        In a push also the pusher's (x, y) and velocity. Metres and seconds, about each table's middle.
        """
        data = self.cube.data
        place = data.root_pos_w.torch - self.scene.env_origins
        quaternion = data.root_quat_w.torch.roll(1, dims=-1)
        parts = [place, quaternion, data.root_lin_vel_w.torch, data.root_ang_vel_w.torch]
        if self.pusher is not None:
            parts += [self.pusher.data.joint_pos.torch, self.pusher.data.joint_vel.torch]
        return torch.cat(parts, dim=-1)

    def set_states(self, states: Tensor, env_ids: Tensor | None = None) -> None:
        """Restore states (n, S) of `states` in some tables, all when None."""
        ids = torch.arange(self.num_envs, device=self.device, dtype=torch.int32) if env_ids is None else env_ids
        states = states.to(self.device, torch.float32)
        pose = torch.cat([states[:, :3] + self.scene.env_origins[ids.long()], states[:, 3:7].roll(-1, dims=-1)], dim=-1)
        self.cube.write_root_link_pose_to_sim_index(root_pose=pose, env_ids=ids)
        self.cube.write_root_com_velocity_to_sim_index(root_velocity=states[:, 7:13].contiguous(), env_ids=ids)
        if self.pusher is not None:
            self.pusher.write_joint_position_to_sim_index(position=states[:, 13:15].contiguous(), env_ids=ids)
            self.pusher.write_joint_velocity_to_sim_index(velocity=states[:, 15:17].contiguous(), env_ids=ids)

    def refresh(self) -> None:
        """Bring what is drawn up to date with states that were set."""
        self.scene.write_data_to_sim()
        self.sim.forward()
        self.scene.update(dt=self.physics_dt)
        self.camera.update(0.0, force_recompute=True)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode on every table; the same seed starts the same ones."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        return super().reset(seed=seed, options=options)

    def advance(self, actions: Tensor) -> None:
        """One control step of all tables under actions (N, 2), without rewards, ends and new beginnings."""
        self.set_states(self.states())  # the solver forgets where it was: a restored state goes on exactly as it did
        self._pre_physics_step(actions)
        at_once = self.cfg.decimation if self._physics_handles_decimation else 1
        for _ in range(self.cfg.decimation // at_once):
            self._apply_action()
            self.scene.write_data_to_sim()
            self.sim.step(render=False)
            self.scene.update(dt=self.physics_dt * at_once)

    def _pre_physics_step(self, actions: Tensor) -> None:
        self._target = dimensions.PUSHER_SPEED * actions.clamp(-1.0, 1.0)

    def _apply_action(self) -> None:
        if self.pusher is not None:
            self.pusher.actuators.target_command.set_velocity_index(value=self._target)

    def _get_observations(self) -> dict[str, Tensor]:
        return {"policy": self.frames.clone()}  # the renderer draws the next picture into the same memory

    def _distance(self) -> Tensor:
        return (self.states()[:, :2] - self._goal).norm(dim=-1)

    def _get_rewards(self) -> Tensor:
        return -self._distance() / (2 * dimensions.TABLE_HALF_WIDTH * 2**0.5)

    def _get_dones(self) -> tuple[Tensor, Tensor]:
        return self._distance() < TABLE.goal_radius, self.episode_length_buf >= self.max_episode_length

    def _reset_idx(self, env_ids: Sequence[int]) -> None:
        super()._reset_idx(env_ids)
        starts = [start_state(self.cfg.kind, int(self._rng.integers(2**31))) for _ in range(len(env_ids))]
        self.set_states(torch.tensor(np.array(starts)), torch.as_tensor(env_ids, device=self.device, dtype=torch.int32))
