"""How does the embedded tokenizer learn? From crops that look where something moves, with noise on the latents.

A fixed camera sees mostly table. Half of the crops are centred on the foreground (what differs from the median
picture) and foreground pixels weigh more, those of small things most, or the smallest would be the first to vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..borders import training_mode
from ..counter_rng import mixed, normal, uniform
from ..data.dataset import EpisodeDataset
from ..data.windows import fits_on
from ..perception.pictures import to_images
from ..perception.tokenizers.tiny import TinyTokenizer
from ..precision import autocast
from ..storage.checkpoint import SAVED_EVERY, Checkpoint
from ..telemetry import track
from .clock import Budget, Updates
from .logbook import Losses, going_on
from .optimizer import one_cycle
from .pictures import drawn, foreground, importance, together
from .processes import Processes

_AVERAGED = 100  # updates whose losses make a point of the curve
_JITTER = 12  # pixels that a crop's centre is off the foreground's pixel it is drawn around, at most
_OF_NOISE = 100  # part of the keys of the latents' noise, beyond the draws of the crops


@dataclass(frozen=True)
class TokenizerFitConfig:
    """How the tokenizer is trained.

    Attributes:
        updates: Optimiser steps.
        minutes: Train no longer than this; the learning rate follows the clock where it is ahead of the updates.
        batch_size: Crops per step.
        crop: Edge of the training crops in pixels, a multiple of the compression.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        foreground_weight: Weight of the foreground's pixels over the rest; smaller things weigh as much as large ones.
        gradient_weight: Weight of the L1 between image gradients.
        latent_noise: Noise on the latents in units of their spread; makes the latents smooth enough
            to be predicted, and the decoder forgive small dream errors.
        latent_penalty: Weight of the latents' mean square; keeps their scale from running away.
        frames_per_episode: Pictures taken from every training episode.
        recoloured: Share of the crops whose colours are exchanged, and in half of them inverted: for a tokenizer that
            shall see other worlds than it learned from.
        precision: "bf16", "fp32", or "auto": bf16 where the processor or GPU has it.
    """

    updates: int = 6000
    minutes: float | None = None
    batch_size: int = 64
    crop: int = 64
    lr: float = 6e-4
    foreground_weight: float = 10.0
    gradient_weight: float = 1.0
    latent_noise: float = 0.4
    latent_penalty: float = 1e-3
    frames_per_episode: int = 40
    recoloured: float = 0.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes:g}")


@training_mode()
def fit_tokenizer(
    tokenizer: TinyTokenizer,
    datasets: Sequence[EpisodeDataset],
    out: Path,
    config: TokenizerFitConfig,
    seed: int,
    device: str,
) -> list[tuple[int, float]]:
    """Train `tokenizer` in place on the datasets' train splits, resuming from a checkpoint in `out`.

    Weights that require no gradient stay as they are. Several processes, as `accelerate launch` or `torchrun` start
    them, share the batch: all call this alike. Crops and noise are drawn by seed, update and the crop's number in the
    batch, whoever draws them; versions before 0.2 drew others for a seed.

    Returns:
        (update, loss averaged over the preceding hundred updates) pairs.

    Raises:
        ValueError: If the loss is no longer finite, or the checkpoint does not fit.
    """
    trainer = _Trainer(tokenizer, datasets, out, config, seed, Processes(device))
    for update, progress in trainer.updates.until(Budget(config.updates, config.minutes), "fit tokenizer"):
        trainer.update(update, progress)
        if trainer.losses.count == _AVERAGED:
            trainer.note()
        if trainer.updates.due("checkpoint", SAVED_EVERY):
            trainer.save()
    return trainer.result()


class _Trainer:
    """What an update of the tokenizer needs; arguments as above.

    Attributes:
        updates: The updates one after the other.
        losses: Since they were last noted.
    """

    def __init__(
        self,
        tokenizer: TinyTokenizer,
        datasets: Sequence[EpisodeDataset],
        out: Path,
        config: TokenizerFitConfig,
        seed: int,
        processes: Processes,
    ):
        self._processes, self._config, self._key = processes, config, torch.tensor(seed, device=processes.device)
        self._crops = Crops(datasets, config, seed, processes, tokenizer.compression)
        self._model = tokenizer.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        processes.begin_alike(tokenizer.state_dict().values())
        self._learning = [parameter for parameter in tokenizer.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._learning, lr=config.lr, weight_decay=1e-4)
        self._schedule = one_cycle(self._optimizer, config.lr, config.updates, warmup=0.05)
        self._checkpoint = Checkpoint(
            out / "tokenizer-checkpoint.pt", model=tokenizer, optimizer=self._optimizer, schedule=self._schedule
        )
        state = self._checkpoint.load()
        self._curve: list[tuple[int, float]] = [(int(u), float(v)) for u, v in state.get("curve", [])]
        self.losses = Losses(processes, f"lower the learning rate (now {config.lr:g})")
        self.losses.begin(*state.get("losses", ()))
        self.updates = Updates(processes, int(state.get("update", 0)), float(state.get("seconds", 0.0)))
        going_on(self.updates.done, self._checkpoint.path, processes)

    def update(self, number: int, progress: float) -> None:
        """Update number `number` = 0, 1, ... of the weights, when that share of the budget is gone."""
        if number:
            step = progress * self._config.updates  # it goes by whole steps, and we by progress
            self._schedule.last_epoch = step - 1  # type: ignore[assignment]
            self._schedule.step()
        images, weights = self._crops.batch(number)
        keys = mixed(mixed(mixed(self._key, number), self._crops.slots), _OF_NOISE)
        loss = self._loss(images, weights, keys)
        loss.backward()
        self._processes.add_gradients(self._learning)
        torch.nn.utils.clip_grad_norm_(self._learning, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.losses.note(number, loss.detach())

    def _loss(self, images: Tensor, weights: Tensor, keys: Tensor) -> Tensor:
        """This process's part of the loss: of the round trip with noise on the latents, and of the latents' size.

        Args:
            images: Its crops, (b, 3, h, w).
            weights: Of their pixels, (b, 1, h, w).
            keys: Of their noise, (b,).
        """
        config = self._config
        with autocast(config.precision, images.device):
            latents = self._model.encoder(images)
            noise = normal(keys, latents[0].numel()).view_as(latents).to(latents)
            predicted = self._model.decoder(latents + config.latent_noise * self._spread(latents.detach()) * noise)
        loss = _picture_loss(predicted.float(), images, weights, config.gradient_weight)
        return (loss + config.latent_penalty * latents.float().square().mean()) / self._processes.count

    def _spread(self, latents: Tensor) -> Tensor:
        """The standard deviation of each channel over the whole batch, (1, C, 1, 1)."""
        values = latents.double()
        count = self._processes.count * values[:, 0].numel()
        moments = torch.stack([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])
        total, squares = self._processes.total(moments)
        variance = (squares - total.square() / count) / (count - 1)
        return variance.clamp(min=0).sqrt()[None, :, None, None].to(latents)

    def note(self) -> None:
        """Write down the mean of the losses."""
        total, count = self.losses.read()
        self._curve.append((self.updates.done, total / count))
        self.updates.show(loss=f"{self._curve[-1][1]:.4f}")
        track({"tokenizer/loss": self._curve[-1][1]}, self.updates.done)
        self.losses.begin()

    def save(self) -> None:
        """Write a checkpoint."""
        losses, updates = self.losses.read(), self.updates
        if self._processes.main:
            self._checkpoint.save(update=updates.done, curve=self._curve, losses=losses, seconds=updates.seconds)

    def result(self) -> list[tuple[int, float]]:
        """The curve, when all is done."""
        if self.losses.count:
            self.note()
        self.save()
        return self._curve


def _picture_loss(predicted: Tensor, images: Tensor, weights: Tensor, gradient_weight: float) -> Tensor:
    """Weighted L1 of pixels and of their horizontal and vertical differences."""
    error = predicted - images
    loss = (weights * error.abs()).mean()
    across = (weights[..., 1:] * error.diff(dim=-1).abs()).mean()
    down = (weights[..., 1:, :] * error.diff(dim=-2).abs()).mean()
    return loss + gradient_weight * (across + down)


class Crops:
    """Random crops of training frames, half of them around the foreground; batch number n is always the same.

    Args:
        datasets: Whose train splits are cropped; their pictures need not be of one size.
        config: The recipe.
        seed: Of the draws.
        processes: Who shares the batch.
        compression: Pixels along the edge of a latent cell; crops have whole cells.

    Attributes:
        slots: This process's crops of a batch, by their numbers in it, (b,).
    """

    def __init__(
        self,
        datasets: Sequence[EpisodeDataset],
        config: TokenizerFitConfig,
        seed: int,
        processes: Processes,
        compression: int = 8,
    ):
        self._config, self._processes = config, processes
        device = processes.device
        own = processes.slots(config.batch_size)
        self.slots, self._key = torch.arange(own.start, own.stop, device=device), torch.tensor(seed, device=device)
        rng = np.random.default_rng(seed)
        frames = [drawn(dataset, config.frames_per_episode, rng, processes.main) for dataset in datasets]
        counted = torch.from_numpy(together([importance(foreground(each)) for each in frames]))  # by own backgrounds
        pictures = torch.from_numpy(together(frames))
        self._frames, self._importance = (
            part.to(device) if fits_on(device, pictures) else part for part in (pictures, counted)
        )
        self._occupied = counted.nonzero()[:, 1:].to(device)  # (P, 2) row and column, frame by frame
        counts = counted.count_nonzero(dim=(1, 2))
        self._count, self._first = counts.to(device), (counts.cumsum(dim=0) - counts).to(device)
        sizes = np.repeat([each.shape[1:3] for each in frames], [len(each) for each in frames], axis=0)
        self._crop = tuple(min(config.crop, int(edge)) // compression * compression for edge in sizes.min(axis=0))
        self._limits = torch.from_numpy(sizes - self._crop).to(device)  # of each picture's upper left corners

    def batch(self, update: int) -> tuple[Tensor, Tensor]:
        """Images (b, 3, h, w) in [-1, 1], channels last, and pixel weights (b, 1, h, w) of mean about one."""
        keys = mixed(mixed(self._key, update), self.slots)
        pick = (uniform(keys, 0) * len(self._frames)).long()
        corner = self._corner(keys, pick)
        rows, columns = (corner[:, axis, None] + torch.arange(self._crop[axis], device=keys.device) for axis in (0, 1))
        columns = torch.where((uniform(keys, 1) < 0.5).unsqueeze(1), columns.flip(1), columns)  # in the mirror
        window = [part.to(self._frames.device) for part in (pick[:, None, None], rows[:, :, None], columns[:, None])]
        crops, counted = (part[tuple(window)].to(keys.device) for part in (self._frames, self._importance))
        crops = self._recoloured(crops, keys) if self._config.recoloured else crops
        weights = torch.where(counted > 0, self._config.foreground_weight * counted, 1.0)
        mean = self._processes.total(weights.mean()) / self._processes.count
        return to_images(crops).contiguous(memory_format=torch.channels_last), (weights / mean).unsqueeze(1)

    def _recoloured(self, crops: Tensor, keys: Tensor) -> Tensor:
        """Crops (b, h, w, 3), a share of them with red, green and blue in another order, or with less for more."""
        three = torch.arange(3, device=keys.device)
        chosen = uniform(keys, 8) < self._config.recoloured
        order = torch.where(chosen.unsqueeze(1), uniform(keys.unsqueeze(1), 10 + three).argsort(dim=1), three)
        crops = crops.gather(3, order[:, None, None].expand_as(crops))
        return torch.where((chosen & (uniform(keys, 9) < 0.5))[:, None, None, None], 255 - crops, crops)

    def _corner(self, keys: Tensor, pick: Tensor) -> Tensor:
        """Upper left corners anywhere in the pictures, or for half of them around some foreground, (b, 2)."""
        two = torch.arange(2, device=keys.device)
        limits = self._limits[pick]
        anywhere = (uniform(keys.unsqueeze(1), 2 + two) * (limits + 1)).long()
        if not len(self._occupied):
            return anywhere
        count = self._count[pick]
        point = self._first[pick] + (uniform(keys, 4) * count).long()
        off = (uniform(keys.unsqueeze(1), 5 + two) * (2 * _JITTER + 1)).long() - _JITTER
        half = torch.tensor(self._crop, device=keys.device) // 2
        around = self._occupied[point.clamp(max=len(self._occupied) - 1)] + off - half
        around = torch.minimum(around.clamp(min=0), limits)
        chosen = (uniform(keys, 7) < 0.5) & (count > 0)
        return torch.where(chosen.unsqueeze(1), around, anywhere)
