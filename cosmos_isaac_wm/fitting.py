"""Self-fed training of the dynamics: the model learns on its own rollouts, as it will be used.

Two things go beyond the report's recipe. Rollouts are *persistent*: most dreams of a batch are not restarted after
R steps but go on from where they are, so the model meets its own errors 50 steps deep at the price of short
gradients. And the loss adds a weight on whatever is not background, and the errors of position and heading that the
readout sees.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from pytorch_optimizer import Muon
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from .checkpoint import Checkpoint
from .data.windows import EncodedEpisodes, WindowSampler
from .perception import Perception
from .precision import autocast
from .readout import Located
from .tracking import REFERENCE_WIDTH

_FARTHEST = 0.1  # metres of position error beyond which contact has gone another way and there is nothing to learn
_TURNED_AWAY = math.cos(math.radians(80))  # of symmetry x angle: a cube is given up when it is off by 20 degrees
_STILL = 1e-3  # metres a step: what moves less is at rest
_AFTER_REST = 8  # steps that a dream goes on after everything has come to rest, to learn that it stays there


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        rollout: Self-fed steps per update.
        persistence: Probability that a dream goes on after an update instead of being restarted. Keep it 0 while the
            model knows nothing: contexts of its own blur teach nothing about motion.
        motion_bias: How much more often windows are drawn in which the object moves, per decimetre; 0 draws evenly.
        share: How many of the updates, in proportion to the other stages' shares.
    """

    rollout: int = 1
    persistence: float = 0.0
    motion_bias: float = 5.0
    share: float = 1.0


@dataclass(frozen=True)
class FitConfig:
    """How the dynamics is trained.

    Attributes:
        updates: Optimiser steps; with `epochs` the larger of the two counts.
        epochs: Passes over all windows, or 0 to count updates only.
        batch_size: Dreams that advance together.
        stages: From single steps to long rollouts, in the order in which they are trained.
        optimizer: "muon" orthogonalises the updates of the weights and leaves biases and norms to AdamW; "adamw".
        lr: Peak learning rate; Muon's steps are scaled to the size of AdamW's, so one rate serves both.
        weight_decay: Decoupled weight decay.
        warmup: Share of the updates in which the learning rate rises to its peak.
        cooldown: Share of the updates at the end in which it falls to nothing; it is flat in between.
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
        ema: Decay of the weights' moving average that is validated and kept; less in the first updates; 0 for none.
        clip: Greatest norm of the gradient.
        mirror: Use every episode a second time in the mirror, where the scene allows it.
        precision: "bf16", "fp32", or "auto": bf16 where the processor or GPU has it.
        validate_every: Updates between validations.
    """

    updates: int = 15000
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
    ema: float = 0.999
    clip: float = 1.0
    mirror: bool = True
    precision: str = "auto"
    validate_every: int = 1000

    def __post_init__(self) -> None:
        if not self.stages or min(stage.share for stage in self.stages) <= 0:
            raise ValueError(f"training needs at least one stage, each with a share above 0; got {self.stages}")

    def stage(self, progress: float) -> Stage:
        """The stage at this share of the updates, in [0, 1)."""
        ends = np.cumsum([stage.share for stage in self.stages])
        return self.stages[int(np.searchsorted(ends, progress * ends[-1], side="right"))]


def rollout_loss(predicted: Tensor, target: Tensor, previous: Tensor, background: Tensor, config: FitConfig) -> Tensor:
    """Motion-weighted L1 of one predicted step, (B,).

    Args:
        predicted: (B, C, h, w).
        target: The true next latent, (B, C, h, w).
        previous: The true latent one frame earlier, (B, C, h, w): the motion is measured against it.
        background: The median latent, (1, C, h, w).
        config: Weights and threshold.
    """
    weight = torch.where((target - previous).abs() > config.motion_threshold, config.motion_weight, 1.0)
    if config.foreground_weight:
        occupied = ((target - background).abs().amax(dim=1, keepdim=True) > 1.0).to(weight.dtype)
        weight = weight + config.foreground_weight * occupied
    return (weight * (predicted - target).abs()).mean(dim=(1, 2, 3))


