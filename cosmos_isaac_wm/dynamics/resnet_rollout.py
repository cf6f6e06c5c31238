"""What is ResNet-Rollout? A small residual conv net: the last K latents and the action to the next latent.

The report's network is Conv3d over a time axis of length one, where only the centre slice of each kernel ever meets
data. Here it is in its folded Conv2d form: 342,736 live weights instead of 1,024,720, equal outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..protocols import Prediction
from .network import DynamicsNetwork, bounded, input_planes


@dataclass(frozen=True)
class ResNetRolloutConfig:
    """Shape of a `ResNetRollout`; the defaults are the report's network.

    Attributes:
        channels: Latent channels, C.
        context_length: Latents it looks back on, K.
        action_dim: Action dimensions, A; 0 ignores actions, as in the report.
        history: Earlier actions that it sees beside the current one, H, less than K. One where an action is to be seen
            a frame later only: in simulators that move things before they push them (explicit Euler), with latency.
        observed: Components of an observation that it is told before every step, D. Where observations are carried on
            (`HeadsConfig.carries`), so that pictures follow them.
        width: Feature channels.
        blocks: Residual blocks.
        dropout: Dropout inside the blocks.
        norm: "group", as in the report: after every convolution, over groups of channels and the whole picture. Or
            "layer": before every block, over the channels of one cell, so that how precisely one object is
            predicted does not depend on what else is in view.
        groups: Groups of the group normalisation.
        patch: Latent cells are gathered in patch x patch blocks first, so 2 works at half the latent grid.
        blend: Predict, besides the latent, how much of each cell is new; the rest is taken from the last latent, so
            that what rests stays exactly as it is.
        coordinates: Feed the cell's position, so that walls need not be inferred from the padding.
    """

    channels: int = 16
    context_length: int = 4
    action_dim: int = 0
    history: int = 0
    observed: int = 0
    width: int = 64
    blocks: int = 4
    dropout: float = 0.1
    norm: Literal["group", "layer"] = "group"
    groups: int = 8
    patch: int = 1
    blend: bool = False
    coordinates: bool = False


_SMALL_GRID = 32 * 32  # latent cells; measured on two cores: 18 against 28 ms at 16 x 16, 45 against 36 at 64 x 64


@torch.library.custom_op("cosmos_isaac_wm::group_norm", mutates_args=())
def _group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.group_norm(x, groups, weight, bias, eps)


@_group_norm.register_fake
def _(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)


class _GroupNorm(nn.GroupNorm):
    """Group normalisation that the compiler leaves alone on large grids, where PyTorch's own kernel is faster."""

    def forward(self, x: Tensor) -> Tensor:
        small = x.shape[-2] * x.shape[-1] <= _SMALL_GRID
        if small or torch.is_grad_enabled() or x.device.type != "cpu":
            return super().forward(x)
        normalised: Tensor = _group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return normalised


class _Dropout(nn.Dropout):
    """Dropout whose mask a processor draws sixteen bits an element: PyTorch's draws took a quarter of an update."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        kept = round((1 - self.p) * 2**16)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        scale = torch.empty_like(x)  # filled in the order of the memory, channels last or not
        scale.as_strided((x.numel(),), (1,)).copy_(bits[: x.numel()] < kept - 2**15)
        return x * scale.mul_(2**16 / kept)


class _Block(nn.Module):
    """conv-GN-SiLU-dropout-conv-GN-SiLU plus the input."""

    def __init__(self, width: int, groups: int, dropout: float):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.first_norm = _GroupNorm(groups, width)
        self.dropout = _Dropout(dropout)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.second_norm = _GroupNorm(groups, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.silu(self.first_norm(self.first(x))))
        return x + F.silu(self.second_norm(self.second(hidden)))


class _CellNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every cell of (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PreNormBlock(nn.Module):
    """LN-conv-SiLU-dropout-conv plus the input, starting as the identity."""

    def __init__(self, width: int, dropout: float = 0.0):
        super().__init__()
        self.norm = _CellNorm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.dropout = _Dropout(dropout)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, width, h, w) to the same."""
        hidden: Tensor = self.second(self.dropout(F.silu(self.first(self.norm(x)))))
        return x + hidden


