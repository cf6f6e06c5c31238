"""How does a policy play from given starts in one world? Without exploration, one episode from each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from .starts import Start


class Policy(Protocol):
    """Whatever has Stable-Baselines3's `predict`."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[Any], Any]:
        """Actions for a batch of observations, and a state to hand in with the next."""


@dataclass
class Played:
    """Episodes of one policy in one world, an entry each.

    Attributes:
        success: Whether the object reached its goal.
        episode_return: Sum of rewards.
        distance: Metres from object to goal at the end: true ones in the real simulator, as seen in the dream.
        length: Steps.
        bound: Metres that the object may be off at the end, as the dream says; none without an error bound.
    """

    success: list[bool] = field(default_factory=list)
    episode_return: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Share of successes; NaN where nothing was played."""
        return float(np.mean(self.success)) if self.success else np.nan

    @property
    def successful_bound(self) -> float:
        """Mean bound of the episodes that succeeded; NaN where none did, or there is no bound."""
        bounds = [bound for bound, success in zip(self.bound, self.success, strict=False) if success]
        return float(np.mean(bounds)) if bounds else np.nan

    def rate_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's confidence interval of the success rate; all rates where nothing was played."""
        if not self.success:
            return 0.0, 1.0
        result = stats.binomtest(sum(self.success), len(self.success))
        low, high = result.proportion_ci(level, method="wilson")
        return float(low), float(high)

    def note(self, success: bool, episode_return: float, distance: float, length: int) -> None:
        """Add an episode."""
        self.success.append(success)
        self.episode_return.append(episode_return)
        self.distance.append(distance)
        self.length.append(length)


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
        ends, returns, lengths = _play_once(policy, env, _begin(env, chunk, dream), watch or (lambda: None))
        for slot, start in enumerate(chunk):
            place = ends[slot].get(key, np.full(2, np.nan))  # nothing where the object was lost
            distance = float(np.linalg.norm(place - start.goal))
            played.note(bool(ends[slot]["is_success"]), float(returns[slot]), distance, int(lengths[slot]))
            if dream and "error_bound" in ends[slot]:
                played.bound.append(float(ends[slot]["error_bound"]))
    return played


def _begin(env: VecEnv, chunk: Sequence[Start], dream: bool) -> Any:
    """Start the environments, those too many like the last; their observations."""
    padded = [*chunk, *[chunk[-1]] * (env.num_envs - len(chunk))]
    if dream:
        env.set_options([{"latents": start.latents, "goal": start.goal} for start in padded])
    else:
        env.set_options([{"goal": start.goal} for start in padded])
        env.seed(chunk[0].seed)
    return env.reset()


def _play_once(
    policy: Policy, env: VecEnv, observation: Any, watch: Callable[[], object]
) -> tuple[list[dict[str, Any]], NDArray[np.float64], NDArray[np.int64]]:
    """Play until every environment has ended once: last infos, returns (B,) and lengths (B,)."""
    state, begins = None, np.ones(env.num_envs, bool)
    running, returns, lengths = np.ones(env.num_envs, bool), np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    ends: list[dict[str, Any]] = [{} for _ in running]
    while running.any():
        watch()
        actions, state = policy.predict(observation, state, begins, True)
        observation, rewards, begins, infos = env.step(actions)
        returns += running * rewards
        lengths += running
        for slot in np.flatnonzero(running & begins).tolist():
            ends[slot] = infos[slot]
        running &= ~begins
    return ends, returns, lengths


def _chunks(starts: Sequence[Start], size: int) -> Iterator[Sequence[Start]]:
    return (starts[first : first + size] for first in range(0, len(starts), size))
