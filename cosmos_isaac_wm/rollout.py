"""The stepping engine: a batch of dreams, each with its context of the last K latents, advanced by one network call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .protocols import Prediction

if TYPE_CHECKING:
    from .world_model import WorldModel


class DreamEngine:
    """B dreams that advance together.

    Args:
        world_model: What to dream with; the dreams live on its device.
        num_dreams: B.
        dtype: Precision of the dynamics network: `torch.float32`, or `torch.bfloat16` under autocast. The latents
            themselves are always float32.
    """

    def __init__(self, world_model: WorldModel, num_dreams: int, dtype: torch.dtype = torch.float32):
        if num_dreams < 1:
            raise ValueError(f"expected at least one dream, got {num_dreams}")
        self.world_model = world_model
        self.num_dreams = num_dreams
        self._dtype = dtype
        # The contexts are a window that moves along a history of twice their length: a step writes one latent and moves
        # none, except that every K + 1 steps the window returns to the beginning.
        self._length = world_model.dynamics.context_length
        shape = (num_dreams, 2 * self._length, *world_model.perception.latent_shape)
        self._history = torch.zeros(shape, device=world_model.device)
        self._end = self._length

    @property
    def context(self) -> Tensor:
        """The last K latents of every dream, oldest first, (B, K, C, h, w); a view, good until the next step."""
        return self._history[:, self._end - self._length : self._end]

    def reset(self, context: Tensor, slots: Tensor | None = None) -> None:
        """Load contexts into all dreams, or into some.

        Args:
            context: Normalised latents (b, K, C, h, w).
            slots: Which dreams they are for: indices (b,); all when None.

        Raises:
            ValueError: If the shape is not that of b contexts.
        """
        count = self.num_dreams if slots is None else len(slots)
        current = self.context
        if context.shape != (count, *current.shape[1:]):
            raise ValueError(
                f"expected contexts of shape {(count, *current.shape[1:])}, got {tuple(context.shape)}: "
                "were they encoded by this bundle's tokenizer, at its image size?"
            )
        context = context.to(current)
        if slots is None:
            current.copy_(context)
        else:
            current[slots] = context

    @torch.inference_mode()
    def step(self, actions: Tensor) -> Prediction:
        """Advance every dream by one control step.

        Args:
            actions: In the scene's units, (B, A).

        Returns:
            The next latents, also the newest of `context` from now on, and the model's uncertainty if it has one.
        """
        scaled = self.world_model.perception.scale_actions(actions)
        with torch.autocast(self.context.device.type, self._dtype, enabled=self._dtype != torch.float32):
            prediction = self.world_model.dynamics(self.context, scaled)
        prediction.latent = prediction.latent.float()
        if self._end == self._history.shape[1]:
            self._history[:, : self._length - 1] = self._history[:, self._length + 1 :]
            self._end = self._length - 1
        self._history[:, self._end] = prediction.latent
        self._end += 1
        return prediction

    @torch.inference_mode()
    def open_loop(self, context: Tensor, actions: Tensor) -> Tensor:
        """Dream without looking: load contexts (B, K, C, h, w), follow actions (B, T, A), return (B, T, C, h, w)."""
        self.reset(context)
        return torch.stack([self.step(actions[:, t]).latent.clone() for t in range(actions.shape[1])], dim=1)
