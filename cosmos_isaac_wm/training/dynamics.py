"""How is the dynamics trained? On its own rollouts, as it will be used: one self-fed update after another.

Two things go beyond the report's recipe: rollouts are persistent (`dreams`), and the losses weigh what is not
background, and add what the readout sees (`losses`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from pytorch_optimizer import Muon
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from ..data.windows import EncodedEpisodes
from ..perception import Perception
from ..perception.readout import Located
from ..precision import autocast
from ..storage.checkpoint import Stateful
from .dreams import Dreams
from .logbook import Logbook
from .losses import PoseJudge, latent_terms, median_latent
from .recipe import FitConfig
from .validation import validate

Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass
class FitResult:
    """What `fit_dynamics` returns.

    Attributes:
        curve: Per validation: update, training loss since the last, learning rate, rollout, validation errors in px.
        best: The entry of `curve` whose weights were kept.
        seconds: That the training took, validations included, over all resumed runs.
    """

    curve: list[dict[str, float]]
    best: dict[str, float]
    seconds: float


def fit_dynamics(
    dynamics: nn.Module,
    perception: Perception,
    train: EncodedEpisodes,
    val: EncodedEpisodes,
    config: FitConfig,
    out: Path,
    seed: int,
    device: str = "cpu",
) -> FitResult:
    """Train `dynamics` in place, resuming from a checkpoint in `out`; it ends up with the best validated weights.

    Args:
        dynamics: The model.
        perception: Frozen; its readout and scene turn latents into positions and pixels.
        train: Training episodes.
        val: Validation episodes; the best weights are chosen by the open-loop error on them.
        config: The recipe.
        out: Folder for checkpoint and TensorBoard scalars.
        seed: Seed of batches and dropout.
        device: "cpu" or "cuda".

    Raises:
        ValueError: If the loss is no longer finite, or the checkpoint does not fit.
    """
    trainer = _Trainer(dynamics, perception, train, config, out, device)
    for update in trainer.logbook.remaining():
        torch.manual_seed(seed + update)  # of the dropout: a resumed run draws what an uninterrupted one would
        rollout = trainer.update(update, np.random.default_rng((seed, update)))
        done = update + 1
        if done % config.validate_every == 0 or done == trainer.updates:
            trainer.logbook.validated(done, trainer.lr, rollout, validate(trainer.kept, perception, val))
        trainer.logbook.save(done)
    trainer.logbook.finish()
    dynamics.load_state_dict(trainer.kept.state_dict())
    return FitResult(trainer.logbook.curve, trainer.logbook.best, trainer.logbook.seconds)


class _Trainer:
    """What an update needs: network, optimiser, schedule, moving average, dreams and logbook; arguments as above.

    Attributes:
        updates: How many there are.
        kept: The network that is validated: the moving average, or the network itself.
        logbook: The bookkeeping.
    """

    def __init__(
        self,
        dynamics: nn.Module,
        perception: Perception,
        train: EncodedEpisodes,
        config: FitConfig,
        out: Path,
        device: str,
    ):
        self._accelerator = accelerator = Accelerator(cpu=device == "cpu")
        dynamics.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._perception, self._config, self._out = perception.to(accelerator.device), config, out
        context_length = int(dynamics.context_length)  # type: ignore[arg-type]
        self._dreams = Dreams(train, config, context_length)
        windows = int((train.lengths - context_length).sum())
        self.updates = max(config.updates, config.epochs * windows // config.batch_size)
        optimizer = new_optimizer(dynamics, config)
        self._schedule = new_schedule(optimizer, config, self.updates)
        self._average = AveragedModel(dynamics, multi_avg_fn=_moving_average(config.ema)) if config.ema else None
        self.kept = dynamics if self._average is None else self._average.module
        parts: dict[str, Stateful] = {"model": dynamics, "optimizer": optimizer, "schedule": self._schedule}
        parts |= {"dreams": self._dreams} | ({} if self._average is None else {"average": self._average})
        self.logbook = Logbook(out, self.kept, self.updates, **parts)
        self._dynamics = dynamics
        self._model, self._optimizer = accelerator.prepare(dynamics, optimizer)
        self._background = median_latent(train).to(accelerator.device)

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return float(self._schedule.get_last_lr()[0])

    def update(self, number: int, rng: np.random.Generator) -> int:
        """Update number `number` = 0, 1, ... of the weights; how many self-fed steps it had."""
        stage = self._config.stage(number / self.updates)
        self._dreams.prepare(stage, rng)
        loss = self_fed_loss(
            self._model,
            self._perception,
            self._dreams,
            self._background,
            self._config,
            stage.rollout,
            self._accelerator,
        )
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is {float(loss)} at update {number}; lower the learning rate (now {self._config.lr:g}). "
                f"The last checkpoint in {self._out} is from before."
            )
        self._accelerator.clip_grad_norm_(self._model.parameters(), self._config.clip)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        if self._average is not None:
            self._average.update_parameters(self._dynamics)
        self.logbook.note(float(loss))
        return stage.rollout


def self_fed_loss(
    model: nn.Module,
    perception: Perception,
    dreams: Dreams,
    background: Tensor,
    config: FitConfig,
    steps: int,
    accelerator: Accelerator,
) -> Tensor:
    """Advance the dreams by `steps`, each on the latents before it, accumulate the gradient, and return the loss."""
    device = accelerator.device
    truth, context = dreams.targets(steps).to(device), dreams.context.to(device)
    actions = perception.scale_actions(truth.actions)
    readout = perception.readout if truth.positions.shape[2] else None
    judge = None
    if readout is not None:
        with torch.no_grad(), autocast(config.precision, device):
            judge = PoseJudge(readout(context[:, -1]), truth, config)
    stochastic = getattr(accelerator.unwrap_model(model), "noise_dim", 0) > 0
    loss = truth.latents.new_zeros(())
    alive = torch.ones(len(context), dtype=torch.bool, device=device)
    for step in range(1, steps + 1):
        previous, target = truth.latents[:, step - 1], truth.latents[:, step]
        with autocast(config.precision, device):
            prediction = model(context, actions[:, step - 1], *((target,) if stochastic else ()))
            predicted = prediction.latent.float()
            located: Located | None = readout(predicted) if readout is not None else None
        counted = alive / alive.sum().clamp(min=1)
        terms = latent_terms(prediction, target, previous, background, config)
        if located is not None and judge is not None:
            terms += judge.terms(located, step)
            alive = alive & judge.near(located, step)
        for weight, wrong in terms:
            loss = loss + weight * (counted @ wrong)
        context = torch.cat([context[:, 1:], predicted.unsqueeze(1)], dim=1)
    loss = loss / steps
    accelerator.backward(loss)
    dreams.advance(context, alive, steps)
    return loss.detach()


def new_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """Of all weights, as the recipe says."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    common = {"lr": config.lr, "weight_decay": config.weight_decay}
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return Muon(
        [
            {"params": matrices, "use_muon": True, "use_adjusted_lr": True, **common},
            {"params": others, "use_muon": False, **common},
        ]
    )


def new_schedule(optimizer: torch.optim.Optimizer, config: FitConfig, updates: int) -> LambdaLR:
    """The learning rate rises, is flat, and falls to nothing."""
    warmup, cooldown = max(1.0, config.warmup * updates), max(1.0, config.cooldown * updates)
    return LambdaLR(optimizer, lambda update: min(1.0, (update + 1) / warmup, (updates - update) / cooldown))


def _moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """For `AveragedModel`; forgets faster at first, or a short run would be judged by its first weights."""

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return update
