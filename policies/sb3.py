"""How does Stable-Baselines3 train in the dream? In a `VecEnv` over the batched dream: `make_dream_vec_env`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecTransposeImage,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from ..envs.batches import infos_of
from ..envs.dream_vector_env import DreamVectorEnv
from ..executors.local import spawning
from ..scene import Scene

_TOGETHER = ("advance", "close", "reset", "step")
_OF_WRAPPERS: dict[str, Callable[..., Any]] = {  # methods of every `gymnasium.Env`, which a vector environment lacks
    "get_wrapper_attr": getattr,
    "has_wrapper_attr": hasattr,
    "set_wrapper_attr": setattr,
}


class DreamVecEnv(VecEnv):
    """Stable-Baselines3's `VecEnv` over a `DreamVectorEnv`: no processes, no loop over environments.

    All dreams live in one environment, so an attribute has one value for all of them.

    Args:
        env: Made with `autoreset_mode="SameStep"`, which is how Stable-Baselines3 restarts environments.

    Raises:
        ValueError: If `env` has another autoreset mode, or hands out tensors.
    """

    def __init__(self, env: DreamVectorEnv):
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"Stable-Baselines3 restarts environments in the step that ends them: expected a DreamVectorEnv with "
                f"autoreset_mode={AutoresetMode.SAME_STEP.value!r}, got {env.autoreset_mode.value!r}"
            )
        if env.to_torch:
            raise ValueError("Stable-Baselines3 works with arrays: make the DreamVectorEnv with to_torch=False")
        self.env = env
        self._actions: NDArray[np.float32] | None = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata  # for `VecVideoRecorder`, which films at its "render_fps"

    def reset(self) -> Any:
        """Start all dreams anew, with what `seed` and `set_options` asked for; returns their observations."""
        observation, info = self.env.reset(seed=self._seeds, options=_together(self._options))
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = infos_of(info, range(self.num_envs))
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions (B, A) for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Advance every dream by one control step.

        Returns:
            Observations, rewards (B,), dones (B,), and one info per dream. Where a dream ended, the observation and
            `reset_infos` are its successor's, and the info is its own last one, with "terminal_observation".
        """
        if self._actions is None:
            raise RuntimeError("call step_async(actions) before step_wait()")
        actions, self._actions = self._actions, None
        observation, rewards, terminated, truncated, info = self.env.step(actions)
        last, last_info = info.pop("final_obs", None), info.pop("final_info", None)
        infos = infos_of(info, range(self.num_envs))
        dones = terminated | truncated
        ended = np.flatnonzero(dones).tolist()
        for slot, own in zip(ended, infos_of(last_info or {}, ended), strict=True):
            self.reset_infos[slot], infos[slot] = infos[slot], own
            own["terminal_observation"] = last[slot]
        for own, cut in zip(infos, (truncated & ~terminated).tolist(), strict=True):
            own["TimeLimit.truncated"] = cut
        return observation, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Close the environment below."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute as each of the dreams would have it alone.

        Raises:
            AttributeError: If there is none.
        """
        count = len(self._slots(indices))
        if attr_name in ("action_space", "observation_space"):
            return [getattr(self, attr_name)] * count
        return [getattr(self.env, attr_name)] * count

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the environment that all dreams share.

        Raises:
            ValueError: If `indices` are not all of them.
        """
        if len(self._slots(indices)) != self.num_envs:
            raise ValueError(f"all dreams share {attr_name!r}: it can only be set for all {self.num_envs} at once")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method once for each of some dreams; "render" gives their pictures.

        Raises:
            AttributeError: If there is no such method.
            ValueError: If it would step or restart all dreams.
        """
        slots = self._slots(indices)
        if method_name in _TOGETHER:
            raise ValueError(f"{method_name!r} concerns all dreams at once: call it on the VecEnv itself")
        if method_name == "render":
            images = self.get_images()
            return [images[slot] for slot in slots]
        if method_name in _OF_WRAPPERS:  # there are none: the attributes are the environment's own
            method = partial(_OF_WRAPPERS[method_name], self.env)
        else:
            method = getattr(self.env, method_name)
        return [method(*args, **kwargs) for _ in slots]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """False for every dream: there are no wrappers between them and this class."""
        return [False for _ in self._slots(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """A picture of every dream, or None for each without `render_mode="rgb_array"`."""
        return self.env.render() or [None] * self.num_envs

    def _slots(self, indices: VecEnvIndices) -> list[int]:
        return list(self._get_indices(indices))


def make_dream_vec_env(n_envs: int = 64, seed: int | None = None, **env_kwargs: Any) -> VecMonitor:
    """`n_envs` dreams for Stable-Baselines3, with episode returns and lengths logged (`VecMonitor`).

    Args:
        n_envs: Number of dreams.
        seed: Of the first reset: dream i gets `seed + i`.
        env_kwargs: As of `DreamVectorEnv`: `world_model`, `obs_type`, `reward_type`, `reward_fn`, ...
    """
    env = DreamVecEnv(DreamVectorEnv(n_envs, autoreset_mode=AutoresetMode.SAME_STEP, **env_kwargs))
    if seed is not None:
        env.seed(seed)
    return VecMonitor(env)


def make_vec_env(env_id: str, n_envs: int, seed: int | None = None, frame_stack: int = 1, **env_kwargs: Any) -> VecEnv:
    """The dream or the real simulator for Stable-Baselines3, as its policies take it.

    Args:
        env_id: "CosmosDream-v0", all dreams in one batch, or "CosmosReal-v0", each simulator in a process of its own.
        n_envs: How many.
        seed: Of the first reset: environment i gets `seed + i`.
        frame_stack: Latents or pictures that are stacked into one observation.
        env_kwargs: As of the environment; `world_model` must be a name or folder for more than one real simulator.

    Raises:
        ValueError: If there is no such environment, or observations of the kind cannot be stacked.
    """
    env: VecEnv
    if env_id == "CosmosDream-v0":
        env = make_dream_vec_env(n_envs, seed, **env_kwargs)
    elif env_id == "CosmosReal-v0":
        makers: list[Callable[[], gym.Env[Any, Any]]] = [
            partial(gym.make, f"cosmos_isaac_wm:{env_id}", **env_kwargs)
        ] * n_envs
        if n_envs == 1:
            env = VecMonitor(DummyVecEnv(makers))
        else:
            with one_thread_each(), spawning():
                env = VecMonitor(SubprocVecEnv(makers, start_method="spawn"))  # a fork would inherit threads' locks
        if seed is not None:  # SB3 would draw one from NumPy's global generator
            env.seed(seed)
    else:
        raise ValueError(f"unknown environment {env_id!r}; expected 'CosmosDream-v0' or 'CosmosReal-v0'")
    picture = env_kwargs.get("obs_type") == "rgb"
    if frame_stack > 1:
        if not isinstance(env.observation_space, gym.spaces.Box):
            raise ValueError("poses hold velocities and are not stacked; use frame_stack with latents or pictures")
        env = VecFrameStack(env, frame_stack, channels_order="last" if picture else "first")
    return VecTransposeImage(env) if picture else env


def make_original_env(scene: Scene, named: str | None, n_envs: int, seed: int | None = None) -> VecEnv:
    """The environment that a twin was learned from, as it is, for Stable-Baselines3: one after the other.

    Args:
        scene: Of the twin's bundle.
        named: What the user calls it, as of `environment_of`.
        n_envs: How many.
        seed: Of the first reset: environment i gets `seed + i`.

    Raises:
        ValueError: If it is not what was recorded.
    """
    from ..sims.gymnasium_env import environment_of  # imports MuJoCo, which no dream needs

    env = VecMonitor(DummyVecEnv([partial(environment_of, scene, named)] * n_envs))
    if seed is not None:
        env.seed(seed)
    return env


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started inside compute with one thread, as several of them share the cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _together(options: list[dict[str, Any]]) -> dict[str, Any]:
    """The options of all environments as those of the batch.

    Raises:
        ValueError: If not all have the same ones.
    """
    keys = set(options[0])
    if any(set(own) != keys for own in options):
        raise ValueError(f"every dream needs the same options, got {[sorted(own) for own in options]}")
    return {key: np.stack([own[key] for own in options]) for key in keys}
