"""What must a simulator, a tokenizer, a dynamics, a task or an environment offer? The contracts of this package.

They are structural: a class of yours that has these members is one of them, without importing anything from here.
Shape letters: B batch, K context frames, C latent channels, h, w latent grid, H, W image, A action dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from gymnasium import spaces
    from torch import Tensor

    from .perception.readout import Located
    from .rollout import DreamEngine
    from .scene import Scene
    from .world_model import WorldModel


@runtime_checkable
class Simulator(Protocol):
    """A real simulator of the scene: one episode at a time, pictures on request, complete state in and out."""

    scene: Scene

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """Start an episode drawn from `seed`."""

    def step(self, action: NDArray[np.float32]) -> None:
        """Hold `action` (A,) for one control step."""

    def render(self) -> NDArray[np.uint8]:
        """The camera picture of the current state, (H, W, 3)."""

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """Ground-truth (x, y) in metres of every marker present in the scene, by name."""

    def get_state(self) -> NDArray[np.float64]:
        """The complete physics state as one vector."""

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Restore a state of `get_state`; the same actions then give bit-identical poses and pictures."""

    def metadata(self) -> dict[str, Any]:
        """Simulator, version, renderer: what must not differ between collection and evaluation."""


@runtime_checkable
class RestartableSimulator(Simulator, Protocol):
    """A simulator whose state can also be blurred, as a predictability floor wants it."""

    def perturb(self, rng: np.random.Generator, position_m: float, angle_rad: float) -> None:
        """Jitter the objects' poses by Gaussian noise of these standard deviations."""


@runtime_checkable
class SupportsClose(Protocol):
    """What holds something that must be freed, as a simulator that draws does."""

    def close(self) -> None:
        """Free it."""


@runtime_checkable
class Tokenizer(Protocol):
    """Pictures to latents and back. Latents are raw here; the world model normalises them."""

    channels: int
    compression: int

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to latents (B, C, H / compression, W / compression)."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, H, W), clamped to [-1, 1]."""

    def fingerprint(self) -> str:
        """A hash of architecture and weights: latents of another fingerprint mean something else."""


@dataclass
class Prediction:
    """One step of a dynamics model.

    Attributes:
        latent: The next latent, normalised, (B, C, h, w).
        uncertainty: The model's own estimate of its error per dream, (B,), or None when it has none.
        kl: While a stochastic model is trained: what its posterior knew beyond the prior, in nats, (B, Z).
    """

    latent: Tensor
    uncertainty: Tensor | None = None
    kl: Tensor | None = None


@runtime_checkable
class Dynamics(Protocol):
    """Predicts the next latent from the last K latents and the action that leads from the last to the next."""

    context_length: int
    channels: int
    action_dim: int

    def __call__(self, context: Tensor, action: Tensor) -> Prediction:
        """Context (B, K, C, h, w), oldest first, and action (B, A) scaled to [-1, 1]."""


class Task(Protocol):
    """What B episodes are judged by: spaces, observations, rewards and ends, all read from latents.

    `envs.table_task.TableTask` is one. The dream and the real environment share a task, which is why an agent meets the
    same in both. What goes in and comes out are tensors on the world model's device.

    Attributes:
        action_space: Of one environment.
        observation_space: Of one environment.
        reset_options: Names of the reset options that are the task's own.
        obs_type: Kind of observation.
        max_episode_steps: Time limit.
        has_compute_reward: Whether rewards follow from achieved and desired goals in the observation.
        steps: Steps since the start of each episode, (B,).
        goals: What each episode is to reach, (B, G); of no meaning to a task without goals.
    """

    action_space: spaces.Space[NDArray[np.float32]]
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
    def goal_area(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest of the goals that are drawn, (G,) each; a ValueError where there are none."""

    def check_actions(self, actions: ArrayLike | Tensor, /) -> Tensor:
        """Actions (B, A) as float32, inside the bounds; a ValueError names what is not."""

    def start(
        self,
        slots: Tensor,
        latents: Tensor,
        generators: Sequence[np.random.Generator],
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Tensor | dict[str, Tensor], dict[str, Tensor]]:
        """Begin episodes in slots (b,) with contexts (b, K, C, h, w); their observations and infos."""

    def advance(
        self, latents: Tensor, actions: Tensor, located: Located | None = None
    ) -> tuple[Tensor | dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Judge a step that led to latents (B, C, h, w): observations, rewards, terminated, truncated, infos."""

    def observe(self, latents: Tensor, slots: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """The current observations of some environments, all when None, from their newest latents (b, C, h, w)."""

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
    """

    world_model: WorldModel

    @property
    def task(self) -> Task:
        """See above."""

    @property
    def context(self) -> Tensor:
        """See above."""


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
