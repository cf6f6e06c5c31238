"""How is an episode of any Gymnasium environment recorded? With all that it shows, under a policy of any origin."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..data.collection import Job
from ..data.episodes import Episode
from ..sims.gymnasium_env import GymnasiumEnv, Shown
from ..spaces import action_vectors, stacked
from .agent import Agent
from .named import Predict, is_import, new_named

POLICIES = ("random", "smooth")
_HOLDS = (1, 2, 4, 8, 16)  # most steps that an action lasts; another one in every episode
_WHOLE = 0.25  # of smooth actions go to an end of their range, where much is to be seen


@functools.lru_cache(maxsize=1)  # what draws stays open
def environment(env_id: str, env_kwargs: str, rows: int | None) -> GymnasiumEnv:
    """An environment, made once per process; its arguments as JSON."""
    return GymnasiumEnv(env_id, json.loads(env_kwargs), rows)


def check_environment(env_id: str, env_kwargs: str, rows: int | None, expected: Mapping[str, Any]) -> None:
    """Make the environment, here, and see that it is the same as everywhere else.

    Args:
        env_id: As of `GymnasiumEnv`, and so are the next two.
        env_kwargs: As JSON.
        rows: See there.
        expected: What a dataset says of it: `GymnasiumEnv.metadata`.

    Raises:
        ValueError: If it cannot be made, or versions are others.
    """
    own = environment(env_id, env_kwargs, rows).metadata()
    if differing := [key for key, value in expected.items() if own.get(key) != value]:
        told = ", ".join(f"{key} {own.get(key)} instead of {expected[key]}" for key in differing)
        raise ValueError(f"episodes from here would be others ({told})")


class Smooth:
    """Actions that last: each dimension glides to a new value and is held there, for a while.

    White noise averages out before anything has moved far; what lasts reaches more of an environment. How long it lasts
    at most is another in every episode: one step, which is white noise, to sixteen.

    Args:
        space: Of actions: a bounded Box, or Discrete.
        seed: Of the draws.
    """

    def __init__(self, space: spaces.Space[Any], seed: int):
        self._space, self._rng = space, np.random.default_rng(seed)
        if isinstance(space, spaces.Box) and not space.is_bounded():
            raise ValueError(f"smooth actions need bounds, but the environment's are {space}; name another policy")
        self._longest = int(self._rng.choice(_HOLDS))
        self._left, self._now = np.zeros(space.shape or (1,), np.int64), np.zeros(space.shape or (1,))
        self._target = self._now

    def __call__(self, observation: Any) -> Any:
        """The next action."""
        rng, space, over = self._rng, self._space, self._left <= 0
        self._left = np.where(over, rng.integers(1, self._longest + 1, self._left.shape), self._left)
        drawn = rng.uniform(-1, 1, self._now.shape)
        drawn = np.where(rng.random(self._now.shape) < _WHOLE, np.sign(drawn), drawn)
        self._target = np.where(over, drawn, self._target)
        self._now = self._now + (self._target - self._now) / np.maximum(1, self._left // 2)
        self._left -= 1
        if isinstance(space, spaces.Discrete):
            return space.start + int(min(space.n - 1, (self._target[0] + 1) / 2 * space.n))
        assert isinstance(space, spaces.Box)
        return (space.low + (self._now.clip(-1, 1) + 1) / 2 * (space.high - space.low)).astype(space.dtype)


def new_predict(name: str, env: gym.Env[Any, Any], seed: int, deterministic: bool = False) -> Predict:
    """The policy of a name in an environment.

    Args:
        name: "random", "smooth", `module:function`, or an agent's folder.
        env: Where it acts.
        seed: Of its draws.
        deterministic: Whether an agent does without exploration.

    Raises:
        ValueError: If there is no such policy, or it is one for another environment.
    """
    if name == "random":
        env.action_space.seed(seed)
        return lambda observation: env.action_space.sample()
    if name == "smooth":
        return Smooth(env.action_space, seed)
    if is_import(name) and not Path(name).exists():
        return new_named(name, env)
    agent = Agent.load(name)
    for which in ("observation_space", "action_space"):
        own, expected = getattr(agent.policy, which), getattr(env, which)
        if own != expected:
            raise ValueError(f"the agent {name} has {which} {own}, but the environment has {expected}")
    return lambda observation: agent.policy.predict(observation, deterministic=deterministic)[0]


def record_env_episodes(
    jobs: Sequence[Job], env_id: str, env_kwargs: str, rows: int | None, policy: str = "smooth"
) -> list[Episode]:
    """Run an episode of an environment until it ends, or for so many steps.

    Args:
        jobs: One.
        env_id: As of `GymnasiumEnv`, and so are the next two.
        env_kwargs: As JSON.
        rows: See there.
        policy: Name of who acts, as of `new_predict`.
    """
    (job,) = jobs
    source = environment(env_id, env_kwargs, rows)
    shown = [source.reset(job.seed)]
    predict = new_predict(policy, source.env, job.seed + 1)
    actions = list[NDArray[np.float32]]()
    for _ in range(job.steps):
        action = np.asarray(predict(shown[-1].observation))
        actions.append(action_vectors(source.env.action_space, action[None])[0])
        shown.append(source.step(actions[-1]))
        if shown[-1].terminated or shown[-1].truncated:
            break
    terminations = np.array([each.terminated for each in shown[1:]])
    cut = np.arange(len(actions)) == len(actions) - 1
    return [
        Episode(
            np.stack([each.frame for each in shown]),
            np.stack(actions),
            job.kind,
            job.seed,
            infos=_known(shown),
            rewards=np.array([each.reward for each in shown[1:]]),
            terminations=terminations,
            truncations=np.array([each.truncated for each in shown[1:]]) | (cut & ~terminations),
            observations=stacked([each.rest for each in shown]),
        )
    ]


def _known(shown: Sequence[Shown]) -> dict[str, NDArray[Any]]:
    """What infos and simulator tell at every step: success, and the whole state."""
    infos = {}
    if all("is_success" in each.info for each in shown[1:]):
        infos["is_success"] = np.array([bool(each.info.get("is_success")) for each in shown])
    states = [each.state for each in shown if each.state is not None]
    return infos | ({"state": np.stack(states)} if states else {})
