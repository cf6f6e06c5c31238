"""How do many dreams advance together? A batch, each with its last K latents, stepped by one network call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn

from .borders import ours
from .dynamics.network import DynamicsNetwork, history_of, observed_of
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


class _Step(nn.Module):
    """What a step computes, for a compiler to see as one: contexts gathered, the dynamics, and maybe the readout."""

    def __init__(self, dynamics: DynamicsNetwork, readout: Readout | None):
        super().__init__()
        self.dynamics, self.readout = dynamics, readout

    def forward(self, latents: Tensor, frames: Tensor, actions: Tensor, noise: Tensor | None = None) -> Dreamed:
        """Latents (n, C, h, w), which of them are each dream's context (b, K), what else is shown (b, .), and noise."""
        inputs: tuple[Tensor | None, ...] = latents[frames], actions
        if noise is not None:  # after the target, which only training has
            inputs = (*inputs, None, noise)
        prediction = self.dynamics(*inputs)
        located = None if self.readout is None else self.readout(prediction.latent)
        return Dreamed(prediction.latent, prediction.uncertainty, located=located)


class DreamEngine:
    """B dreams that advance together.

    A dream's context is K rows of one large tensor: the stored starts, and a ring of the last K latents of every dream.
    So a step writes one latent for each dream and moves none, and a restart only changes which rows are its context.

    Args:
        world_model: What to dream with; the dreams live on its device.
        num_dreams: B.
        dtype: Precision of the networks, as of `FastModule`. The latents themselves are always float32.
        compile: Whether to compile them, as of `FastModule`.
        look: Whether each step also reads from the new latents what is where.
        starts: Contexts that `restart` starts from, normalised latents (n, K, C, h, w).

    Attributes:
        network: What a step computes, as it is called.
        noise_dim: Dimensions of the noise that a stochastic network takes, Z; 0 for any other.
        past: The last H scaled actions of every dream, oldest first, (B, H, A); 0 where none is known.
        observed: What is observed in every dream, normalised, where the dynamics is told, (B, D).

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
        starts: Tensor | None = None,
    ):
        if num_dreams < 1:
            raise ValueError(f"expected at least one dream, got {num_dreams}")
        self.world_model = world_model
        self.num_dreams = num_dreams
        self.noise_dim = int(getattr(world_model.dynamics, "noise_dim", 0))
        step = _Step(world_model.dynamics, world_model.perception.readout if look else None)
        self.network = FastModule(step, num_dreams, dtype, compile)
        device, shape = world_model.device, world_model.perception.latent_shape
        self._pieces = pieces(world_model, num_dreams)
        self._length = length = world_model.dynamics.context_length
        self._stored = 0 if starts is None else len(starts)
        first = length * self._stored  # row of the rings: a block of B for each of their K places
        _check_room(num_dreams, length * math.prod(shape) * torch.float32.itemsize, device)
        self._latents = torch.zeros(first + length * num_dreams, *shape, dtype=torch.float32, device=device)
        if starts is not None:
            self._latents[:first] = starts.to(self._latents).flatten(0, 1)
        self._first = first + torch.arange(num_dreams, device=device)  # rows of the rings' first places, (B,)
        self._frames = self._rows(torch.arange(length, device=device))  # rows of each dream's context, oldest first
        self._clock = torch.zeros((), dtype=torch.int64, device=device)  # steps so far
        self.past = no_past(world_model).repeat(num_dreams, 1, 1)
        self._heads = world_model.perception.heads if observed_of(world_model.dynamics) else None
        self.observed = torch.zeros(num_dreams, observed_of(world_model.dynamics), device=device)
        self._begun = None if starts is None or self._heads is None else self._read(starts.to(device).float())

    @property
    @ours
    def context(self) -> Tensor:
        """The last K latents of every dream, oldest first, (B, K, C, h, w)."""
        return self._latents[self._frames]

    @property
    @ours
    def newest(self) -> Tensor:
        """The newest latent of every dream, (B, C, h, w)."""
        return self._latents[self._frames[:, -1]]

    def _rows(self, places: Tensor) -> Tensor:
        """Rows of every dream at places of the rings: (B, k) for places (k,), (B,) for a single one."""
        return self._first.view(-1, *(1,) * places.ndim) + self.num_dreams * places

    @ours
    def reset(self, context: Tensor, slots: Tensor | None = None, past: Tensor | None = None) -> None:
        """Load contexts into all dreams, or into some.

        Args:
            context: Normalised latents (b, K, C, h, w).
            slots: Which dreams they are for: indices (b,); all when None.
            past: The last H scaled actions that led there, or more, oldest first, (b, n, A); unknown when None.

        Raises:
            ValueError: If the shape is not that of b contexts.
        """
        count = self.num_dreams if slots is None else len(slots)
        shape = (count, self._length, *self._latents.shape[1:])
        if context.shape != shape:
            raise ValueError(
                f"expected contexts of shape {shape}, got {tuple(context.shape)}: "
                "were they encoded by this bundle's tokenizer, at its image size?"
            )
        slots = torch.arange(count, device=self._clock.device) if slots is None else slots
        places = (self._clock + torch.arange(self._length, device=self._clock.device)) % self._length
        rows = self._rows(places)[slots]  # the oldest where the next step will write
        self._latents[rows] = context.to(self._latents)
        self._frames[slots] = rows
        history = self.past.shape[1]
        if past is not None and past.shape[1] < history:
            raise ValueError(f"expected the last {history} actions that led to each context, got {past.shape[1]}")
        self.past[slots] = 0.0 if past is None else past[:, past.shape[1] - history :].to(self.past)
        if self._heads is not None:
            self.observed[slots] = self._read(context.to(self._latents), past)

    @ours
    def restart(self, which: Tensor, choice: Tensor) -> None:
        """Start some dreams anew, without a look at which on the host.

        Args:
            which: Mask (B,).
            choice: For each dream one of the stored starts, (B,); of no meaning outside of the mask.
        """
        rows = choice.unsqueeze(1) * self._length + torch.arange(self._length, device=choice.device)
        self._frames.copy_(torch.where(which.unsqueeze(1), rows, self._frames))
        self.past.masked_fill_(which.view(-1, 1, 1), 0.0)
        if self._begun is not None:
            self.observed.copy_(torch.where(which.unsqueeze(1), self._begun[choice], self.observed))

    def _read(self, contexts: Tensor, past: Tensor | None = None) -> Tensor:
        """What is observed, normalised, (n, D), in contexts (n, K, C, h, w) that actions (n, m, A) have led through."""
        assert self._heads is not None
        return self._heads.read(self._heads.remember(contexts, past))

    @ours
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
        if len(actions) != self.num_dreams or actions.device.type != self._latents.device.type:
            raise ValueError(
                f"expected {self.num_dreams} actions on {self._latents.device.type}, got {len(actions)} "
                f"on {actions.device.type}"
            )
        if noise is not None and (not self.noise_dim or noise.shape != (self.num_dreams, self.noise_dim)):
            raise ValueError(
                f"expected noise of shape {(self.num_dreams, self.noise_dim)}, got {tuple(noise.shape)}"
                f"{'' if self.noise_dim else ': this dynamics is deterministic'}"
            )
        scaled = self.world_model.perception.scale_actions(actions)
        known = torch.cat([self.past, scaled.unsqueeze(1)], dim=1)
        inputs = [self._frames, torch.cat([known.flatten(1), self.observed], dim=1)]
        inputs += [] if noise is None else [noise]
        dreamed = _joined([self.network(self._latents, *(each[piece] for each in inputs)) for piece in self._pieces])
        rows = self._rows(self._clock % self._length)
        self._latents.index_copy_(0, rows, dreamed.latent)
        self._frames.copy_(torch.cat([self._frames[:, 1:], rows.unsqueeze(1)], dim=1))
        self.past.copy_(known[:, 1:])
        if self._heads is not None:
            self.observed.copy_(self._heads.carried(self.observed, scaled))
        self._clock += 1
        return dreamed

    @ours
    def open_loop(
        self,
        context: Tensor,
        actions: Tensor,
        generator: torch.Generator | None = None,
        past: Tensor | None = None,
    ) -> Tensor:
        """Dream without looking.

        Args:
            context: (B, K, C, h, w).
            actions: To follow, in the scene's units, (B, T, A).
            generator: Draws the noise of a stochastic network; without one the mean is dreamed.
            past: As of `reset`.

        Returns:
            The dreamed latents (B, T, C, h, w).
        """
        self.reset(context, past=past)
        dreamed = self._latents.new_empty(len(context), actions.shape[1], *context.shape[2:])
        for step in range(actions.shape[1]):
            noise = None
            if generator is not None:
                noise = torch.randn(self.num_dreams, self.noise_dim, generator=generator).to(self._latents.device)
            dreamed[:, step] = self.step(actions[:, step], noise).latent
        return dreamed


def no_past(world_model: WorldModel) -> Tensor:
    """Before anything was done: zeros (H, A)."""
    history, size = history_of(world_model.dynamics), world_model.scene.action_dim
    return torch.zeros(history, size, device=world_model.device)


def newer_past(past: Tensor, actions: Tensor) -> Tensor:
    """The last H scaled actions (H, A) after one more, (1, A)."""
    return torch.cat([past, actions])[1:]


def pieces(world_model: WorldModel, num_dreams: int) -> list[slice]:
    """The parts of a batch that are computed one after the other; several where a processor's caches would overflow."""
    _, height, width = world_model.perception.latent_shape
    count = -(-num_dreams * height * width // _CELLS) if world_model.device.type == "cpu" else 1
    size = -(-num_dreams // count)  # of equal size, for a compiler
    return [slice(first, first + size) for first in range(0, num_dreams, size)]


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


def _joined(parts: list[Dreamed]) -> Dreamed:
    """The predictions for parts of a batch as one, float32."""
    if len(parts) == 1:
        (only,) = parts
        return Dreamed(only.latent.float(), only.uncertainty, located=only.located)
    located = None
    seen = [part.located for part in parts if part.located is not None]
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
