"""How is the dynamics trained? On its own rollouts, as it will be used: one self-fed update after another.

Two things go beyond the report's recipe: rollouts are persistent (`dreams`), and the losses weigh what is not
background, and add what the readout sees (`losses`).

Episodes, dreams and losses stay on the device; the host learns of them only when something is written down (`logbook`).
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..borders import training_mode
from ..data.windows import EncodedEpisodes
from ..dynamics.network import history_of, inputs_along, observed_of
from ..perception import Perception
from ..precision import autocast, why
from ..storage.checkpoint import Stateful
from .clock import Budget, trapezoid
from .compilation import Recorded, compiled, pays
from .dreams import Dreams
from .logbook import Logbook
from .losses import Judge, ObservationJudge, PoseJudge, latent_terms, median_latent
from .optimizer import MovingAverage, new_optimizer
from .processes import Processes
from .recipe import FitConfig
from .validation import unit_of, validate
from .verdict import Verdict

_WARM_UPS = 2  # updates of a rollout length before one is recorded
_RUNS_AWAY = 3  # validations in a row after which dreams that run away will not come back


@dataclass
class FitResult:
    """What `fit_dynamics` returns.

    Attributes:
        curve: Per validation: update, training loss since the last, learning rate, rollout, and what `validate` gave.
        best: The entry of `curve` whose weights were kept.
        seconds: That the training took, validations included, over all resumed runs.
        unit: Of the validation errors, as of `unit_of`.
    """

    curve: list[dict[str, float]]
    best: dict[str, float]
    seconds: float
    unit: str = "px"


@training_mode()
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

    Several processes, as `accelerate launch` or `torchrun` start them, share the batch: all call this alike.

    Args:
        dynamics: The model.
        perception: Frozen; its readout and scene turn latents into positions and pixels.
        train: Training episodes.
        val: Validation episodes; the best weights are chosen by the open-loop error on them.
        config: The recipe.
        out: Folder for checkpoint and TensorBoard scalars.
        seed: Seed of batches and dropout. What it draws is the same on every device and for any number of processes;
            versions before 0.2 drew other batches for it.
        device: "cpu" or "cuda".

    Raises:
        ValueError: If the loss is no longer finite, validation dreams run away, the checkpoint does not fit, the budget
            in minutes is too short for a validation, or the batch cannot be shared by the processes.
    """
    trainer = _Trainer(dynamics, perception, train, val, config, out, seed, device)
    for update, progress in trainer.logbook.remaining(trainer.budget):
        trainer.update(update, progress)
        if (update + 1) % config.validate_every == 0:
            trainer.validate(update + 1)
    return trainer.result()


