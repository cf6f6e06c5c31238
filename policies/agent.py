"""How is a trained agent stored? A Stable-Baselines3 policy, its spaces and its training; nothing is unpickled."""

from __future__ import annotations

import itertools
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
from minari.serialization import serialize_space
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from .. import __version__
from ..borders import ours, own_draws
from ..perception import BundleError
from ..spaces import read_space
from ..storage.atomic import replacing, replacing_folder, write
from ..storage.bundle import find_bundle, part, seal
from ..storage.paths import user_path
from ..storage.structured import as_yaml, one_line, read
from ..storage.weights import fingerprint
from .extractors import LatentExtractor, PoseExtractor

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC, "td3": TD3, "sac_her": SAC}
_EXTRACTORS = {"pose": PoseExtractor, "latent": LatentExtractor}
_FILES = ("agent.yaml", "policy.safetensors")


class AgentError(ValueError):
    """An agent's files are missing, damaged, or made for another environment."""


@dataclass
class Agent:
    """A policy that was trained, with all that is needed to use it again.

    Attributes:
        policy: The Stable-Baselines3 policy.
        algorithm: A key of `ALGORITHMS`.
        policy_name: Stable-Baselines3's name of the policy class: "MultiInputPolicy", "MlpPolicy" or "CnnPolicy".
        policy_kwargs: Plain arguments of that class, like `net_arch`; "extractor" names a feature extractor of ours.
        env_kwargs: What the environment was made with: `obs_type`, `reward_type`, ...
        frame_stack: Observations that are stacked for the policy, 1 for none.
        trained: How it was trained: "env", "world_model" (fingerprint), "budget" and "steps" so far (environment
            steps), "seed", and whether it is the "best" of the evaluations or a "checkpoint" ("chosen").
        path: Folder that it was read from, or None.
    """

    policy: BasePolicy
    algorithm: str
    policy_name: str
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    frame_stack: int = 1
    trained: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def task_kwargs(self) -> dict[str, Any]:
        """The part of `env_kwargs` that it must find again wherever it acts; how it was paid matters no more."""
        return {key: self.env_kwargs[key] for key in ("obs_type", "goal") if key in self.env_kwargs}

    @ours
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch, as Stable-Baselines3's `predict`; without exploration by default."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    def fingerprint(self) -> str:
        """A hash of all weights."""
        return fingerprint(self.policy)

    def check(self, env: gym.Env[Any, Any] | Any, world_model: str | None = None) -> None:
        """Say so if the agent does not belong to an environment.

        Args:
            env: Anything with `observation_space` and `action_space` of one environment, already stacked.
            world_model: Fingerprint of its bundle; another one than in training is only warned of.

        Raises:
            AgentError: If the spaces are others; says which.
        """
        for name in ("observation_space", "action_space"):
            own, given = getattr(self.policy, name), getattr(env, name)
            if own != given:
                raise AgentError(
                    f"the agent was trained for the {name.replace('_', ' ')} {own}, this environment has {given}; "
                    f"make the environment with {self.env_kwargs}"
                )
        learned = self.trained.get("world_model")
        if world_model is not None and learned not in (None, world_model):
            warnings.warn(
                f"the agent was trained with world model {learned}, this one is {world_model}: what it sees may mean "
                "something else",
                UserWarning,
                stacklevel=2,
            )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `policy.safetensors` and `agent.yaml` into a folder."""
        folder = user_path(folder)
        described = {
            "algorithm": self.algorithm,
            "policy": self.policy_name,
            "policy_kwargs": self.policy_kwargs,
            "env_kwargs": self.env_kwargs,
            "frame_stack": self.frame_stack,
            "trained": self.trained | {"version": __version__},
            "observation_space": serialize_space(self.policy.observation_space),
            "action_space": serialize_space(self.policy.action_space),
        }
        with replacing_folder(folder, keep=True) as temporary:
            with replacing(temporary / _FILES[1]) as file:
                save_model(self.policy, str(file))  # parts of a policy share their feature extractor
            write(temporary / _FILES[0], as_yaml(described))
            seal(temporary, _FILES)
        return folder

    @classmethod
    @ours
    def load(cls, name: str | os.PathLike[str] = "default") -> Agent:
        """Read an agent: a folder of `save`, or one that holds it as `agent`, such as that of a run or of a bundle.

        Bundles go by their shipped names, too.

        Raises:
            AgentError: If there is none, or it is damaged.
        """
        folder = user_path(name)
        if not folder.is_dir():
            try:
                folder = find_bundle(name)
            except BundleError as error:
                raise AgentError(f"no agent {str(name)!r}: no such folder, and {error}") from error
        if (folder / "agent").is_dir() and not (folder / _FILES[0]).is_file():
            folder = folder / "agent"
        if missing := [file for file in _FILES if not (folder / file).exists()]:
            raise AgentError(f"no agent {str(name)!r}: {folder} has no {' and no '.join(missing)}")
        try:
            path = folder / _FILES[0]
            described = read(path, _Described, AgentError, part(folder, _FILES[0]))
            _must_be_of_size(described.policy_kwargs, len(part(folder, _FILES[1])))
            spaces = (read_space(described.observation_space), read_space(described.action_space))
            with own_draws():
                policy = new_policy(described.algorithm, described.policy, described.policy_kwargs, *spaces).float()
            load_model(policy, folder / _FILES[1])
            if not all(weight.isfinite().all() for weight in policy.parameters()):
                raise ValueError(f"{_FILES[1]} holds NaN or infinite weights")
        except Exception as error:
            raise AgentError(
                f"{folder} is damaged or of another version ({one_line(error)}); train it again"
            ) from error
        policy.set_training_mode(False)
        return cls(
            policy,
            described.algorithm,
            described.policy,
            described.policy_kwargs,
            described.env_kwargs,
            described.frame_stack,
            described.trained,
            folder,
        )


@dataclass
class _Described:
    """What agent.yaml holds; spaces as Minari writes them."""

    algorithm: str
    policy: str
    observation_space: str
    action_space: str
    policy_kwargs: dict[str, Any]
    env_kwargs: dict[str, Any]
    frame_stack: int
    trained: dict[str, Any]


def _must_be_of_size(policy_kwargs: dict[str, Any], held: int) -> None:
    """Refuse layers that the file of the weights cannot fill, before memory is asked for.

    Raises:
        ValueError: If there are more than `held` bytes have room for.
    """
    pending: list[Any] = [policy_kwargs]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
            widths = [width for width in value if isinstance(width, int)]
            weights = sum(one * other for one, other in itertools.pairwise(widths)) + sum(widths)
            if weights > held or len(value) > held:
                raise ValueError(f"its layers have more weights than {_FILES[1]}, {weights:,} and more")


def new_policy(
    algorithm: str, policy: str, policy_kwargs: dict[str, Any], observation: gym.Space[Any], action: gym.Space[Any]
) -> BasePolicy:
    """An untrained policy of an algorithm.

    Raises:
        AgentError: If there is no such algorithm or policy.
    """
    if algorithm not in ALGORITHMS:
        raise AgentError(f"unknown algorithm {algorithm!r}; expected one of {sorted(ALGORITHMS)}")
    classes = ALGORITHMS[algorithm].policy_aliases
    if policy not in classes:
        raise AgentError(f"unknown policy {policy!r}; {algorithm} has {sorted(classes)}")
    made = classes[policy](observation, action, lambda _: 0.0, **sb3_policy_kwargs(policy_kwargs))  # type: ignore[call-arg]
    return made


def sb3_policy_kwargs(plain: dict[str, Any]) -> dict[str, Any]:
    """Policy arguments for Stable-Baselines3 from those of a YAML file: "extractor" is a name there.

    Raises:
        AgentError: If there is no such extractor.
    """
    kwargs = dict(plain)
    name = kwargs.pop("extractor", None)
    if name is None:
        return kwargs
    if name not in _EXTRACTORS:
        raise AgentError(f"unknown extractor {name!r}; expected one of {sorted(_EXTRACTORS)}")
    return kwargs | {"features_extractor_class": _EXTRACTORS[name]}