def gradient_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean L1 distance between the spatial gradients of latents (B, C, h, w), (B,)."""
    off = predicted - target
    return off.diff(dim=2).abs().mean(dim=(1, 2, 3)) + off.diff(dim=3).abs().mean(dim=(1, 2, 3))


class _Dreams:
    """The batch of dreams that training advances: where each is in its episode, and its current context.

    Every kind of episode has an equal part of the batch, however many there are and however long they move.
    """

    def __init__(self, episodes: EncodedEpisodes, config: FitConfig, context_length: int):
        self._episodes, self._context_length = episodes, context_length
        biases = {stage.motion_bias for stage in config.stages}
        kinds = sorted(set(episodes.kinds))
        self._samplers = {
            (bias, kind): WindowSampler(episodes, kind, context_length, bias) for bias in biases for kind in kinds
        }
        self._ends = _motion_ends(episodes)
        size = config.batch_size
        self._kinds = np.array([kinds[slot % len(kinds)] for slot in range(size)])
        self.place: NDArray[np.int64] = np.zeros((size, 2), dtype=np.int64)
        self.context = torch.zeros(size, context_length, *episodes.latents.shape[2:])
        self.alive: NDArray[np.bool_] = np.zeros(size, dtype=bool)

    def prepare(self, stage: Stage, rng: np.random.Generator) -> None:
        """Restart the dreams that ended, diverged or lost the draw."""
        ends = self._ends[self.place[:, 0]]
        go_on = self.alive & (self.place[:, 1] + stage.rollout < ends) & (rng.random(len(ends)) < stage.persistence)
        for kind in np.unique(self._kinds):
            fresh = np.flatnonzero(~go_on & (self._kinds == kind))
            self._restart(fresh, self._samplers[stage.motion_bias, kind].draw(len(fresh), rng), stage.rollout)

    def _restart(self, fresh: NDArray[np.int64], places: NDArray[np.int64], steps: int) -> None:
        last = self._episodes.lengths.numpy()[places[:, 0]] - 1
        places[:, 1] = np.maximum(np.minimum(places[:, 1], last - steps), self._context_length - 1)
        self.place[fresh] = places
        offsets = np.arange(-self._context_length + 1, 1)
        self.context[fresh] = self._gather(self._episodes.latents, places, offsets).float()

    def targets(self, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """True latents (B, R + 1, C, h, w), positions, headings (B, R + 1, N, 2) of frames 0..R, actions (B, R, A)."""
        ahead = np.arange(steps + 1)
        return (
            self._gather(self._episodes.latents, self.place, ahead).float(),
            self._gather(self._episodes.positions, self.place, ahead),
            self._gather(self._episodes.headings, self.place, ahead),
            self._gather(self._episodes.actions, self.place, ahead[:-1]),
        )

    def advance(self, context: Tensor, alive: Tensor, steps: int) -> None:
        """Keep the dreamed contexts for the next update."""
        self.context, self.alive = context.detach().float().cpu(), alive.cpu().numpy()
        self.place[:, 1] += steps

    def state_dict(self) -> dict[str, Tensor]:
        """Where every dream is, for the checkpoint."""
        return {
            "place": torch.from_numpy(self.place),
            "context": self.context,
            "alive": torch.from_numpy(self.alive),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with the dreams of a checkpoint."""
        self.place, self.alive = state["place"].numpy(), state["alive"].numpy()
        self.context = state["context"]

    @staticmethod
    def _gather(source: Tensor, place: NDArray[np.int64], offsets: NDArray[np.int64]) -> Tensor:
        limit = source.shape[1] - 1
        frames = np.clip(place[:, 1:] + offsets, 0, limit)
        return source[torch.from_numpy(place[:, :1]), torch.from_numpy(frames)]


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
    accelerator = Accelerator(cpu=device == "cpu")
    dynamics.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    perception.to(accelerator.device)
    context_length = int(dynamics.context_length)  # type: ignore[arg-type]
    dreams = _Dreams(train, config, context_length)
    windows = int((train.lengths - context_length).sum())
    updates = max(config.updates, config.epochs * windows // config.batch_size)
    optimizer = _optimizer(dynamics, config)
    warmup, cooldown = max(1.0, config.warmup * updates), max(1.0, config.cooldown * updates)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda update: min(1.0, (update + 1) / warmup, (updates - update) / cooldown)
    )
    average = AveragedModel(dynamics, multi_avg_fn=_moving_average(config.ema)) if config.ema else None
    kept = average.module if average is not None else dynamics
    parts: dict[str, Any] = {"model": dynamics, "optimizer": optimizer, "schedule": schedule, "dreams": dreams}
    checkpoint = Checkpoint(out / "checkpoint.pt", **parts, **({"average": average} if average is not None else {}))
    best_weights = Checkpoint(out / "best.pt", model=kept)
    state = checkpoint.load()
    curve: list[dict[str, float]] = list(state.get("curve", []))
    model, optimizer = accelerator.prepare(dynamics, optimizer)
    background = _background(train).to(accelerator.device)
    writer = _tensorboard(out)
    losses: list[float] = list(state.get("losses", []))
    saved = began = time.monotonic()
    spent = float(state.get("seconds", 0.0))
    start = int(state.get("update", 0))
    progress = tqdm(range(start, updates), desc="fit dynamics", unit="update", initial=start, total=updates)
    for update in progress:
        torch.manual_seed(seed + update)  # of the dropout: a resumed run draws what an uninterrupted one would
        stage = config.stage(update / updates)
        dreams.prepare(stage, np.random.default_rng((seed, update)))
        loss = _update(model, perception, dreams, background, config, stage.rollout, accelerator)
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is {float(loss)} at update {update}; lower the learning rate (now {config.lr:g}). "
                f"The last checkpoint in {out} is from before."
            )
        accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if average is not None:
            average.update_parameters(dynamics)
        losses.append(float(loss))
        if (update + 1) % config.validate_every == 0 or update + 1 == updates:
            entry = {
                "update": update + 1,
                "loss": float(np.mean(losses)),
                "lr": float(schedule.get_last_lr()[0]),
                "rollout": stage.rollout,
                **validate(kept, perception, val),
            }
            losses.clear()
            curve.append(entry)
            if entry["error"] == min(row["error"] for row in curve):
                best_weights.save()
            for key, value in entry.items():
                if writer is not None:
                    writer.add_scalar(f"fit/{key}", value, update + 1)
            progress.set_postfix(loss=f"{entry['loss']:.4f}", val=f"{entry['error']:.2f}")
        if time.monotonic() - saved > 60 or update + 1 == updates:
            saved = time.monotonic()
            checkpoint.save(update=update + 1, curve=curve, losses=losses, seconds=spent + saved - began)
    if writer is not None:
        writer.close()
    best_weights.load()
    dynamics.load_state_dict(kept.state_dict())
    return FitResult(curve, min(curve, key=lambda row: row["error"]), spent + time.monotonic() - began)


