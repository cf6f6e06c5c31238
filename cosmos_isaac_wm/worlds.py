"""What do a dream and a real environment offer, and what are they judged by? The contracts of everyone who uses them.

They are structural, as those of `protocols` are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .perception.readout import Located
from .protocols import Simulator
from .rollout import DreamEngine
from .sims.gymnasium_env import GymnasiumEnv
from .world_model import WorldModel

Observation = Tensor | dict[str, Any]  # of B environments; dicts may be nested
Infos = dict[str, Tensor]  # Gymnasium's vector form: for every key also a mask `_key` of the environments that have it


@dataclass
class Glimpse:
    """What a task sees in the contexts that n episodes begin with.

    Attributes:
        parts: What it wants to know of them, (n, ...) each.
    """

    parts: tuple[Tensor, ...]

    def __getitem__(self, which: Tensor) -> Glimpse:
        """That of some of the episodes, by index."""
        return Glimpse(tuple(part[which] for part in self.parts))


class Task(Protocol):
    """What B episodes are judged by: spaces, observations, rewards and ends, all read from latents.

    `envs.table_task.TableTask` and `envs.twin_task.TwinTask` are such. The dream and the real environment share a task,
    which is why an agent meets the same in both. What goes in and comes out are tensors on the world model's device.

    Attributes:
        action_space: Of one environment.
        observation_space: Of one environment.
        reset_options: Names of the reset options that are the task's own.
        obs_type: Kind of observation.
        asks_outside: Whether a step asks functions that no graph can hold: the user's, or the environment's.
        observes: What `observe` needs: the newest "latents" alone, the "memory" of what the task has seen, or "both".
        max_episode_steps: Time limit.
        has_compute_reward: Whether rewards follow from achieved and desired goals in the observation.
        steps: Steps since the start of each episode, (B,).
        goals: What each episode is to reach, (B, G); of no meaning to a task without goals.
    """

    action_space: spaces.Space[Any]
    observation_space: spaces.Space[Any]
    reset_options: tuple[str, ...]
    obs_type: str
    max_episode_steps: int
    steps: Tensor
    goals: Tensor

    @property
    def has_compute_reward(self) -> bool:
        """See above."""

    @property
    def asks_outside(self) -> bool:
        """See above."""

    @property
    def observes(self) -> str:
        """See above."""

    @property
    def remembered(self) -> dict[str, Tensor]:
        """Every tensor that `start` and `advance` write into, by name, (B, ...): with them a task goes on."""

    @property
    def goal_area(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest of the goals that are drawn, (G,) each; a ValueError where there are none."""

    def check_actions(self, actions: ArrayLike | Tensor, ignored: Tensor | None = None, /) -> Tensor:
        """Actions (B, A) as float32, inside the bounds; a ValueError names what is not, outside of a mask (B,)."""

    def bound_actions(self, actions: Tensor, /) -> tuple[Tensor, Tensor]:
        """Actions (B, A) inside the bounds, and which environments' were not, (B,), without a look at them."""

    def refuse_actions(self, outside: Tensor, steps: int, /) -> None:
        """A ValueError if an environment of a mask (B,) had an action out of bounds in the last so many steps."""

    def glimpse(self, latents: Tensor, past: Tensor | None = None) -> Glimpse:
        """What is seen in contexts (n, K, C, h, w) that scaled actions (n, m, A), if known, have led through."""

    def start(self, which: Tensor, glimpse: Glimpse, keys: Tensor, options: Mapping[str, Any] | None = None) -> None:
        """Begin new episodes in some environments.

        Args:
            which: Mask (B,).
            glimpse: What each of the B sees at first; of no meaning outside of the mask.
            keys: Of counter-based random numbers, one for each of the B episodes, (B,).
            options: The task's own reset options, for all B.
        """

    def advance(
        self, latents: Tensor, actions: Tensor, located: Located | None = None
    ) -> tuple[Observation, Tensor, Tensor, Tensor]:
        """Judge a step that led to latents (B, C, h, w): observations, rewards, terminated, truncated."""

    def observe(self, latents: Tensor) -> Observation:
        """The current observations of all environments, from their newest latents (B, C, h, w)."""

    def info(self) -> Infos:
        """The current infos of all environments."""

    def compute_reward(
        self, achieved_goal: ArrayLike | Tensor, desired_goal: ArrayLike | Tensor, info: Any = None
    ) -> Tensor | NDArray[np.float64]:
        """The reward of being at one goal when another was meant, as Gymnasium's goal environments have it."""

    def annotate(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames (B, H, W, 3) with what the agent is to do drawn into them."""


@runtime_checkable
class LatentEnvironment(Protocol):
    """What a dream and a real environment both offer besides Gymnasium's interface; all that a planner needs.

    Attributes:
        world_model: The bundle whose eyes it sees with.
        task: What its episodes are judged by.
        context: The newest K latents, oldest first, (K, C, h, w).
        past: The last H scaled actions, oldest first, (H, A); 0 before there were any.
    """

    world_model: WorldModel

    @property
    def task(self) -> Task:
        """See above."""

    @property
    def context(self) -> Tensor:
        """See above."""

    @property
    def past(self) -> Tensor:
        """See above."""

    def must_have_started(self) -> None:
        """Raise Gymnasium's `ResetNeeded` before the first reset."""


@runtime_checkable
class DreamEnvironment(LatentEnvironment, Protocol):
    """What `CosmosDream-v0` offers: an engine makes its next latent.

    Attributes:
        engine: It advances the dream.
    """

    @property
    def engine(self) -> DreamEngine:
        """See above."""


@runtime_checkable
class RealEnvironment(LatentEnvironment, Protocol):
    """What `CosmosReal-v0` offers: a simulator makes its next picture.

    Attributes:
        simulator: It simulates the scene.
        kind: Of its episodes, None for any.
        frame: Its newest picture, uint8 (H, W, 3).
    """

    simulator: Simulator
    kind: str | None
    frame: NDArray[np.uint8]


@runtime_checkable
class RealTwinEnvironment(LatentEnvironment, Protocol):
    """What `CosmosReal-v0` of a twin offers: it is the foreign environment itself.

    Attributes:
        source: The environment, which shows a picture at every step.
    """

    source: GymnasiumEnv
