"""How do rsl_rl, skrl and Isaac Lab's other wrappers train in the dream? In an Isaac Lab environment of dreams.

Runs inside an Isaac Lab environment (docs/isaac.md), but starts no simulation.

    env = RslRlVecEnvWrapper(DreamRLEnv(num_envs=64, reward_type="progress"), clip_actions=1.0)
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

try:
    from isaaclab.envs import DirectRLEnv
except ImportError as error:
    raise ImportError(f"DreamRLEnv runs inside an Isaac Lab environment, see docs/isaac.md ({error})") from error

from ..envs.dream_vector_env import DreamVectorEnv
from .extractors import PoseExtractor


class DreamRLEnv(DirectRLEnv):
    """A batch of dreams with Isaac Lab's interface: tensors on the model's device, observations under "policy".

    Poses are handed out as `PoseExtractor` makes them, relative and of order one; latents and pictures as they are.
    Actions beyond the bounds are clipped, as Isaac Lab's tasks do.

    Args:
        num_envs: Number of dreams, N.
        dream: Further arguments of `DreamVectorEnv`: `world_model`, `obs_type`, `reward_type`, `goal`, ...

    Attributes:
        dream: The `DreamVectorEnv`.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": [None],
        "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP,
    }

    def __init__(self, num_envs: int = 64, **dream: Any):
        self._is_closed = True  # what DirectRLEnv would close: there is no simulation
        self.dream = DreamVectorEnv(num_envs, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP, to_torch=True, **dream)
        scene = self.dream.world_model.scene
        self.render_mode = None
        self.cfg = SimpleNamespace(
            is_finite_horizon=False,
            decimation=1,
            episode_length_s=self.dream.task.max_episode_steps / scene.control_hz,
            seed=None,
            sim=SimpleNamespace(device=str(self.device), dt=1 / scene.control_hz),
            scene=SimpleNamespace(num_envs=num_envs),
        )
        self.extras: dict[str, Any] = {}
        self.obs_buf: dict[str, Tensor] = {}
        single: Any = self.dream.single_observation_space
        self._features = PoseExtractor(single) if self.dream.task.obs_type == "pose" else None
        if self._features is not None:
            self._features.to(self.device)
            single = gym.spaces.Box(-np.inf, np.inf, (self._features.features_dim,), np.float32)
        self.single_observation_space = gym.spaces.Dict({"policy": single})
        self.observation_space = batch_space(single, num_envs)
        self.single_action_space = self.dream.single_action_space
        self.action_space = self.dream.action_space
        self.state_space = None
        self._low, self._high = (
            torch.from_numpy(bound).to(self.device)
            for bound in (self.single_action_space.low, self.single_action_space.high)  # type: ignore[attr-defined]
        )

    @property
    def num_envs(self) -> int:
        """Number of dreams."""
        return self.dream.num_envs

    @property
    def device(self) -> torch.device:
        """Where the dreams and their tensors are."""
        return self.dream.world_model.device

    @property
    def physics_dt(self) -> float:
        """Seconds of a step."""
        return float(self.cfg.sim.dt)

    @property
    def step_dt(self) -> float:
        """Seconds of a step."""
        return self.physics_dt

    @property
    def max_episode_length(self) -> int:
        """Time limit in steps."""
        return self.dream.task.max_episode_steps

    @property
    def episode_length_buf(self) -> Tensor:
        """Steps since the start of each episode, (N,)."""
        return self.dream.task.steps

    @episode_length_buf.setter
    def episode_length_buf(self, steps: Tensor) -> None:
        self.dream.task.steps.copy_(steps)

    def seed(self, seed: int | None = -1) -> int:  # type: ignore[override]
        """Seed of the next `reset`; none for None or -1."""
        self.cfg.seed = None if seed is None or seed < 0 else seed
        return -1 if self.cfg.seed is None else self.cfg.seed

    def render(self, recompute: bool = False) -> None:
        """Nothing; `dream.render()` draws dreams that were made with `render_mode="rgb_array"`."""

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Start all dreams anew; options as of `DreamVectorEnv.reset`."""
        if seed is None:
            seed, self.cfg.seed = self.cfg.seed, None
        observation, _ = self.dream.reset(seed=seed, options=options)
        self.obs_buf, self.extras = self._policy(observation), {}
        return self.obs_buf, self.extras

    def step(self, action: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance all dreams under actions (N, A)."""
        observation, rewards, terminated, truncated, info = self.dream.step(action.clamp(self._low, self._high))
        self.obs_buf, self.extras = self._policy(observation), {}
        ended = terminated | truncated
        if bool(ended.any()):
            self.extras["final_obs"] = self._policy(info["final_obs"])
            if "is_success" in info["final_info"]:
                self.extras["log"] = {"/success": info["final_info"]["is_success"][ended].float().mean()}
        return self.obs_buf, rewards.float(), terminated, truncated, self.extras

    def close(self) -> None:
        """Free the dreams."""
        self.dream.close()

    def _policy(self, observation: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"policy": observation if self._features is None else self._features(observation)}
