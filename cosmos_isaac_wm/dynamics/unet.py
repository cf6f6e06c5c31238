"""What are Rollout and Sharp-Shooter, ResNet-Rollout's large rivals? A U-Net that predicts the next latent.

Both look at a single frame and have about 84 million parameters; they differ in how they are trained (configs
rollout.yaml and sharp_shooter.yaml). The report names neither widths nor depths, so these are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..protocols import Prediction
from .network import DynamicsNetwork, bounded, input_planes


@dataclass(frozen=True)
class LatentUNetConfig:
    """Shape of a `LatentUNet`.

    Attributes:
        channels: Latent channels, C.
        context_length: Latents it looks back on, K; one frame shows no velocity.
        action_dim: Action dimensions, A; 0 ignores actions.
        width: Feature channels at the full latent grid.
        multipliers: Feature channels per level as multiples of `width`; every level halves the grid.
        blocks: Residual blocks per level on the way down; one more on the way up.
        groups: Groups of the group normalisation.
    """

    channels: int = 16
    context_length: int = 1
    action_dim: int = 0
    width: int = 124
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    groups: int = 4


class _Block(nn.Module):
    """GN-SiLU-conv-GN-SiLU-conv plus the input, which is projected where the channels change."""

    def __init__(self, inputs: int, outputs: int, groups: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(groups, inputs),
            nn.SiLU(),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.GroupNorm(groups, outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.skip(x) + self.body(x)
        return added


class LatentUNet(DynamicsNetwork):
    """The dynamics model behind the `Dynamics` contract.

    Args:
        config: Its shape.
    """

    def __init__(self, config: LatentUNetConfig = LatentUNetConfig()):
        super().__init__()
        self.config: LatentUNetConfig = config
        self.channels, self.action_dim = config.channels, config.action_dim
        self.context_length = config.context_length
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.in_projection = nn.Conv2d(
            config.context_length * config.channels + config.action_dim, widths[0], 3, padding=1
        )
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        kept, current = [widths[0]], widths[0]
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList())
            for _ in range(config.blocks):
                self.down[level].append(_Block(current, width, config.groups))  # type: ignore[operator]
                kept.append(current := width)
            if level < len(widths) - 1:
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle = nn.Sequential(*(_Block(current, current, config.groups) for _ in range(2)))
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            self.up.append(nn.ModuleList())
            for _ in range(config.blocks + 1):
                self.up[-1].append(_Block(current + kept.pop(), width, config.groups))  # type: ignore[operator]
                current = width
            if level:
                self.grow.append(nn.Conv2d(width, width, 3, padding=1))
        self.out_projection = nn.Sequential(
            nn.GroupNorm(config.groups, current), nn.SiLU(), nn.Conv2d(current, config.channels, 3, padding=1)
        )

    def forward(self, context: Tensor, action: Tensor) -> Prediction:
        """One step ahead.

        Args:
            context: The last K normalised latents, oldest first, (B, K, C, h, w).
            action: The action that leads to the next frame, scaled to [-1, 1], (B, A); ignored when A is 0.
        """
        x = self.in_projection(input_planes(self, context, action))
        kept = [x]
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
                kept.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
                kept.append(x)
        x = self.middle(x)
        for level, blocks in enumerate(self.up):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(torch.cat([x, kept.pop()], dim=1))
            if level < len(self.grow):
                x = self.grow[level](F.interpolate(x, size=kept[-1].shape[-2:]))
        return Prediction(bounded(self.out_projection(x)))
