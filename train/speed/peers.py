"""How fast is the same dream inside other libraries' environments for learned models?

None of them is a dependency; what is not installed is left out. Each is driven as its documentation shows, with the
same network and readout, and hands out what our environments do: poses, distance rewards, ends.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from cosmos_isaac_wm.dynamics.network import history_of
from cosmos_isaac_wm.world_model import WorldModel

PEERS = {"simulusion": "simulusion", "mbrl": "mbrl", "torchrl": "torchrl"}  # module: what pip installs
GOAL = (0.1, 0.1)


class Dream:
    """One step of the dream and what is read from it, for B dreams of any library.

    Args:
        model: The bundle.
    """

    def __init__(self, model: WorldModel):
        self.model = model
        self.device = model.device
        self.goal = torch.tensor(GOAL, device=model.device)

    def start(self, batch: int) -> Tensor:
        """A stored context for each, (B, K, C, h, w)."""
        return self.model.contexts.latents[:1].float().to(self.device).expand(batch, -1, -1, -1, -1).clone()

    @torch.inference_mode()
    def advance(self, context: Tensor, actions: Tensor) -> Tensor:
        """The next context."""
        scaled = self.model.perception.scale_actions(actions)
        latent = self.model.dynamics(context, scaled.repeat(1, history_of(self.model.dynamics) + 1)).latent
        return torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)

    @torch.inference_mode()
    def pose(self, context: Tensor) -> Tensor:
        """Positions in the newest latents, (B, 2 N)."""
        return self.model.locate(context[:, -1]).positions.flatten(1)

    def reward(self, pose: Tensor) -> Tensor:
        """Minus the distance between object and goal, (B,)."""
        return -(pose[:, :2] - self.goal).norm(dim=1)

    def space(self) -> gym.spaces.Box:
        """Of poses."""
        return gym.spaces.Box(-10.0, 10.0, (2 * len(self.model.scene.markers),), np.float32)

    def actions(self) -> gym.spaces.Box:
        """Of actions."""
        scene = self.model.scene
        return gym.spaces.Box(np.array(scene.action_low, np.float32), np.array(scene.action_high, np.float32))


def simulusion(dream: Dream, batch: int, actions: np.ndarray[Any, Any]) -> Callable[[], Any]:
    """Simulusion's `WorldModelEnv`, one per dream, in Stable-Baselines3's `DummyVecEnv`."""
    from simulusion.envs.world_model_env import WorldModelEnv

    def reset() -> dict[str, Any]:
        context = dream.start(1)
        return {"state": context, "observation": dream.pose(context)[0]}

    def advance(context: Tensor, action: Tensor) -> dict[str, Any]:
        context = dream.advance(context, action[None])
        pose = dream.pose(context)
        return {"state": context, "observation": pose[0], "reward": dream.reward(pose), "terminated": False}

    def make() -> gym.Env[Any, Any]:
        env: gym.Env[Any, Any] = WorldModelEnv(
            dream.model,
            dream.space(),
            dream.actions(),
            reset_fn=lambda model: reset(),
            transition_fn=lambda model, state, action: advance(state, action),
            max_episode_steps=dream.model.scene.episode_steps,
            device=dream.device,
        )
        return env

    envs = DummyVecEnv([make] * batch)
    envs.reset()
    return lambda: envs.step(actions)


def mbrl(dream: Dream, batch: int, actions: np.ndarray[Any, Any]) -> Callable[[], Any]:
    """mbrl-lib's `ModelEnv`, which steps a batch; it has no time limit and no restarts."""
    from mbrl.models import ModelEnv

    def sample(actions: Tensor, state: dict[str, Tensor], **_: Any) -> tuple[Tensor, Tensor, None, dict[str, Tensor]]:
        context = dream.advance(state["context"], actions)
        pose = dream.pose(context)
        return pose, dream.reward(pose), None, {"context": context}

    network = SimpleNamespace(
        device=dream.device, reset=lambda poses, rng: {"context": dream.start(len(poses))}, sample=sample
    )
    env = ModelEnv(
        SimpleNamespace(observation_space=dream.space(), action_space=dream.actions()),
        network,
        termination_fn=lambda actions, poses: (poses[:, :2] - dream.goal).norm(dim=1, keepdim=True) < 0.04,
    )
    state = env.reset(np.zeros((batch, dream.space().shape[0]), np.float32))

    def step() -> None:
        nonlocal state
        state = env.step(actions, state)[-1]

    return step


def torchrl(dream: Dream, batch: int, actions: np.ndarray[Any, Any]) -> Callable[[], Any]:
    """TorchRL's `ModelBasedEnvBase`, which steps a batch of tensors; it has no time limit and no restarts."""
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.data import Composite, Unbounded
    from torchrl.envs import ModelBasedEnvBase

    shape = dream.start(1).shape[1:]

    def predict(context: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        context = dream.advance(context, action)
        pose = dream.pose(context)
        return context, pose, dream.reward(pose).unsqueeze(1)

    class Env(ModelBasedEnvBase):  # type: ignore[misc]
        def __init__(self) -> None:
            network = TensorDictModule(predict, in_keys=["context", "action"], out_keys=["context", "pose", "reward"])
            super().__init__(network, device=dream.device, batch_size=torch.Size([batch]))
            context = Unbounded((batch, *shape), device=dream.device)
            pose = Unbounded((batch, *dream.space().shape), device=dream.device)
            self.observation_spec = Composite(context=context, pose=pose, shape=(batch,), device=dream.device)
            self.state_spec = Composite(context=context.clone(), shape=(batch,), device=dream.device)
            self.action_spec = Unbounded((batch, actions.shape[1]), device=dream.device)
            self.reward_spec = Unbounded((batch, 1), device=dream.device)

        def _reset(self, tensordict: Any, **kwargs: Any) -> Any:
            context = dream.start(batch)
            return TensorDict({"context": context, "pose": dream.pose(context)}, [batch], device=dream.device)

    env = Env()
    data = env.reset()
    given = torch.from_numpy(actions).to(dream.device)

    def step() -> None:
        nonlocal data
        data["action"] = given
        data = env.step_and_maybe_reset(data)[1]

    return step


def installed(model: WorldModel, batch: int, actions: np.ndarray[Any, Any]) -> dict[str, Callable[[], Any]]:
    """A step of `batch` dreams in each library that is there; prints how to install the others.

    Args:
        model: The bundle.
        batch: B.
        actions: (B, A).
    """
    dream, calls = Dream(model), {}
    builders = {"simulusion": simulusion, "mbrl": mbrl, "torchrl": torchrl}
    for module, package in PEERS.items():
        if find_spec(module) is None:
            print(f"{module} is not here and was not measured: pip install {package}")
            continue
        try:
            calls[module] = builders[module](dream, batch, actions)
        except Exception as error:  # theirs, whatever it is: it must not cost us our own figures
            print(f"{module} was not measured: {type(error).__name__}: {error}")
    return calls