def _moving_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """For `AveragedModel`; forgets faster at first, or a short run would be judged by its first weights."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return update


def _optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
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


def _update(
    model: nn.Module,
    perception: Perception,
    dreams: _Dreams,
    background: Tensor,
    config: FitConfig,
    steps: int,
    accelerator: Accelerator,
) -> Tensor:
    """Advance the dreams by `steps`, accumulate the gradient, and return the loss."""
    latents, positions, headings, actions = (tensor.to(accelerator.device) for tensor in dreams.targets(steps))
    context = dreams.context.to(accelerator.device)
    actions = perception.scale_actions(actions)
    readout = perception.readout if positions.shape[2] else None
    begun: Located | None = None
    if readout is not None:  # what is off already is not this update's to mend, and cannot be seen from the context
        with torch.no_grad(), autocast(config.precision, accelerator.device):
            begun = readout(context[:, -1])
    stochastic = getattr(accelerator.unwrap_model(model), "noise_dim", 0) > 0
    loss = latents.new_zeros(())
    alive = torch.ones(len(latents), dtype=torch.bool, device=accelerator.device)
    for step in range(steps):
        with autocast(config.precision, accelerator.device):
            future = (latents[:, step + 1],) if stochastic else ()
            prediction = model(context, actions[:, step], *future)
            predicted = prediction.latent.float()
            located: Located | None = readout(predicted) if readout is not None else None
        counted = alive / alive.sum().clamp(min=1)
        loss = loss + counted @ rollout_loss(predicted, latents[:, step + 1], latents[:, step], background, config)
        if config.gradient_weight:
            loss = loss + config.gradient_weight * (counted @ gradient_loss(predicted, latents[:, step + 1]))
        if prediction.kl is not None:
            loss = loss + config.kl_weight * (counted @ (prediction.kl - config.free_bits).clamp(min=0).sum(dim=1))
        if located is not None and begun is not None:
            moved = positions[:, step + 1] - positions[:, 0]  # (B, N, 2) metres, NaN where absent
            strayed = (located.positions - begun.positions - moved).nan_to_num().norm(dim=-1).clamp(max=_FARTHEST)
            loss = loss + config.position_weight * 10 * (counted @ strayed.mean(dim=1))
            if config.heading_weight and located.headings is not None and begun.headings is not None:
                turned = _turned(begun.headings, headings[:, 0], headings[:, step + 1])
                missed = (located.headings - turned).nan_to_num().norm(dim=-1)
                loss = loss + config.heading_weight * (counted @ missed.mean(dim=1))
                agreement = F.cosine_similarity(located.headings.detach(), headings[:, step + 1], dim=-1)
                alive = alive & (agreement.nan_to_num(nan=1.0).amin(dim=1) > _TURNED_AWAY)
            error = (located.positions.detach() - positions[:, step + 1]).norm(dim=-1).nan_to_num()
            alive = alive & (error.amax(dim=1) < config.divergence)
        context = torch.cat([context[:, 1:], predicted.unsqueeze(1)], dim=1)
    loss = loss / steps
    accelerator.backward(loss)
    dreams.advance(context, alive, steps)
    return loss.detach()


def _turned(begun: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Where headings (B, N, 2) end up that turn as others do from `before` to `after`; unit vectors, NaN if unknown."""
    start, first, last = (torch.view_as_complex(F.normalize(each.float(), dim=-1)) for each in (begun, before, after))
    return torch.view_as_real(start * last * first.conj())


