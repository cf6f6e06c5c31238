"""What does each part of the report's recipe give? Its ResNet-Rollout with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .recipe import Stage


@dataclass(frozen=True)
class Ablation:
    """What is changed about `resnet_rollout.yaml`.

    Attributes:
        dynamics: Fields of the network's shape.
        fit: Fields of the training recipe.
        episodes: How many of each kind are learned from; all when None.
    """

    dynamics: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    episodes: int | None = None


ABLATIONS = {
    "context_1": Ablation(dynamics={"context_length": 1}),
    "context_8": Ablation(dynamics={"context_length": 8}),
    "one_step": Ablation(fit={"stages": (Stage(1, motion_bias=0.0),)}),
    "unweighted": Ablation(fit={"motion_weight": 1.0}),
    "ten_times_the_weights": Ablation(dynamics={"width": 216}),
    "one_trajectory_a_kind": Ablation(episodes=1),
    "motion_weight_3": Ablation(fit={"motion_weight": 3.0}),
    "motion_weight_30": Ablation(fit={"motion_weight": 30.0}),
    "rate_0.0003": Ablation(fit={"lr": 3e-4}),
    "rate_0.003": Ablation(fit={"lr": 3e-3}),
}
