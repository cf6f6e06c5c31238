"""Dynamics models behind the `Dynamics` contract, by the name they have in a bundle's config."""

from .resnet_rollout import ResNetRollout, ResNetRolloutConfig, load_seed_checkpoint, to_seed_state_dict

DYNAMICS = {"resnet_rollout": (ResNetRollout, ResNetRolloutConfig)}

__all__ = ["DYNAMICS", "ResNetRollout", "ResNetRolloutConfig", "load_seed_checkpoint", "to_seed_state_dict"]