class _Trainer:
    """What an update needs: network, optimiser, moving average, dreams and logbook; arguments as above.

    Attributes:
        budget: How long it goes on.
        logbook: The bookkeeping.
    """

    def __init__(
        self,
        dynamics: nn.Module,
        perception: Perception,
        train: EncodedEpisodes,
        val: EncodedEpisodes,
        config: FitConfig,
        out: Path,
        seed: int,
        device: str,
    ):
        self._processes = processes = Processes(device)
        self._config, self._out, self._seed, self._val = config, out, seed, val
        self._perception, self._unit = perception.to(processes.device), unit_of(perception, val)
        self._dynamics = dynamics.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        processes.begin_alike(dynamics.state_dict().values())
        context_length = int(dynamics.context_length)  # type: ignore[arg-type]
        windows = int((train.lengths - context_length).sum())
        train = train.resident_on(processes.device)
        self._dreams = Dreams(train, config, context_length, history_of(dynamics), seed, processes)
        self._background = median_latent(train).to(processes.device)
        self._optimizer = new_optimizer(dynamics, config)
        self._average = MovingAverage(dynamics, config.ema) if config.ema else None
        self._kept = dynamics if self._average is None else self._average.network
        parts: dict[str, Stateful] = {"model": dynamics, "optimizer": self._optimizer, "dreams": self._dreams}
        parts |= {} if self._average is None else {"average": self._average.network}
        self.logbook = Logbook(out, self._kept, processes, config.lr, **parts)
        updates = max(config.updates, config.epochs * windows // config.batch_size)
        self.budget = self._with_validation(Budget(updates, config.minutes))
        self._lr, self._rollout = 0.0, 0
        pays_here = pays(config.compile, self.budget, processes.device)
        self._called = self._compiled() if pays_here else dynamics
        resident = processes.device.type == "cuda" and train.latents.is_cuda and processes.count == 1
        self._record_at = _WARM_UPS if pays_here and resident else -1
        self._recorded: Recorded | None = None
        self._updates_alike = 0  # since the rollout's length last changed

    def _compiled(self) -> nn.Module:
        """The network as updates call it."""
        context, network = self._dreams.context, self._dynamics
        wide = (self._dreams.history + 1) * self._perception.action_low.numel() + observed_of(network)
        action = context.new_zeros(len(context), wide)
        example = (context, action, context[:, -1]) if takes_truth(network) else (context, action)
        return compiled(network, example, self._config.precision)

    def _with_validation(self, budget: Budget) -> Budget:
        """The budget with time kept for a validation, which is tried out before the work; without minutes as it is."""
        if budget.minutes is None:
            return budget
        began = time.monotonic()
        if self._processes.main:
            validate(self._kept, self._perception, self._val)
        return budget.must_allow(self._processes.agreed(time.monotonic() - began), "--fit.minutes")

    def update(self, number: int, progress: float) -> None:
        """Update number `number` = 0, 1, ... of the weights, when that share of the budget is gone."""
        config, processes = self._config, self._processes
        # Of the dropout: a resumed run draws what an uninterrupted one would, and no two processes draw the same.
        torch.manual_seed(self._seed + number + (processes.rank << 32))
        stage = config.stage(progress)
        self._dreams.prepare(stage, number)
        loss = self._loss(stage.rollout)
        processes.add_gradients(self._dynamics.parameters())
        nn.utils.clip_grad_norm_(self._dynamics.parameters(), config.clip)
        self._lr = config.lr * trapezoid(progress, 1 / self.budget.updates, config.warmup, config.cooldown)
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=self._record_at < 0)
        if self._average is not None:
            self._average.follow(self._dynamics, number)
        self.logbook.losses.note(number, loss)

    def _loss(self, rollout: int) -> Tensor:
        """The loss of the dreams' next `rollout` steps, whose gradients are added; recorded where that pays."""

        def compute() -> Tensor:
            return self_fed_loss(
                self._called, self._perception, self._dreams, self._background, self._config, rollout, self._processes
            )

        if rollout != self._rollout:
            self._rollout, self._recorded, self._updates_alike = rollout, None, 0
        if self._updates_alike == self._record_at:
            try:
                self._recorded = Recorded(compute, self._dreams)
            except RuntimeError as error:
                warnings.warn(f"updates are not recorded as CUDA graphs: {why(error)}", RuntimeWarning, stacklevel=2)
                self._record_at = -1
        self._updates_alike += 1
        return compute() if self._recorded is None else self._recorded(self._dreams)

    def validate(self, done: int) -> None:
        """Validate what `done` updates have made, on the main process; the others wait for the errors."""
        self.logbook.losses.read()  # says so if there is nothing left to validate
        errors = validate(self._kept, self._perception, self._val) if self._processes.main else {}
        errors = self._processes.agreed(errors)
        self.logbook.validated(done, self._lr, self._rollout, errors)
        verdict = Verdict.of(errors, self._unit)
        if self._processes.main:
            tqdm.write(f"update {done}: {verdict.line()}")
        before = [Verdict.of(row, self._unit).runs_away for row in self.logbook.curve[-_RUNS_AWAY:]]
        if len(before) == _RUNS_AWAY and all(before):
            raise ValueError(
                f"the dreams run away: at update {done}, and in the {_RUNS_AWAY - 1} validations before, their latents "
                f"were {errors['growth']:.1f} times as large as real ones. The best weights so far, of update "
                f"{self.logbook.best['update']:.0f}, are in {self._out}/best.pt; fit again with a lower learning rate "
                f"(now {self._config.lr:g})"
            )

    def result(self) -> FitResult:
        """Validate the last weights if that has not been done, and leave the best ones in the model."""
        logbook = self.logbook
        if not logbook.curve or logbook.curve[-1]["update"] != logbook.updates.done:
            self.validate(logbook.updates.done)
        logbook.finish()
        self._dynamics.load_state_dict(self._kept.state_dict())
        return FitResult(logbook.curve, logbook.best, logbook.updates.seconds, self._unit)


def self_fed_loss(
    model: nn.Module,
    perception: Perception,
    dreams: Dreams,
    background: Tensor,
    config: FitConfig,
    steps: int,
    processes: Processes,
) -> Tensor:
    """Advance the dreams by `steps`, each on the latents before it, and accumulate the gradient.

    Returns:
        This process's part of the loss; all parts together are the loss of the whole batch, and so with gradients.
    """
    device = processes.device
    truth, context = dreams.targets(steps), dreams.context
    scaled = perception.scale_actions(truth.actions) * truth.known.unsqueeze(2)
    told = None
    if observed_of(model) and perception.heads is not None:  # the truth: pictures learn to follow it
        told = perception.heads.normalised(truth.observed[:, :-1])
    actions = inputs_along(model, scaled, told)
    judge: Judge | None = None
    with autocast(config.precision, device):
        if perception.readout is not None and truth.positions.shape[2]:
            judge = PoseJudge(perception.readout, context, truth, config)
        elif perception.heads is not None and truth.observed.shape[2]:
            judge = ObservationJudge(perception.heads, context, scaled[:, : dreams.history], truth, config)
    stochastic = takes_truth(model)
    sums, counts = [], []  # of the steps, over the dreams that are alive
    alive = torch.ones(len(context), dtype=torch.bool, device=device)
    for step in range(1, steps + 1):
        previous, target = truth.latents[:, step - 1], truth.latents[:, step]
        with autocast(config.precision, device):
            prediction = model(context, actions[:, step - 1], *((target,) if stochastic else ()))
            predicted = prediction.latent.float()
            if judge is not None:
                judge.see(predicted, scaled[:, dreams.history + step - 1])
        counted = alive.float()
        terms = latent_terms(prediction, target, previous, background, config)
        if judge is not None:
            terms += judge.terms(step)
            alive = alive & judge.near(step)
        counts.append(counted.sum())
        sums.append(torch.stack([weight * (counted @ wrong) for weight, wrong in terms]).sum())
        context = torch.cat([context[:, 1:], predicted.unsqueeze(1)], dim=1)
    loss = (torch.stack(sums) / processes.total(torch.stack(counts)).clamp(min=1)).sum() / steps
    loss.backward()
    dreams.advance(context, alive, steps)
    return loss.detach()


def takes_truth(model: nn.Module) -> bool:
    """Whether a network is a stochastic one, which is shown the true next latent while it learns."""
    return getattr(model, "noise_dim", 0) > 0
