"""What must a simulator, a tokenizer or a dynamics offer? The contracts that everything else is built on.

They are structural: a class of yours that has these members is one of them, without importing anything from here.
Shape letters: B batch, K context frames, C latent channels, h, w latent grid, H, W image, A action dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from .scene import Scene


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

    def perturb(self, rng: np.random.Generator, position_m: float, angle_rad: float, speed: float = 0.0) -> None:
        """Jitter the objects' poses, and the velocity of the first, by Gaussian noise of these standard deviations."""


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


LATENT_LIMIT = 20.0  # latents have unit variance per channel: beyond this there is nothing to be seen


@dataclass
class Prediction:
    """One step of a dynamics model.

    Attributes:
        latent: The next latent, normalised, within `LATENT_LIMIT`, (B, C, h, w).
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
        """Context (B, K, C, h, w), oldest first, and action (B, A) scaled to [-1, 1].

        One with an attribute `history`, H, is given (B, (H + 1) A): the action after the H before it.
        """
