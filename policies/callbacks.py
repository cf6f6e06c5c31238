"""What happens beside the training of an agent? A progress bar, a stopwatch, and evaluations every so often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from .evaluations import EvaluationRow, read_evaluations, write_evaluations


class ProgressBar(BaseCallback):
    """Steps, return and success rate of the latest training episodes.

    Args:
        timesteps: Where training will end.
    """

    def __init__(self, timesteps: int):
        super().__init__()
        self._timesteps = timesteps
        self._bar: Any = None

    def _on_training_start(self) -> None:
        self._bar = tqdm(total=self._timesteps, initial=self.num_timesteps, desc="train", unit="step")

    def _on_step(self) -> bool:
        self._bar.update(self.num_timesteps - self._bar.n)
        finished, returns = self.model.ep_success_buffer, self.model.ep_info_buffer
        if returns:
            shown = {"success": np.mean(finished)} if finished else {}
            shown |= {"return": np.mean([episode["r"] for episode in returns])}
            self._bar.set_postfix({key: f"{value:.2f}" for key, value in shown.items()}, refresh=False)
        return True

    def _on_training_end(self) -> None:
        self._bar.close()


class Stopwatch:
    """Seconds of training, without those of evaluations.

    Args:
        already: What an interrupted run had trained for.
    """

    def __init__(self, already: float = 0.0) -> None:
        self._since, self._away = time.perf_counter() - already, 0.0

    @property
    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self._since - self._away

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count what happens inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._away += time.perf_counter() - start


class TimeLimit(BaseCallback):
    """Ends training by the clock.

    Args:
        stopwatch: Seconds of training.
        minutes: How long it may take, over all resumed runs and without evaluations; None for no limit.
    """

    def __init__(self, stopwatch: Stopwatch, minutes: float | None):
        super().__init__()
        self._stopwatch, self._minutes = stopwatch, minutes

    @property
    def reached(self) -> bool:
        """Whether the time is spent."""
        return self._minutes is not None and self._stopwatch.seconds >= 60 * self._minutes

    def _on_step(self) -> bool:
        return not self.reached


class Evaluation(BaseCallback):
    """Evaluates without exploration every so often, always from the same starts, as a table that resuming goes on with.

    Args:
        env: Where to evaluate.
        path: The CSV file.
        episodes: How many episodes.
        every: Environment steps between evaluations.
        seed: Of the starts.
        stopwatch: Seconds of training.
        then: Called after every evaluation with whether its return is better than all before.

    Attributes:
        rows: The table.
    """

    def __init__(
        self,
        env: VecEnv,
        path: Path,
        episodes: int,
        every: int,
        seed: int,
        stopwatch: Stopwatch,
        then: Callable[[bool], object] | None = None,
    ):
        super().__init__()
        self._env, self._path, self._episodes, self._every, self._seed = env, path, episodes, every, seed
        self._stopwatch, self._then = stopwatch, then
        self.rows: list[EvaluationRow] = []

    def _on_training_start(self) -> None:
        self.rows = read_evaluations(self._path, self.num_timesteps)

    def close(self) -> None:
        """Close its environment."""
        self._env.close()

    def _on_step(self) -> bool:
        if self.num_timesteps // self._every > (self.num_timesteps - self.training_env.num_envs) // self._every:
            seconds = self._stopwatch.seconds
            with self._stopwatch.paused():
                self._evaluate(seconds)
        return True

    def finish(self) -> None:
        """Evaluate once more, unless that has just been done."""
        if not self.rows or self.rows[-1].timesteps != self.num_timesteps:
            seconds = self._stopwatch.seconds
            with self._stopwatch.paused():
                self._evaluate(seconds)

    def _evaluate(self, seconds: float) -> None:
        finished: list[bool] = []

        def note(local: dict[str, Any], _: dict[str, Any]) -> None:
            if local["done"] and "is_success" in local["info"]:
                finished.append(bool(local["info"]["is_success"]))

        self._env.seed(self._seed)
        returns, lengths = evaluate_policy(
            self.model, self._env, self._episodes, callback=note, return_episode_rewards=True
        )
        best = max((row.mean_return for row in self.rows), default=-np.inf)
        success = float(np.mean(finished)) if finished else float("nan")
        row = EvaluationRow(self.num_timesteps, seconds, success, float(np.mean(returns)), float(np.mean(lengths)))
        self.rows.append(row)
        write_evaluations(self._path, self.rows)
        if finished:
            self.logger.record("eval/success_rate", row.success)
        self.logger.record("eval/mean_reward", row.mean_return)
        if self._then is not None:
            self._then(row.mean_return > best)
