"""Dynamics models behind the `Dynamics` contract, by the name they have in a bundle's config."""

from typing import Any

from .probabilistic_plus import ProbabilisticPlus, ProbabilisticPlusConfig
from .resnet_rollout import ResNetRollout, ResNetRolloutConfig, load_seed_checkpoint, to_seed_state_dict
from .unet import LatentUNet, LatentUNetConfig

DYNAMICS: dict[str, tuple[Any, Any]] = {
    "resnet_rollout": (ResNetRollout, ResNetRolloutConfig),
    "probabilistic_plus": (ProbabilisticPlus, ProbabilisticPlusConfig),
    "unet": (LatentUNet, LatentUNetConfig),
}

__all__ = [
    "DYNAMICS",
    "LatentUNet",
    "LatentUNetConfig",
    "ProbabilisticPlus",
    "ProbabilisticPlusConfig",
    "ResNetRollout",
    "ResNetRolloutConfig",
    "load_seed_checkpoint",
    "to_seed_state_dict",
]
