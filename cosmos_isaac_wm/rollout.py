"""How do many dreams advance together? A batch, each with its last K latents, stepped by one network call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn

from .dynamics.network import DynamicsNetwork
from .perception.readout import Located, Readout
from .precision import Compile, FastModule, Precision
from .protocols import Prediction
from .world_model import WorldModel

_CELLS = 64 * 16 * 16  # latent cells whose activations a processor's caches hold: more are slower in one piece


@dataclass
class Dreamed(Prediction):
    """One step of a `DreamEngine`.

    Attributes:
        located: What is in the new latents, where the engine looks and the bundle has a readout.
    """

    located: Located | None = None


class _Seeing(nn.Module):
    """A dynamics network and the readout as one, for a compiler to see both."""

    def __init__(self, dynamics: DynamicsNetwork, readout: Readout):
        super().__init__()
        self.dynamics, self.readout = dynamics, readout

    def forward(self, *inputs: Tensor | None) -> Dreamed:
        """What the dynamics predicts, and what the readout finds in it."""
        prediction = self.dynamics(*inputs)
        return Dreamed(prediction.latent, prediction.uncertainty, located=self.readout(prediction.latent))


class DreamEngine:
    """B dreams that advance together.

    Args:
        world_model: What to dream with; the dreams live on its device.
        num_dreams: B.
        dtype: Precision of the networks, as of `FastModule`. The latents themselves are always float32.
        compile: Whether to compile them, as of `FastModule`.
        look: Whether each step also reads from the new latents what is where.

    Attributes:
        network: The dynamics network, and the readout behind it, as they are called.
        noise_dim: Dimensions of the noise that a stochastic network takes, Z; 0 for any other.

    Raises:
        ValueError: If an argument is none of these.
        MemoryError: If there is no room for so many dreams; says how many there is room for.
    """

    def __init__(
        self,
        world_model: WorldModel,
        num_dreams: int,
        dtype: Precision = "float32",
        compile: Compile = False,
        look: bool = False,
    ):
        if num_dreams < 1:
            raise ValueError(f"expected at least one dream, got {num_dreams}")
        self.world_model = world_model
        self.num_dreams = num_dreams
        self.noise_dim = int(getattr(world_model.dynamics, "noise_dim", 0))
        readout, network = world_model.perception.readout, world_model.dynamics
        called = network if readout is None or not look else _Seeing(network, readout)
        self.network = FastModule(called, num_dreams, dtype, compile)
        *_, height, width = world_model.perception.latent_shape
        pieces = -(-num_dreams * height * width // _CELLS) if world_model.device.type == "cpu" else 1
        size = -(-num_dreams // pieces)  # of equal size, for a compiler
        self._pieces = [slice(first, first + size) for first in range(0, num_dreams, size)]
        # The contexts are a window that moves along a history of twice their length: a step writes one latent and moves
        # none, except that every K steps the window returns to the beginning.
        self._length = world_model.dynamics.context_length
        shape = (2 * self._length, *world_model.perception.latent_shape)
        _check_room(num_dreams, math.prod(shape) * torch.float32.itemsize, world_model.device)
        self._history = torch.zeros(num_dreams, *shape, device=world_model.device)
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
    def step(self, actions: Tensor, noise: Tensor | None = None) -> Dreamed:
        """Advance every dream by one control step.

        Args:
            actions: In the scene's units, (B, A), on the dreams' device.
            noise: Standard normal (B, Z) for a sample of a stochastic network; without it the mean is dreamed.

        Returns:
            The next latents, also the newest of `context` from now on, the model's uncertainty if it has one, and what
            is where if the engine looks.

        Raises:
            ValueError: If there are not B actions, or they are on another device, or the noise has another shape.
        """
        if len(actions) != self.num_dreams or actions.device.type != self._history.device.type:
            raise ValueError(
                f"expected {self.num_dreams} actions on {self._history.device.type}, got {len(actions)} "
                f"on {actions.device.type}"
            )
        if noise is not None and (not self.noise_dim or noise.shape != (self.num_dreams, self.noise_dim)):
            raise ValueError(
                f"expected noise of shape {(self.num_dreams, self.noise_dim)}, got {tuple(noise.shape)}"
                f"{'' if self.noise_dim else ': this dynamics is deterministic'}"
            )
        scaled = self.world_model.perception.scale_actions(actions)
        if self._end == self._history.shape[1]:  # back to the beginning, with room for one more
            self._history[:, : self._length] = self._history[:, self._length :]
            self._end = self._length
        context = self.context
        inputs: tuple[Tensor | None, ...] = (context, scaled)
        if noise is not None:  # after the target, which only training has
            inputs = (*inputs, None, noise)
        dreamed = _joined(
            [self.network(*(None if each is None else each[piece] for each in inputs)) for piece in self._pieces]
        )
        self._history[:, self._end] = dreamed.latent
        self._end += 1
        return dreamed

    @torch.inference_mode()
    def open_loop(self, context: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Dream without looking.

        Args:
            context: (B, K, C, h, w).
            actions: To follow, in the scene's units, (B, T, A).
            generator: Draws the noise of a stochastic network; without one the mean is dreamed.

        Returns:
            The dreamed latents (B, T, C, h, w).
        """
        self.reset(context)
        dreamed = self._history.new_empty(len(context), actions.shape[1], *context.shape[2:])
        for step in range(actions.shape[1]):
            noise = None
            if generator is not None:
                noise = torch.randn(self.num_dreams, self.noise_dim, generator=generator).to(self._history.device)
            dreamed[:, step] = self.step(actions[:, step], noise).latent
        return dreamed


def _check_room(num_dreams: int, size: int, device: torch.device) -> None:
    """Refuse dreams of `size` bytes each that do not fit; the system would grant them, and kill the process later."""
    if device.type == "cpu":
        free = psutil.virtual_memory().available
    elif device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # what PyTorch keeps to reuse
    else:
        return
    if num_dreams * size > free:
        raise MemoryError(
            f"{num_dreams} dreams need {num_dreams * size / 2**30:.1f} GiB for their contexts alone, but {device} has "
            f"{free / 2**30:.1f} GiB free; {int(free // (2 * size))} would fit with room to work in"
        )


def _joined(parts: list[Prediction]) -> Dreamed:
    """The predictions for parts of a batch as one, float32."""
    if len(parts) == 1:
        (only,) = parts
        return Dreamed(only.latent.float(), only.uncertainty, located=getattr(only, "located", None))
    located = None
    seen = [part.located for part in parts if isinstance(part, Dreamed) and part.located is not None]
    if seen:
        located = Located(
            torch.cat([each.positions for each in seen]),
            torch.cat([each.presence for each in seen]),
            _together([each.headings for each in seen]),
        )
    latent = torch.cat([part.latent.float() for part in parts])
    return Dreamed(latent, _together([part.uncertainty for part in parts]), located=located)


def _together(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """Tensors of parts as one, float32; None where there are none."""
    given = [tensor.float() for tensor in tensors if tensor is not None]
    return torch.cat(given) if given else None
