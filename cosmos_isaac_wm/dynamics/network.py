"""What do all dynamics networks share? What a bundle needs to know of them, and the planes that they begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..protocols import LATENT_LIMIT, Prediction

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class DynamicsNetwork(nn.Module):
    """A network behind the `Dynamics` contract that a bundle can hold.

    Attributes:
        config: Its shape, from which it can be made again.
        context_length: Latents that it looks back on, K.
        channels: Latent channels, C.
        action_dim: Action dimensions, A; 0 for one that ignores actions.
        history: Earlier actions that it sees beside the current one, H, less than K.
        observed: Components of an environment's observation that it is told before every step, D; 0 for none.
        noise_dim: Dimensions of the noise that a stochastic one takes, Z; 0 for any other.
        in_projection: Its first layer.
    """

    config: DataclassInstance
    context_length: int
    channels: int
    action_dim: int
    history: int = 0
    observed: int = 0
    noise_dim: int = 0
    in_projection: nn.Conv2d
    __call__: Callable[..., Prediction]


def bounded(latent: Tensor) -> Tensor:
    """A predicted latent, float32 and within `LATENT_LIMIT`: whatever the weights are, no dream can run away."""
    return latent.float().clamp(-LATENT_LIMIT, LATENT_LIMIT)


def with_history(actions: Tensor, history: int) -> Tensor:
    """Consecutive actions (B, H + T, A) as a dynamics takes them, (B, T, (H + 1) A): each after the H before it."""
    return actions.unfold(1, history + 1, 1).transpose(2, 3).flatten(2)


def history_of(dynamics: nn.Module) -> int:
    """H of a network, which may know of none."""
    return int(getattr(dynamics, "history", 0))


def observed_of(dynamics: nn.Module) -> int:
    """D of a network, which may know of none."""
    return int(getattr(dynamics, "observed", 0))


def inputs_along(dynamics: nn.Module, actions: Tensor, told: Tensor | None = None) -> Tensor:
    """What a dynamics is shown beside latents at each of T steps, (B, T, (H + 1) A + D).

    Args:
        dynamics: The network.
        actions: Scaled, of the steps and of the H before them, (B, H + T, A).
        told: Normalised observations before each step, (B, T, D), for a network that is told any.
    """
    steps = with_history(actions, history_of(dynamics))
    return steps if told is None else torch.cat([steps, told], dim=2)


def input_planes(
    model: DynamicsNetwork, context: Tensor, action: Tensor, patch: int = 1, coordinates: bool = False
) -> Tensor:
    """What every dynamics network here begins with: context latents, actions as constant planes, coordinates.

    Args:
        model: The network, for its `context_length`, `channels`, `action_dim` and the type of its `in_projection`.
        context: (B, K, C, h, w).
        action: What else it sees, (B, (H + 1) A + D); ignored when the model's A is 0.
        patch: Cells are gathered in patch x patch blocks.
        coordinates: Add a plane of rows and one of columns, in [-1, 1].

    Returns:
        (B, planes, h / patch, w / patch), channels last.

    Raises:
        ValueError: If the context has another length or other channels.
    """
    batch, steps, channels = context.shape[:3]
    if steps != model.context_length or channels != model.channels:
        raise ValueError(
            f"expected a context of {model.context_length} latents with {model.channels} channels, "
            f"got shape {tuple(context.shape)}"
        )
    dtype = model.in_projection.weight.dtype
    x = context.flatten(1, 2)
    if patch > 1:
        x = F.pixel_unshuffle(x, patch)  # (B, K * C * patch^2, h / patch, w / patch)
    x = x.to(dtype, memory_format=torch.channels_last)
    planes = [x]
    if model.action_dim:
        planes.append(action.to(dtype)[:, :, None, None].expand(-1, -1, *x.shape[-2:]))
    if coordinates:
        rows = torch.linspace(-1, 1, x.shape[-2], dtype=torch.float32, device=x.device)
        columns = torch.linspace(-1, 1, x.shape[-1], dtype=torch.float32, device=x.device)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).to(dtype)
        planes.append(grid.expand(batch, -1, -1, -1))
    return torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last)
