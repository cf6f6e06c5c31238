"""How does an agent drive a simulator that only draws? From goal to goal, through a bundle's eyes, a little noisily."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..envs.batches import to_numpy
from ..envs.tasks import new_task
from ..world_model import WorldModel
from ..worlds import Observation, Task
from .agent import Agent

ACTION_NOISE = 0.2  # standard deviation of what is added to an agent's actions


class AgentDriver:
    """An agent that goes from goal to goal, a little noisily; it sees pictures, through a bundle's eyes.

    Args:
        world_model: The bundle.
        agent: The agent.
        frame: The first picture, uint8 (H, W, 3).
        seed: Of goals and noise.

    Raises:
        ValueError: If the agent wants other observations or several at once, or the bundle pictures of another size.
    """

    def __init__(self, world_model: WorldModel, agent: Agent, frame: NDArray[np.uint8], seed: int):
        if agent.frame_stack > 1:
            raise ValueError("an agent of stacked observations cannot collect; train one with frame_stack 1")
        if frame.shape[:2] != world_model.scene.image_size:
            raise ValueError(
                f"the bundle sees pictures of {world_model.scene.image_size} pixels, not {frame.shape[:2]}; "
                f"collect with --size {world_model.scene.image_size[0]}"
            )
        self._model, self._agent, self._rng = world_model, agent, np.random.default_rng(seed)
        self._task: Task = new_task(world_model.perception, **agent.task_kwargs)
        agent.check(self._task, world_model.fingerprint())
        self._latent = self._seen(frame)
        self._observation = self._begin()

    def act(self) -> NDArray[np.float32]:
        """What to do now, (A,)."""
        action, _ = self._agent.predict(to_numpy(self._observation))
        noisy = action[0] + self._rng.normal(0, ACTION_NOISE, action[0].shape)
        scene = self._model.scene
        return np.clip(noisy, scene.action_low, scene.action_high).astype(np.float32)

    def see(self, frame: NDArray[np.uint8], action: NDArray[np.float32]) -> None:
        """The picture (H, W, 3) that an action (A,) led to; at its goal the agent gets another one."""
        self._latent = self._seen(frame)
        self._observation = self._task.advance(self._latent, torch.from_numpy(action[None]).to(self._latent.device))[0]
        if bool(self._task.info()["is_success"][0]):
            self._observation = self._begin()

    def _begin(self) -> Observation:
        every = torch.ones(1, dtype=torch.bool, device=self._latent.device)
        key = torch.from_numpy(self._rng.integers(2**62, size=1)).to(self._latent.device)
        self._task.start(every, self._task.glimpse(self._latent.unsqueeze(1)), key)
        return self._task.observe(self._latent)

    def _seen(self, frame: NDArray[np.uint8]) -> Tensor:
        return self._model.encode(frame[None])
