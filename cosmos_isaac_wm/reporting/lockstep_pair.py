"""What do a dream and reality that are stepped together offer a `LockstepRecorder`? The contract of both kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, SupportsFloat, TypeVar

import gymnasium as gym
import numpy as np

from ..evaluation import Evaluation
from ..worlds import DreamEnvironment, LatentEnvironment

Real = TypeVar("Real", bound=LatentEnvironment)
Begun = tuple[Any, dict[str, Any]]  # what `reset` returns
Outcome = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]  # what `step` does


class Pair(ABC, Generic[Real]):
    """A dream and reality, stepped together by a `LockstepRecorder`.

    Args:
        dream: As its agent has it.
        real: The same.
        dreaming: Beneath the wrappers of `dream`.
        acting: Beneath those of `real`.

    Attributes:
        evaluation: Of the episodes that have ended, where objects are tracked; None before the first end.
        together: Whether an episode of both is over as soon as one is.
    """

    together = False

    def __init__(self, dream: gym.Env[Any, Any], real: gym.Env[Any, Any], dreaming: DreamEnvironment, acting: Real):
        self._dream, self._real, self._dreaming, self._acting = dream, real, dreaming, acting
        self.world_model, self._number = dreaming.world_model, -1
        self.evaluation: Evaluation | None = None

    @abstractmethod
    def open(self, out: Path) -> None:
        """Begin the log in a folder."""

    @abstractmethod
    def begin(self, rng: np.random.Generator, seed: int | None, options: dict[str, Any]) -> tuple[Begun, Begun]:
        """Reset both alike; what the dream and reality observe."""

    @abstractmethod
    def add(
        self, action: Any, dreamed: Outcome, real: Outcome, dream_reward: float, real_reward: float
    ) -> dict[str, float]:
        """Log a step of both, rewards NaN after an end; how far they are apart, for the infos."""

    @abstractmethod
    def finish(self) -> None:
        """Write what there is to see of the episode that has ended, and of all so far."""
