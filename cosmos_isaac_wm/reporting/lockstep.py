"""How does an agent act in the dream and in reality at once? In lockstep, from the same state, logged.

env = LockstepRecorder(gym.make("CosmosDream-v0"), gym.make("CosmosReal-v0"), "out")
evaluate_policy(agent, env, n_eval_episodes=3)
"""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np

from ..evaluation import Evaluation
from ..storage.paths import user_path
from ..worlds import DreamEnvironment, RealEnvironment, RealTwinEnvironment
from .lockstep_pair import Outcome, Pair
from .lockstep_table import TablePair
from .lockstep_twin import TwinPair


class LockstepRecorder(gym.Wrapper[Any, Any, Any, Any]):
    """Plays an episode in the dream and in reality at once: same state, same goal, same live actions.

    To its agent it is one of the two environments, whose observations, rewards and ends it hands on. When an episode
    ends, the same metrics and pictures as of a replay are written. Of the table: metrics and error curves of all
    episodes so far, tracks and video of the best, the worst and the newest one, so that no end takes longer than
    another. Of the twin of a foreign environment: `states.csv`, metrics of all, curves and video of the newest three.

    Args:
        dream: `CosmosDream-v0`.
        real: `CosmosReal-v0` with the same bundle's eyes; of a twin `envs.RealTwinEnv`.
        out: Folder of the log and the pictures; what it holds of an earlier recording is replaced.
        sees: What the agent acts on: "dream" or "real".
        seed: Of the starts, where `reset` is given none.

    Raises:
        ValueError: If these are no such environments, they see with different eyes, or the scene has nothing to log.
    """

    def __init__(
        self,
        dream: gym.Env[Any, Any],
        real: gym.Env[Any, Any],
        out: str | os.PathLike[str],
        sees: str = "dream",
        seed: int | None = None,
    ):
        if sees not in ("dream", "real"):
            raise ValueError(f"unknown sees {sees!r}; expected 'dream' or 'real'")
        super().__init__(dream if sees == "dream" else real)
        self._dream, self._real, self._sees, self.out = dream, real, sees, user_path(out)
        self._pair = _pair(dream, real)
        self.world_model = self._pair.world_model
        self._pair.open(self.out)
        self._rng = np.random.default_rng(seed)
        self._going_on = self._other_ended = False

    @property
    def evaluation(self) -> Evaluation | None:
        """Of the table's episodes that have ended; None before the first end, and of a twin."""
        return self._pair.evaluation

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start both alike.

        The table begins in the state that is stored with one of the bundle's contexts, a twin at the environment's
        first picture.

        Args:
            seed: Of context and goal, or of the environment.
            options: "episode" and "start" of a context, or "goal"; of a twin the environment's own.

        Raises:
            ValueError: If no stored context has a simulator state.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        dreamed, real = self._pair.begin(self._rng, seed, dict(options or {}))
        self._other_ended, self._going_on = False, True
        return dreamed if self._sees == "dream" else real

    def step(self, action: Any) -> Outcome:
        """One step of both, logged. An environment cannot be stepped beyond its end: a twin's episode is cut off there.

        Returns:
            Of the environment that the agent sees; its info has the other one's reward as "other_reward", NaN after its
            end, and how far the dream is from the truth: the metres between dreamed and true object as "gap_m", or the
            mean over a twin's components as "gap_std", in standard deviations.
        """
        if not self._going_on:
            raise gym.error.ResetNeeded("call reset() before the first step and after an episode's end")
        dreamed, real = self._dream.step(action), self._real.step(action)
        seen, other = (dreamed, real) if self._sees == "dream" else (real, dreamed)
        paid, other_paid = float(seen[1]), np.nan if self._other_ended else float(other[1])  # nothing after its end
        self._other_ended |= other[2] or other[3]
        rewards = (paid, other_paid) if self._sees == "dream" else (other_paid, paid)
        gap = self._pair.add(action, dreamed, real, *rewards)
        observation, reward, terminated, truncated, info = seen
        truncated = truncated or (self._pair.together and self._other_ended and not terminated)
        if terminated or truncated:
            self._going_on = False
            self._pair.finish()
        return observation, reward, terminated, truncated, info | {"other_reward": other_paid, **gap}

    def close(self) -> None:
        """Close both environments."""
        self._dream.close()
        self._real.close()


def _pair(dream: gym.Env[Any, Any], real: gym.Env[Any, Any]) -> Pair[Any]:
    """What knows the two environments beneath their wrappers.

    Raises:
        ValueError: If they are not what they should be, or do not belong together.
    """
    inner, other = dream.unwrapped, real.unwrapped
    if not isinstance(inner, DreamEnvironment) or not isinstance(other, RealEnvironment | RealTwinEnvironment):
        raise ValueError(
            f"expected a CosmosDream-v0 and a CosmosReal-v0 (of a twin a RealTwinEnv), got {inner} and {other}"
        )
    eyes = [each.world_model.perception.fingerprint() for each in (inner, other)]
    if eyes[0] != eyes[1]:
        raise ValueError(
            f"the dream's tokenizer is {eyes[0]}, the real environment looks through {eyes[1]}: "
            "make both with the same world_model"
        )
    if isinstance(other, RealTwinEnvironment):
        return TwinPair(dream, real, inner, other)
    return TablePair(dream, real, inner, other)
