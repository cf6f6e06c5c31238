"""Is what a policy earns in a twin what it earns in the environment? Returns of both, the latter seen in two ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from scipy import stats
from tqdm import tqdm

from ...envs.dream_env import DreamEnv
from ...envs.real_twin import RealTwinEnv
from ...sims.gymnasium_env import environment_of
from ...world_model import WorldModel
from ..env_recording import new_predict
from .correlation import foretold

Twin = Literal["dream", "real", "pictures"]
# In the dream; in the environment, on its own observations; there, on what the bundle's eyes see in its pictures.
TWINS: tuple[Twin, ...] = ("dream", "real", "pictures")


@dataclass
class Earned:
    """Episodes of one policy in one world, an entry each.

    Attributes:
        episode_return: Sum of rewards.
        length: Steps.
    """

    episode_return: list[float] = field(default_factory=list)
    length: list[int] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.episode_return))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's confidence interval of the mean return."""
        if len(self.episode_return) < 2 or not np.ptp(self.episode_return):
            return self.mean, self.mean
        low, high = stats.ttest_1samp(self.episode_return, 0.0).confidence_interval(level)
        return float(low), float(high)


@dataclass
class Twins:
    """A policy in all three.

    Attributes:
        dream: In the dream.
        real: In the environment, on its own observations.
        pictures: In the environment, on what the bundle's eyes see.
    """

    dream: Earned
    real: Earned
    pictures: Earned


def play_twin(world: Twin, name: str, model: WorldModel, named: str | None, episodes: int, seed: int) -> Earned:
    """Play a policy without exploration.

    Args:
        world: Where.
        name: Of the policy, as of `new_predict`.
        model: The twin, or the eyes.
        named: What the user calls the environment, as of `environment_of`.
        episodes: How many; each begins with a seed of its own.
        seed: Of the first.
    """
    env = new_world(world, model, named)
    earned = Earned()
    predict = new_predict(name, env, seed, deterministic=True)
    for number in tqdm(range(episodes), desc=f"{name}, {world}", unit="episode"):
        observation, over = env.reset(seed=seed + number)[0], False
        total, steps = 0.0, 0
        while not over:
            observation, reward, terminated, truncated, _ = env.step(predict(observation))
            total, steps, over = total + float(reward), steps + 1, terminated or truncated
        earned.episode_return.append(total)
        earned.length.append(steps)
    env.close()
    return earned


def new_world(world: Twin, model: WorldModel, named: str | None) -> gym.Env[Any, Any]:
    """The dream, the environment as it is, or as it is seen through the bundle's eyes."""
    if world == "dream":
        return DreamEnv(model)
    return environment_of(model.scene, named) if world == "real" else RealTwinEnv(model, named=named)


def twin_figures(rows: Mapping[str, Twins]) -> dict[str, float]:
    """Mean returns of every policy in all worlds, and how well the dream's foretell the real ones, over policies."""
    figures: dict[str, float] = {}
    for name, row in rows.items():
        figures |= {f"{name}_dream_return": row.dream.mean, f"{name}_real_return": row.real.mean}
        figures[f"{name}_pictures_return"] = row.pictures.mean
    return figures | foretold([row.dream.mean for row in rows.values()], [row.real.mean for row in rows.values()])


def twin_table(rows: Mapping[str, Twins], episodes: int) -> str:
    """Returns of every policy as Markdown, with 95 % intervals of the mean."""

    def cell(earned: Earned) -> str:
        low, high = earned.interval()
        return f"{earned.mean:.4g} ({low:.4g} to {high:.4g})"

    head = "| policy | in the dream | in the environment | there, through the bundle's eyes |\n|---|---|---|---|"
    lines = [f"| {name} | {cell(row.dream)} | {cell(row.real)} | {cell(row.pictures)} |" for name, row in rows.items()]
    return "\n".join([f"Mean return of {episodes} episodes, with 95 % intervals.\n", head, *lines])