class ResNetRollout(DynamicsNetwork):
    """The dynamics model behind the `Dynamics` contract.

    Args:
        config: Its shape.
    """

    def __init__(self, config: ResNetRolloutConfig = ResNetRolloutConfig()):
        super().__init__()
        self.config: ResNetRolloutConfig = config
        self.channels, self.action_dim = config.channels, config.action_dim
        self.context_length, self.history, self.observed = config.context_length, config.history, config.observed
        if not 0 <= config.history < config.context_length:
            raise ValueError(f"history must be at least 0 and less than context_length, got {config.history}")
        cell = config.channels * config.patch**2
        inputs = config.context_length * cell + (config.history + 1) * config.action_dim + config.observed
        inputs += 2 * config.coordinates
        self.in_projection = nn.Conv2d(inputs, config.width, 3, padding=1)
        self.in_norm: nn.Module
        blocks: list[nn.Module]
        if config.norm == "group":
            self.in_norm = nn.Sequential(_GroupNorm(config.groups, config.width), nn.SiLU())
            blocks = [_Block(config.width, config.groups, config.dropout) for _ in range(config.blocks)]
        else:
            self.in_norm = nn.Identity()
            blocks = [PreNormBlock(config.width, config.dropout) for _ in range(config.blocks)]
        self.blocks = nn.Sequential(*blocks)
        self.out_projection = nn.Conv2d(config.width, cell + config.blend * config.patch**2, 3, padding=1)
        if config.blend:  # start near "nothing moves": a new share of 12 %, and little to blend in
            nn.init.normal_(self.out_projection.weight, std=0.01)
            assert self.out_projection.bias is not None
            nn.init.zeros_(self.out_projection.bias)
            nn.init.constant_(self.out_projection.bias[cell:], -2.0)

    def forward(self, context: Tensor, action: Tensor) -> Prediction:
        """One step ahead.

        Args:
            context: The last K normalised latents, oldest first, (B, K, C, h, w).
            action: The action that leads to the next frame, after the H before it, scaled to [-1, 1], and what is
                observed before it, normalised, (B, (H + 1) A + D); ignored when A is 0.
        """
        patch, channels = self.config.patch, self.channels
        x = input_planes(self, context, action, patch, self.config.coordinates)
        x = self.blocks(self.in_norm(self.in_projection(x)))
        latent = self.out_projection(x).float()
        if patch > 1:
            latent = F.pixel_shuffle(latent, patch)
        if self.config.blend:
            latent, share = latent[:, :channels], torch.sigmoid(latent[:, channels:])
            latent = torch.lerp(context[:, -1].float(), latent, share)
        return Prediction(bounded(latent))


def grown(model: ResNetRollout, larger: Mapping[str, Any]) -> ResNetRollout:
    """A larger network that predicts the same, until it is trained on: what is new adds nothing yet.

    Args:
        model: The network.
        larger: New values of `context_length`, `history` or, with layer normalisation, `blocks`.

    Raises:
        ValueError: If that is not larger, or something else of its shape.
    """
    config, grows = model.config, ["context_length", "history", *(["blocks"] if model.config.norm == "layer" else [])]
    for name, value in larger.items():
        if name not in grows:
            raise ValueError(f"a trained dynamics grows in {grows}, not in {name!r}")
        if value < getattr(config, name):
            raise ValueError(f"a trained dynamics grows only: {name} is {getattr(config, name)} already, got {value}")
    new = ResNetRollout(replace(config, **larger))
    state, old = new.state_dict(), model.state_dict()
    older = (new.config.context_length - config.context_length) * config.channels * config.patch**2
    seen, acts = config.context_length * config.channels * config.patch**2, config.action_dim
    earlier = (new.config.history - config.history) * acts
    columns = old.pop("in_projection.weight")
    blank = torch.zeros_like(columns[:, :1])
    old["in_projection.weight"] = torch.cat(
        [blank.expand(-1, older, -1, -1), columns[:, :seen], blank.expand(-1, earlier, -1, -1), columns[:, seen:]],
        dim=1,
    )
    new.load_state_dict(state | old)
    return new.to(columns.device)


def load_seed_checkpoint(path: str | Path) -> ResNetRollout:
    """Read a checkpoint of the report's Conv3d network and fold it exactly into Conv2d form.

    Tensors are matched by order and shape, so any attribute names will do, with or without `_orig_mod.` in front.

    Args:
        path: A PyTorch state dict, plain or under "model", "state_dict" or "model_state_dict"; nothing in it is
            executed.

    Raises:
        ValueError: If the file is no such checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a PyTorch checkpoint that loads without running code: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state dict")
    for key in ("model", "state_dict", "model_state_dict"):
        state = state.get(key, state)
    tensors = [tensor for tensor in state.values() if isinstance(tensor, Tensor)]
    first = tensors[0] if tensors else torch.empty(0)
    if first.ndim != 5:
        raise ValueError(f"{path} does not start with a Conv3d weight, so it is not the report's network")
    last = [tensor for tensor in tensors if tensor.ndim == 5][-1]
    config = ResNetRolloutConfig(
        channels=last.shape[0],
        context_length=first.shape[1] // last.shape[0],
        width=first.shape[0],
        blocks=(sum(tensor.ndim == 5 for tensor in tensors) - 2) // 2,
    )
    model = ResNetRollout(config)
    targets = model.state_dict()
    if len(targets) != len(tensors):
        raise ValueError(f"{path} has {len(tensors)} tensors, the folded network {len(targets)}")
    for (name, target), tensor in zip(targets.items(), tensors, strict=True):
        folded = tensor[:, :, tensor.shape[2] // 2] if tensor.ndim == 5 else tensor
        if folded.shape != target.shape:
            raise ValueError(
                f"{path}: a tensor of shape {tuple(tensor.shape)} does not fit {name} {tuple(target.shape)}"
            )
        target.copy_(folded)
    model.load_state_dict(targets)
    return model


def to_seed_state_dict(model: ResNetRollout) -> dict[str, Tensor]:
    """The weights in the report's Conv3d form, with zeros where its kernels only ever meet padding.

    Raises:
        ValueError: If the model uses an option that the report's network does not have.
    """
    config = model.config
    if config != replace(
        config, action_dim=0, history=0, observed=0, norm="group", blend=False, coordinates=False, patch=1
    ):
        raise ValueError(
            "only action_dim=0, history=0, observed=0, norm='group', blend=False, coordinates=False, patch=1 exist in "
            "the report's network"
        )
    unfolded = {}
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 4:
            volume = tensor.new_zeros(*tensor.shape[:2], 3, *tensor.shape[2:])
            volume[:, :, 1] = tensor
            tensor = volume
        unfolded[name] = tensor
    return unfolded
