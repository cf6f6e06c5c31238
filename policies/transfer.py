"""The same policy from the same starts in the dream and in the real simulator, and what the difference says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from ..envs.real_env import RealEnv

APART = 0.10  # metres that agent and goal are away from the object at the start, at least


class Policy(Protocol):
    """Whatever has Stable-Baselines3's `predict`."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[Any], Any]:
        """Actions for a batch of observations, and a state to hand in with the next."""


@dataclass(frozen=True)
class Start:
    """Where an episode begins, in both worlds.

    Attributes:
        seed: Of the simulator's state.
        latents: What its first K pictures were encoded to, (K, C, h, w).
        goal: (x, y) in metres, (2,).
        subject: Where the object is at first, (x, y) in metres.
    """

    seed: int
    latents: NDArray[np.float32]
    goal: NDArray[np.float64]
    subject: NDArray[np.float64]


@dataclass
class Played:
    """Episodes of one policy in one world, an entry each.

    Attributes:
        success: Whether the object reached its goal.
        episode_return: Sum of rewards.
        distance: Metres from object to goal at the end: true ones in the real simulator, as seen in the dream.
        length: Steps.
    """

    success: list[bool] = field(default_factory=list)
    episode_return: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    length: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Share of successes."""
        return float(np.mean(self.success))

    def rate_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's confidence interval of the success rate."""
        result = stats.binomtest(sum(self.success), len(self.success))
        low, high = result.proportion_ci(level, method="wilson")
        return float(low), float(high)


def draw_starts(env: RealEnv, count: int, seed: int) -> list[Start]:
    """Random states of the simulator with random goals, of which nothing begins too near to anything.

    Args:
        env: Draws and encodes the first pictures.
        count: How many.
        seed: Of all of them.
    """
    rng, starts = np.random.default_rng(seed), list[Start]()
    names, agent = env.world_model.scene.marker_names, env.world_model.scene.agent
    with tqdm(total=count, desc="starts", unit="start") as bar:
        while len(starts) < count:
            own = int(rng.integers(2**31))
            goal = rng.uniform(*env.task.goal_area)
            _, info = env.reset(seed=own, options={"goal": goal})
            subject = info[f"{names[0]}_position"]
            places = [goal] if agent is None else [goal, info[f"{agent}_position"]]
            if all(far(place, subject) for place in places):
                starts.append(Start(own, env.context.cpu().numpy(), goal, subject))
                bar.update()
    return starts


def far(place: ArrayLike, other: ArrayLike) -> bool:
    """Whether two places (x, y) in metres are `APART`."""
    return float(np.linalg.norm(np.subtract(place, other))) >= APART


def play(
    policy: Policy,
    env: VecEnv,
    starts: Sequence[Start],
    dream: bool,
    name: str,
    watch: Callable[[], object] | None = None,
) -> Played:
    """One episode from each start, as many at once as there are environments.

    Args:
        policy: Acts without exploration.
        env: Dreams, which are started by their latents, or one real simulator, which is by its seed.
        starts: Where to begin.
        dream: Which of the two it is.
        name: For the progress bar.
        watch: Called before every step.

    Raises:
        ValueError: If there are several real simulators.
    """
    if not dream and env.num_envs != 1:
        raise ValueError(f"real simulators are started one by one, got {env.num_envs} at once")
    played = Played()
    key = f"{env.get_attr('world_model')[0].scene.marker_names[0]}_position"
    for chunk in tqdm(list(_chunks(starts, env.num_envs)), desc=name, unit="batch"):
        padded = [*chunk, *[chunk[-1]] * (env.num_envs - len(chunk))]
        if dream:
            env.set_options([{"latents": start.latents, "goal": start.goal} for start in padded])
        else:
            env.set_options([{"goal": start.goal} for start in padded])
            env.seed(chunk[0].seed)
        observation: Any = env.reset()
        state, begins = None, np.ones(env.num_envs, bool)
        running, returns, lengths = np.ones(env.num_envs, bool), np.zeros(env.num_envs), np.zeros(env.num_envs, int)
        ends: list[dict[str, Any]] = [{} for _ in padded]
        while running.any():
            if watch is not None:
                watch()
            actions, state = policy.predict(observation, state, begins, True)
            observation, rewards, begins, infos = env.step(actions)
            returns += running * rewards
            lengths += running
            for slot in np.flatnonzero(running & begins).tolist():
                ends[slot] = infos[slot]
            running &= ~begins
        for slot in range(len(chunk)):
            place = ends[slot].get(key, np.full(2, np.nan))  # nothing where the object was lost
            played.success.append(bool(ends[slot]["is_success"]))
            played.episode_return.append(float(returns[slot]))
            played.distance.append(float(np.linalg.norm(place - chunk[slot].goal)))
            played.length.append(int(lengths[slot]))
    return played


def _chunks(starts: Sequence[Start], size: int) -> Iterator[Sequence[Start]]:
    return (starts[first : first + size] for first in range(0, len(starts), size))


@dataclass(frozen=True)
class Correlation:
    """How well success in the dream foretells success in the real simulator, over policies.

    Attributes:
        pearson: Of the rates.
        spearman: Of their ranks.
        pearson_interval: 95 % bootstrap interval over policies.
        spearman_interval: The same.
    """

    pearson: float
    spearman: float
    pearson_interval: tuple[float, float]
    spearman_interval: tuple[float, float]


def correlate(dream: Sequence[float], real: Sequence[float], seed: int = 0) -> Correlation:
    """Correlation of one number per policy in both worlds.

    Raises:
        ValueError: If there are fewer than three policies, or all are alike.
    """
    if len(dream) < 3 or np.ptp(dream) == 0 or np.ptp(real) == 0:
        raise ValueError("a correlation needs three policies or more, of different quality")

    def interval(measure: Any) -> tuple[float, float]:
        with warnings.catch_warnings():
            for warning in (stats.ConstantInputWarning, stats.DegenerateDataWarning):  # a draw of like policies
                warnings.simplefilter("ignore", warning)
            result = stats.bootstrap(
                (np.asarray(dream), np.asarray(real)),
                lambda x, y: measure(x, y).statistic,
                paired=True,
                vectorized=False,
                n_resamples=2000,
                method="percentile",
                rng=np.random.default_rng(seed),
            )
        low, high = np.nanquantile(result.bootstrap_distribution, (0.025, 0.975))
        return float(low), float(high)

    return Correlation(
        float(stats.pearsonr(dream, real).statistic),
        float(stats.spearmanr(dream, real).statistic),
        interval(stats.pearsonr),
        interval(stats.spearmanr),
    )
