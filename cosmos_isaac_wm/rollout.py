"""The stepping engine: a batch of dreams, each with its context of the last K latents, advanced by one network call."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .precision import has_bfloat16
from .protocols import Prediction

if TYPE_CHECKING:
    from .world_model import WorldModel

Precision = torch.dtype | Literal["auto", "float32", "bfloat16"]
Compile = bool | Literal["auto"]

_LARGE_BATCH = 8  # dreams from which arithmetic outweighs the overhead of each operation
_LONG_RUN = 2000  # steps after which it pays to have waited for a compiler


class DreamEngine:
    """B dreams that advance together.

    Args:
        world_model: What to dream with; the dreams live on its device.
        num_dreams: B.
        dtype: Precision of the dynamics network: "float32", "bfloat16", or "auto": bfloat16 for batches of 8 and more
            where the processor or GPU computes in it. The latents themselves are always float32.
        compile: Whether to compile the network (`torch.compile`): True with the first step, "auto" for batches of 8
            and more when 2,000 steps show that the run is a long one. Without a working compiler the network goes on
            as it is, and a warning says so.

    Attributes:
        network: The dynamics network in its precision, compiled when it is.
        dtype: Its precision.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(
        self, world_model: WorldModel, num_dreams: int, dtype: Precision = "float32", compile: Compile = False
    ):
        if num_dreams < 1:
            raise ValueError(f"expected at least one dream, got {num_dreams}")
        self.world_model = world_model
        self.num_dreams = num_dreams
        self.dtype = choose_dtype(dtype, world_model.device, num_dreams)
        if compile not in (True, False, "auto"):
            raise ValueError(f"unknown compile {compile!r}; expected True, False or 'auto'")
        never = 2**63
        self._compile_at = {True: 0, False: never, "auto": _LONG_RUN if num_dreams >= _LARGE_BATCH else never}[compile]
        self._steps = 0
        self.network: Any = world_model.dynamics
        if self.dtype != torch.float32:  # weights converted once, not with every step
            self.network = copy.deepcopy(world_model.dynamics).to(self.dtype)
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
            actions: In the scene's units, (B, A), on the dreams' device.

        Returns:
            The next latents, also the newest of `context` from now on, and the model's uncertainty if it has one.

        Raises:
            ValueError: If there are not B actions, or they are on another device.
        """
        if len(actions) != self.num_dreams or actions.device.type != self._history.device.type:
            raise ValueError(
                f"expected {self.num_dreams} actions on {self._history.device.type}, got {len(actions)} "
                f"on {actions.device.type}"
            )
        prediction = self._predict(self.world_model.perception.scale_actions(actions))
        prediction.latent = prediction.latent.float()
        if self._end == self._history.shape[1]:
            self._history[:, : self._length - 1] = self._history[:, self._length + 1 :]
            self._end = self._length - 1
        self._history[:, self._end] = prediction.latent
        self._end += 1
        self._steps += 1
        return prediction

    @torch.inference_mode()
    def open_loop(self, context: Tensor, actions: Tensor) -> Tensor:
        """Dream without looking: load contexts (B, K, C, h, w), follow actions (B, T, A), return (B, T, C, h, w)."""
        self.reset(context)
        dreamed = self._history.new_empty(len(context), actions.shape[1], *context.shape[2:])
        for step in range(actions.shape[1]):
            dreamed[:, step] = self.step(actions[:, step]).latent
        return dreamed

    def _predict(self, actions: Tensor) -> Prediction:
        """One call of the network, compiled from the step on from which that pays."""
        with torch.autocast(self._history.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if self._steps == self._compile_at:
                try:
                    compiled: Any = torch.compile(self.network, dynamic=False)
                    prediction: Prediction = compiled(self.context, actions)
                    self.network = compiled
                    return prediction
                except Exception as error:  # whatever a compiler may raise: the network itself is there
                    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                    warnings.warn(f"the dreams go on without compilation: {reason}", RuntimeWarning, stacklevel=3)
            return self.network(self.context, actions)


def choose_dtype(dtype: Precision, device: torch.device, num_dreams: int) -> torch.dtype:
    """The precision of a batch; see `DreamEngine`.

    Raises:
        ValueError: If `dtype` is unknown.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype == "auto":
        return torch.bfloat16 if num_dreams >= _LARGE_BATCH and has_bfloat16(device) else torch.float32
    chosen = dtype if isinstance(dtype, torch.dtype) else known.get(dtype)
    if chosen is None or chosen not in known.values():
        raise ValueError(f"unknown dtype {dtype!r}; expected 'auto' or one of {sorted(known)}")
    return chosen
