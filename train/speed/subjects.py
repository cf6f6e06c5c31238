"""What is timed? The dream's bare network, the report's form of it, and the actions that drive them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cosmos_isaac_wm.contexts import Contexts
from cosmos_isaac_wm.dynamics import ResNetRollout, to_seed_state_dict
from cosmos_isaac_wm.dynamics.network import history_of, observed_of
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.precision import FastModule
from cosmos_isaac_wm.protocols import Prediction
from cosmos_isaac_wm.world_model import WorldModel


class SeedForm(nn.Module):
    """The report's network as its report describes it: Conv3d over a time axis of length one, contiguous, float32.

    Args:
        model: Whose weights it has; of the report's shape.
    """

    def __init__(self, model: ResNetRollout):
        super().__init__()
        config = model.config
        width, groups = config.width, config.groups
        inputs = config.context_length * config.channels

        def layer(channels: int) -> list[nn.Module]:
            return [nn.Conv3d(channels, width, 3, padding=1), nn.GroupNorm(groups, width)]

        self.first = nn.Sequential(*layer(inputs))
        self.blocks = nn.ModuleList(nn.Sequential(*layer(width), *layer(width)) for _ in range(config.blocks))
        self.last = nn.Conv3d(width, config.channels, 3, padding=1)
        weights = to_seed_state_dict(model).values()
        self.load_state_dict(dict(zip(self.state_dict(), weights, strict=True)))

    def forward(self, context: Tensor) -> Tensor:
        """Context (B, K, C, h, w) to the next latent (B, C, h, w)."""
        act = nn.functional.silu
        x = act(self.first(torch.cat(list(context.unbind(1)), dim=1).unsqueeze(2)))
        for block in self.blocks:
            x = x + act(block[2:](act(block[:2](x))))  # type: ignore[index]
        latent: Tensor = self.last(x).squeeze(2)
        return latent


class SeedLoop:
    """The report's dream: a concatenated context, shifted by copying.

    Args:
        network: Its network.
        context: Where to begin, (B, K, C, h, w).
    """

    def __init__(self, network: SeedForm, context: Tensor):
        self.network, self.context = network, context.clone()

    @torch.no_grad()
    def step(self) -> Tensor:
        """Advance; the new latents (B, C, h, w)."""
        latent: Tensor = self.network(self.context)
        self.context = torch.cat([self.context[:, 1:], latent.unsqueeze(1)], dim=1)
        return latent


class Still(nn.Module):
    """Nothing ever moves."""

    action_dim = 0

    def __init__(self, context_length: int):
        super().__init__()
        self.context_length = context_length

    def forward(self, context: Tensor, action: Tensor) -> Prediction:
        """The last latent of a context (B, K, C, h, w)."""
        return Prediction(context[:, -1])


Subject = Callable[[], None]


def draw_actions(model: WorldModel, batch: int, seed: int) -> NDArray[np.float32]:
    """Random actions (B, A)."""
    low, high = model.scene.action_low, model.scene.action_high
    return np.random.default_rng(seed).uniform(low, high, (batch, model.scene.action_dim)).astype(np.float32)


def bare_forward(network: FastModule, model: WorldModel, context: Tensor, actions: NDArray[np.float32]) -> Subject:
    """A call of nothing but a dynamics network, on contexts (B, K, C, h, w) and actions (B, A)."""
    scaled = model.perception.scale_actions(torch.from_numpy(actions).to(context.device))
    scaled = _shown(model, scaled)

    @torch.no_grad()
    def call() -> None:
        network(context, scaled)

    return call


def _shown(model: WorldModel, actions: Tensor) -> Tensor:
    """Actions (B, A) as if nothing else had been done before, and an average observed, (B, (H + 1) A + D)."""
    steps = actions.repeat(1, history_of(model.dynamics) + 1)
    return torch.cat([steps, steps.new_zeros(len(steps), observed_of(model.dynamics))], dim=1)


def count_flops(model: WorldModel, actions: NDArray[np.float32]) -> int:
    """Floating point operations of one forward pass."""
    latents = model.contexts.latents[:1].float().to(model.device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        led = torch.from_numpy(actions[:1]).to(model.device)
        model.dynamics(latents, _shown(model, led))
    return int(counter.get_total_flops()) * len(actions)


def stretched(model: WorldModel, dynamics: ResNetRollout, grid: int) -> WorldModel:
    """A world model of another dynamics, whose pictures have latents of `grid` x `grid` cells."""
    perception = model.perception
    side = grid * perception.tokenizer.compression
    scene = dataclasses.replace(model.scene, image_size=(side, side), markers=(), agent=None)
    sight = Perception(scene, perception.tokenizer).to(model.device)
    empty = torch.zeros(1, dynamics.context_length, dynamics.channels, grid, grid)
    number = torch.zeros(1, dtype=torch.int64)
    contexts = Contexts(empty, torch.zeros(1, dynamics.context_length, 0, 2), torch.zeros(1, 0), number, number, [""])
    return WorldModel(sight, dynamics, contexts)
