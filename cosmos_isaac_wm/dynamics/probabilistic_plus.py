"""What is Probabilistic Plus? A residual conv net with a noise variable, for futures the context leaves open.

While training, a posterior that sees the true next latent says what the noise was, and a prior that does not see it
learns to guess that; in a dream the noise comes from the prior, its mean or a sample. After Denton and Fergus,
"Stochastic Video Generation with a Learned Prior" (2018). The report names neither width nor depth, so these are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ..protocols import Prediction
from .network import DynamicsNetwork, bounded, input_planes
from .resnet_rollout import PreNormBlock


@dataclass(frozen=True)
class ProbabilisticPlusConfig:
    """Shape of a `ProbabilisticPlus`.

    Attributes:
        channels: Latent channels, C.
        context_length: Latents it looks back on, K.
        action_dim: Action dimensions, A; 0 ignores actions.
        width: Feature channels.
        blocks: Residual blocks; the noise enters after half of them.
        noise_dim: Dimensions of the noise variable, Z.
    """

    channels: int = 16
    context_length: int = 4
    action_dim: int = 0
    width: int = 192
    blocks: int = 13
    noise_dim: int = 16


class _Gaussian(nn.Module):
    """Mean and logarithm of the standard deviation, (B, Z) each, from features (B, inputs, h, w)."""

    def __init__(self, inputs: int, width: int, noise_dim: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()
        )
        self.ends = nn.Linear(width, 2 * noise_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # The maximum, not the mean: what is uncertain is a small part of the picture.
        mean, log_std = self.ends(self.features(x).amax(dim=(2, 3))).float().chunk(2, dim=1)
        return mean, log_std.clamp(-6.0, 2.0)


class ProbabilisticPlus(DynamicsNetwork):
    """The dynamics model behind the `Dynamics` contract; also takes noise and, while training, the target.

    Args:
        config: Its shape.

    Attributes:
        noise_dim: Dimensions of the noise that `forward` takes, Z.
    """

    def __init__(self, config: ProbabilisticPlusConfig = ProbabilisticPlusConfig()):
        super().__init__()
        self.config: ProbabilisticPlusConfig = config
        self.channels, self.action_dim = config.channels, config.action_dim
        self.context_length, self.noise_dim = config.context_length, config.noise_dim
        width, early = config.width, config.blocks // 2
        self.in_projection = nn.Conv2d(config.context_length * config.channels + config.action_dim, width, 3, padding=1)
        self.early = nn.Sequential(*(PreNormBlock(width) for _ in range(early)))
        self.prior = _Gaussian(width, width, config.noise_dim)
        self.posterior = _Gaussian(width + config.channels, width, config.noise_dim)
        self.noise_projection = nn.Linear(config.noise_dim, width)
        self.late = nn.Sequential(*(PreNormBlock(width) for _ in range(config.blocks - early)))
        self.out_projection = nn.Conv2d(width, config.channels, 3, padding=1)

    def forward(
        self, context: Tensor, action: Tensor, target: Tensor | None = None, noise: Tensor | None = None
    ) -> Prediction:
        """One step ahead.

        Args:
            context: The last K normalised latents, oldest first, (B, K, C, h, w).
            action: The action that leads to the next frame, scaled to [-1, 1], (B, A); ignored when A is 0.
            target: While training, the true next latent (B, C, h, w); the noise then comes from the posterior, and the
                prediction has a `kl`.
            noise: Standard normal (B, Z) for a sample; without it a dream has the mean, and training draws.
        """
        x = self.early(self.in_projection(input_planes(self, context, action)))
        mean, log_std = self.prior(x)
        kl = None
        if target is not None:
            known, known_log_std = self.posterior(torch.cat([x, target.to(x.dtype)], dim=1))
            kl = kl_divergence(Normal(known, known_log_std.exp()), Normal(mean, log_std.exp()))
            mean, log_std = known, known_log_std
            noise = torch.randn_like(mean) if noise is None else noise
        drawn = mean if noise is None else mean + noise * log_std.exp()
        x = x + self.noise_projection(drawn.to(x.dtype))[:, :, None, None]
        return Prediction(bounded(self.out_projection(self.late(x))), kl=kl)
