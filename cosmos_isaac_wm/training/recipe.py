"""By which recipe is the dynamics trained? What a YAML file of `fit-dynamics` fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        rollout: Self-fed steps per update.
        persistence: Probability that a dream goes on after an update instead of being restarted. Keep it 0 while the
            model knows nothing: contexts of its own blur teach nothing about motion.
        motion_bias: How much more often windows are drawn in which the object moves, per decimetre; 0 draws evenly.
        share: How much of the training, in proportion to the other stages' shares.
    """

    rollout: int = 1
    persistence: float = 0.0
    motion_bias: float = 5.0
    share: float = 1.0


@dataclass(frozen=True)
class FitConfig:
    """How the dynamics is trained.

    Attributes:
        updates: Optimiser steps; with `epochs` the larger of the two counts. With none a model that was fitted already
            stays as it is, and is only judged anew: its verdict, its figures, and how far it may be off. Start contexts
            are drawn anew from the data.
        minutes: Train no longer than this, validations included; the stages, the warm-up and the cool-down follow the
            clock where it is ahead of the updates, so `updates` may be more than will ever fit.
        epochs: Passes over all windows, or 0 to count updates only.
        batch_size: Dreams that advance together.
        stages: From single steps to long rollouts, in the order in which they are trained.
        optimizer: "muon" orthogonalises the updates of the weights and leaves biases and norms to AdamW; "adamw".
        lr: Peak learning rate; Muon's steps are scaled to the size of AdamW's, so one rate serves both.
        weight_decay: Decoupled weight decay.
        warmup: Share of the training in which the learning rate rises to its peak.
        cooldown: Share of the training at its end in which it falls to nothing; it is flat in between.
        motion_weight: Weight of latent elements that move by more than `motion_threshold` from frame to frame.
        motion_threshold: In normalised latents.
        foreground_weight: Weight of latent cells that differ from the background, moving or not; 0 for none.
        gradient_weight: Weight of the gradient-difference loss, the L1 distance between the spatial gradients of
            predicted and true latents (Mathieu et al., "Deep multi-scale video prediction beyond mean square error").
        kl_weight: Weight per nat of what a stochastic model's posterior knows beyond its prior.
        free_bits: Nats of that per noise dimension that cost nothing.
        position_weight: Weight of the position error in decimetres that the readout sees in dreamed latents, counted
            from where the dream was when the update began.
        heading_weight: Weight of the heading's error, as the distance of unit vectors, counted like the position's.
        divergence: Distance in metres from the truth at which a dream is given up, as it is (with a heading weight)
            when its cube has turned away: it is restarted, and trained on no further, because the one answer to a
            picture of somewhere else is a blur.
        observation_weight: Weight of the error, in standard deviations, of what the heads read in dreamed latents of a
            foreign environment.
        observation_divergence: The same error, a root mean square over components, at which such a dream is given up.
        ema: Decay of the weights' moving average that is validated and kept; less in the first updates; 0 for none.
        context_noise: Standard deviation of Gaussian noise on the real contexts that dreams are restarted with, in
            normalised latents; a model that has seen such forgives its own errors (Valevski et al., "Diffusion models
            are real-time game engines"). 0 for none.
        clip: Greatest norm of the gradient.
        mirror: Use every episode a second time in the mirror, where the scene allows it.
        precision: "bf16", "fp32", or "auto": bf16 where the processor or GPU has it.
        compile: Whether the network is compiled for training, which takes up to a minute; "auto" on a GPU, where the
            fit is 5,000 updates long or more, and five minutes, if it is limited by the clock.
        validate_every: Updates between validations.
    """

    updates: int = 15000
    minutes: float | None = None
    epochs: int = 0
    batch_size: int = 64
    stages: tuple[Stage, ...] = (Stage(share=2), Stage(2, 0.3), Stage(4, 0.7), Stage(8, 0.8))
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 3e-3
    weight_decay: float = 1e-2
    warmup: float = 0.02
    cooldown: float = 0.25
    motion_weight: float = 10.0
    motion_threshold: float = 0.1
    foreground_weight: float = 4.0
    gradient_weight: float = 0.0
    kl_weight: float = 0.001
    free_bits: float = 0.05
    position_weight: float = 5.0
    heading_weight: float = 1.0
    divergence: float = 0.03
    observation_weight: float = 2.0
    observation_divergence: float = 0.7
    ema: float = 0.999
    context_noise: float = 0.0
    clip: float = 1.0
    mirror: bool = True
    precision: str = "auto"
    compile: bool | Literal["auto"] = "auto"
    validate_every: int = 1000

    def __post_init__(self) -> None:
        if not self.stages or min(stage.share for stage in self.stages) <= 0:
            raise ValueError(f"training needs at least one stage, each with a share above 0; got {self.stages}")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes:g}")
        if self.context_noise < 0:
            raise ValueError(f"context_noise must not be negative, got {self.context_noise:g}")

    def stage(self, progress: float) -> Stage:
        """The stage when this share of the training is done, in [0, 1)."""
        ends = np.cumsum([stage.share for stage in self.stages])
        return self.stages[int(np.searchsorted(ends, progress * ends[-1], side="right"))]
