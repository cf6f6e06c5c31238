"""What trains an agent? Stable-Baselines3's algorithm, with the policy that fits the kind of observation."""

from __future__ import annotations

from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, Logger, make_output_format
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from ..telemetry import track
from .agent import ALGORITHMS, sb3_policy_kwargs


def new_learner(
    algorithm: str,
    env: VecEnv,
    obs_type: str,
    policy_kwargs: dict[str, Any],
    hyperparameters: dict[str, Any],
    device: str,
    seed: int,
) -> BaseAlgorithm:
    """An untrained learner.

    Args:
        algorithm: A key of `ALGORITHMS`; "sac_her" is SAC with hindsight experience replay.
        env: What it will be trained in.
        obs_type: Kind of observation of that environment.
        policy_kwargs: Plain arguments of the policy, like `net_arch`.
        hyperparameters: Of Stable-Baselines3's algorithm.
        device: Of the policy.
        seed: Of weights and exploration.

    Raises:
        ValueError: If the algorithm does not know one of the arguments.
    """
    more: dict[str, Any] = {"replay_buffer_class": HerReplayBuffer} if algorithm == "sac_her" else {}
    name, kwargs = policy_of(obs_type, policy_kwargs, env.observation_space)
    try:
        return ALGORITHMS[algorithm](
            name, env, policy_kwargs=sb3_policy_kwargs(kwargs), device=device, seed=seed, **more, **hyperparameters
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(f"Stable-Baselines3's {algorithm} refuses these hyperparameters: {error}") from error


def policy_of(obs_type: str, policy_kwargs: dict[str, Any], space: gym.Space[Any]) -> tuple[str, dict[str, Any]]:
    """Stable-Baselines3's policy for a kind of observation, which is in a space, and its arguments."""
    if obs_type == "env":
        if isinstance(space, gym.spaces.Dict):
            return "MultiInputPolicy", policy_kwargs
        return "CnnPolicy" if is_image_space(space) else "MlpPolicy", policy_kwargs
    if obs_type == "pose":
        return "MultiInputPolicy", {"extractor": "pose", **policy_kwargs}
    if obs_type == "rgb":
        return "CnnPolicy", policy_kwargs
    return "MlpPolicy", {"extractor": "latent", **policy_kwargs}


def new_logger(out: Path, done: int) -> Logger:
    """Stable-Baselines3's logger into a folder, for TensorBoard too if that is installed.

    Args:
        out: The folder.
        done: Steps that an interrupted run had done.
    """
    formats = ["csv", *(["tensorboard"] if find_spec("tensorboard") else [])]
    suffix = f"_from_{done}" if done else ""  # Stable-Baselines3 begins such files anew
    return Logger(str(out), [*(make_output_format(name, str(out), suffix) for name in formats), _Tracked()])


class _Tracked(KVWriter):
    """Hands numbers on to whoever tracks them."""

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        track({key: float(value) for key, value in key_values.items() if isinstance(value, Real)}, step)

    def close(self) -> None:
        """Nothing of its own is open."""
