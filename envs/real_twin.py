"""How is the environment itself stepped that a twin was learned from? Through the bundle's eyes, as the twin is."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from ..borders import ours
from ..rollout import newer_past, no_past
from ..sims.gymnasium_env import GymnasiumEnv, environment_of
from ..spaces import DESIRED
from ..world_model import WorldModel
from ..worlds import Task
from .actions import one_action
from .batches import to_numpy, unbatch
from .spec import InMemory, loaded
from .twin_task import TwinTask


class RealTwinEnv(gym.Env[Any, Any]):
    """The recorded environment; what its agent sees is read from its pictures by tokenizer and heads, as in the twin.

    Rewards and ends are the environment's own.

    Args:
        world_model: A bundle of a foreign environment.
        named: What the user calls the environment, as of `environment_of`.
        obs_type: As of `TwinOptions`.
        device: Of the networks.
        render_mode: None or "rgb_array".

    Attributes:
        source: The environment, as it was recorded.
        task: What reads its pictures.
        past: The last H scaled actions, oldest first, (H, A); 0 before there were any.

    Raises:
        ValueError: If the bundle is of no environment, or this is not it.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (as in the base class)

    @ours
    def __init__(
        self,
        world_model: str | os.PathLike[str] | WorldModel | InMemory,
        *,
        named: str | None = None,
        obs_type: str = "env",
        device: str | torch.device = "auto",
        render_mode: str | None = None,
    ):
        model = loaded(world_model, device)
        self.world_model, self.render_mode = model, render_mode
        told = model.scene.environment
        if told is None:
            raise ValueError(f"the bundle of scene {model.scene.name!r} is of no foreign environment")
        environment_of(model.scene, named).close()  # which must be what was recorded
        rows = model.scene.image_size[0] if told.picture is None else None
        self.source = GymnasiumEnv(named or str(told.id), told.kwargs, rows)
        self.task: Task = TwinTask(model.perception, obs_type=obs_type, real=True)
        self.action_space, self.observation_space = self.task.action_space, self.task.observation_space
        shape = (1, model.dynamics.context_length, *model.perception.latent_shape)
        self._context, self._started = torch.zeros(shape, device=model.device), False
        self.past = no_past(model)
        self.frame = np.zeros((*model.scene.image_size, 3), np.uint8)

    @property
    def context(self) -> Tensor:
        """The latents of the newest K real frames, oldest first, (K, C, h, w); at first all of the first frame."""
        return self._context[0].clone()

    def must_have_started(self) -> None:
        """Raise `ResetNeeded` before the first reset: there is nothing yet to go on from."""
        if not self._started:
            raise ResetNeeded("call reset() before the first step")

    @ours
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode of the environment; its own info.

        Args:
            seed: Of the environment; None goes on with the random numbers so far.
            options: The environment's own.
        """
        super().reset(seed=seed)
        shown = self.source.reset(int(self.np_random.integers(2**31)) if seed is None else seed, options)
        self.frame, self._started = shown.frame, True
        latent = self.world_model.encode(self.frame[None])
        self._context = latent[None].expand(-1, self._context.shape[1], -1, -1, -1).clone()
        self.past = no_past(self.world_model)
        key = torch.zeros(1, dtype=torch.int64, device=latent.device)
        asked = {"goal": shown.observation[DESIRED]} if "goal" in self.task.reset_options else {}
        self.task.start(key == 0, self.task.glimpse(self._context), key, asked)
        return unbatch(to_numpy(self.task.observe(latent)), {})[0], shown.info

    @ours
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act in the environment: what the heads read of it, and its own reward, ends and info.

        Raises:
            ValueError: If the action is none of its space.
        """
        self.must_have_started()
        vector = self.task.check_actions(one_action(action))
        shown = self.source.step(vector[0].cpu().numpy())
        self.frame = shown.frame
        latent = self.world_model.encode(self.frame[None])
        self._context = torch.cat([self._context[:, 1:], latent[None]], dim=1)
        self.past = newer_past(self.past, self.world_model.perception.scale_actions(vector))
        if "goal" in self.task.reset_options:  # which some environments move
            self.task.goals.copy_(torch.as_tensor(np.asarray(shown.observation[DESIRED], np.float32)))
        observation, *_ = self.task.advance(latent, vector)
        seen = unbatch(to_numpy(observation), {})[0]
        return seen, shown.reward, shown.terminated, shown.truncated, shown.info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The newest picture as it is recorded, uint8 (H, W, 3); None without a render mode."""
        return None if self.render_mode is None else self.frame

    def close(self) -> None:
        """Free what the environment draws with."""
        self.source.close()