@torch.inference_mode()
def validate(dynamics: nn.Module, perception: Perception, episodes: EncodedEpisodes) -> dict[str, float]:
    """Open-loop error over whole validation episodes, short or long; positions by the readout, pixels at 512 scale.

    Returns:
        `error`, by which the best weights are chosen: the mean over kinds of the mean position error in px (or the
        mean L1 of the latents, where there are no positions or no camera). Per kind also the RMSE and the median.
    """
    dynamics.eval()
    length = int(dynamics.context_length)  # type: ignore[arg-type]
    device = perception.device
    context = episodes.latents[:, :length].float().to(device)
    scene = perception.scene
    with_positions = perception.readout is not None and scene.camera is not None and episodes.positions.shape[2] > 0
    recorded = (episodes.lengths - length).unsqueeze(1) > torch.arange(int(episodes.lengths.max()) - length)  # (E, T)
    horizon = recorded.shape[1]
    dreamed, off = [], []
    for step in range(horizon):
        action = perception.scale_actions(episodes.actions[:, length - 1 + step].to(device))
        latent = dynamics(context, action).latent.float()
        context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
        if with_positions:
            dreamed.append(perception.locate(latent).positions[:, 0].cpu())
        else:
            off.append((latent.cpu() - episodes.latents[:, length + step].float()).abs().mean(dim=(1, 2, 3)))
    dynamics.train()
    if not with_positions:
        return {"error": float(torch.stack(off, dim=1)[recorded].mean())}
    truth = scene.to_pixels(episodes.positions[:, length : length + horizon, 0].numpy())
    error = np.linalg.norm(scene.to_pixels(torch.stack(dreamed, dim=1).numpy()) - truth, axis=-1)
    error = np.where(recorded.numpy(), error * REFERENCE_WIDTH / scene.image_size[1], np.nan)
    results: dict[str, float] = {}
    means = []
    for kind in sorted(set(episodes.kinds)):
        rows = error[[name == kind for name in episodes.kinds]]
        means.append(float(np.nanmean(rows)))
        results[f"{kind}_rmse"] = float(np.sqrt(np.nanmean(rows**2)))
        results[f"{kind}_median"] = float(np.nanmedian(rows))
        results[f"{kind}_rmse_at_16"] = float(np.sqrt(np.nanmean(rows[:, :16] ** 2)))
        results[f"{kind}_rmse_at_32"] = float(np.sqrt(np.nanmean(rows[:, :32] ** 2)))
    return {"error": float(np.mean(means)), **results}


def _motion_ends(episodes: EncodedEpisodes) -> NDArray[np.int64]:
    """How many frames of each episode there are until everything has come to rest, (E,)."""
    lengths: NDArray[np.int64] = episodes.lengths.numpy()
    if not episodes.positions.shape[2]:
        return lengths
    moved = episodes.positions.diff(dim=1).norm(dim=-1).nan_to_num().amax(dim=2).numpy() > _STILL
    frames = np.arange(1, moved.shape[1] + 1)
    return np.minimum(lengths, (moved * frames).max(axis=1) + 1 + _AFTER_REST)


def _background(episodes: EncodedEpisodes) -> Tensor:
    """The median latent over the training frames, (1, C, h, w)."""
    flat = episodes.latents.flatten(0, 1)
    return flat[:: max(1, len(flat) // 500)].float().median(dim=0, keepdim=True).values


def _tensorboard(out: Path) -> Any:
    """A TensorBoard writer where it is installed, else None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))
