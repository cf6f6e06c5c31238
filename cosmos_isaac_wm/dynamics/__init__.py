"""Dynamics models behind the `Dynamics` contract, by the name they have in a bundle's config."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .network import DynamicsNetwork
from .probabilistic_plus import ProbabilisticPlus, ProbabilisticPlusConfig
from .resnet_rollout import ResNetRollout, ResNetRolloutConfig, grown, load_seed_checkpoint, to_seed_state_dict
from .unet import LatentUNet, LatentUNetConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DYNAMICS: dict[str, tuple[Callable[..., DynamicsNetwork], type["DataclassInstance"]]] = {
    "resnet_rollout": (ResNetRollout, ResNetRolloutConfig),
    "probabilistic_plus": (ProbabilisticPlus, ProbabilisticPlusConfig),
    "unet": (LatentUNet, LatentUNetConfig),
}

__all__ = [
    "DYNAMICS",
    "DynamicsNetwork",
    "LatentUNet",
    "LatentUNetConfig",
    "ProbabilisticPlus",
    "ProbabilisticPlusConfig",
    "ResNetRollout",
    "ResNetRolloutConfig",
    "grown",
    "load_seed_checkpoint",
    "to_seed_state_dict",
]
