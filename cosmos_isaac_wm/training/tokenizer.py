"""How does the embedded tokenizer learn? From crops that look where something moves, with noise on the latents.

A fixed camera sees mostly table. Half of the crops are centred on the foreground (what differs from the median
picture) and foreground pixels weigh more, or the smallest object would be the first to vanish.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from ..data.dataset import EpisodeDataset
from ..perception.pictures import to_images
from ..perception.tokenizers.tiny import TinyTokenizer
from ..precision import autocast
from ..storage.checkpoint import Checkpoint


@dataclass(frozen=True)
class TokenizerFitConfig:
    """How the tokenizer is trained.

    Attributes:
        updates: Optimiser steps.
        batch_size: Crops per step.
        crop: Edge of the training crops in pixels, a multiple of the compression.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        foreground_weight: Weight of foreground pixels over the rest.
        gradient_weight: Weight of the L1 between image gradients.
        latent_noise: Noise on the latents in units of their spread; makes the latents smooth enough
            to be predicted, and the decoder forgive small dream errors.
        latent_penalty: Weight of the latents' mean square; keeps their scale from running away.
        frames_per_episode: Pictures taken from every training episode.
        precision: "bf16", "fp32", or "auto": bf16 where the processor or GPU has it.
    """

    updates: int = 6000
    batch_size: int = 64
    crop: int = 64
    lr: float = 6e-4
    foreground_weight: float = 10.0
    gradient_weight: float = 1.0
    latent_noise: float = 0.4
    latent_penalty: float = 1e-3
    frames_per_episode: int = 40
    precision: str = "auto"


def fit_tokenizer(
    tokenizer: TinyTokenizer,
    datasets: Sequence[EpisodeDataset],
    out: Path,
    config: TokenizerFitConfig,
    seed: int,
    device: str,
) -> list[tuple[int, float]]:
    """Train `tokenizer` in place on the datasets' train splits, resuming from a checkpoint in `out`.

    Weights that require no gradient stay as they are.

    Returns:
        (update, loss averaged over the preceding hundred updates) pairs.
    """
    accelerator = Accelerator(cpu=device == "cpu")
    crops = _Crops(datasets, config, seed)
    tokenizer.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learning = [parameter for parameter in tokenizer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=config.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.updates, pct_start=0.05)
    checkpoint = Checkpoint(out / "tokenizer-checkpoint.pt", model=tokenizer, optimizer=optimizer, schedule=schedule)
    state = checkpoint.load()
    curve: list[tuple[int, float]] = [(int(u), float(v)) for u, v in state.get("curve", [])]
    model, optimizer = accelerator.prepare(tokenizer, optimizer)
    recent: list[float] = list(state.get("recent", []))
    saved = time.monotonic()
    progress = tqdm(range(int(state.get("update", 0)), config.updates), desc="fit tokenizer", unit="update")
    for update in progress:
        torch.manual_seed(seed + update)  # of the noise: a resumed run draws what an uninterrupted one would
        images, weights = crops.batch(update)
        images = images.to(accelerator.device, memory_format=torch.channels_last)
        weights = weights.to(accelerator.device)
        loss = _loss(model, images, weights, config)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent.append(float(loss.detach()))
        if len(recent) == 100 or update + 1 == config.updates:
            curve.append((update + 1, float(np.mean(recent))))
            progress.set_postfix(loss=f"{curve[-1][1]:.4f}")
            recent.clear()
        if time.monotonic() - saved > 60:
            checkpoint.save(update=update + 1, curve=curve, recent=recent)
            saved = time.monotonic()
    checkpoint.save(update=config.updates, curve=curve)
    return curve


def _loss(model: TinyTokenizer, images: Tensor, weights: Tensor, config: TokenizerFitConfig) -> Tensor:
    """Of the round trip with noise on the latents, and of the latents' size."""
    with autocast(config.precision, images.device):
        latents = model.encoder(images)
        spread = latents.detach().std(dim=(0, 2, 3), keepdim=True)
        predicted = model.decoder(latents + config.latent_noise * spread * torch.randn_like(latents))
    loss = _picture_loss(predicted.float(), images, weights, config.gradient_weight)
    return loss + config.latent_penalty * latents.float().square().mean()


def _picture_loss(predicted: Tensor, images: Tensor, weights: Tensor, gradient_weight: float) -> Tensor:
    """Weighted L1 of pixels and of their horizontal and vertical differences."""
    error = predicted - images
    loss = (weights * error.abs()).mean()
    across = (weights[..., 1:] * error.diff(dim=-1).abs()).mean()
    down = (weights[..., 1:, :] * error.diff(dim=-2).abs()).mean()
    return loss + gradient_weight * (across + down)


class _Crops:
    """Random crops of training frames, half of them around the foreground; batch number n is always the same."""

    def __init__(self, datasets: Sequence[EpisodeDataset], config: TokenizerFitConfig, seed: int):
        self._config, self._seed = config, seed
        rng = np.random.default_rng(seed)
        frames, masks = [], []
        for dataset in datasets:
            drawn: list[NDArray[np.uint8]] = []
            for episode in dataset.episodes(tqdm(dataset.indices("train"), desc="read frames", unit="episode")):
                count = min(config.frames_per_episode, len(episode.frames))
                drawn.append(episode.frames[np.sort(rng.choice(len(episode.frames), count, replace=False))])
            frames.append(np.concatenate(drawn))
            masks.append(foreground(frames[-1]))  # each has a background of its own
        self._frames, self._foreground = np.concatenate(frames), np.concatenate(masks)
        height, width = self._frames.shape[1:3]
        self._crop = (min(config.crop, height), min(config.crop, width))
        self._occupied = [np.argwhere(mask) for mask in self._foreground]

    def batch(self, update: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, h, w) in [-1, 1] and pixel weights (B, 1, h, w) of mean about one."""
        rng = np.random.default_rng((self._seed, update))
        picks = rng.integers(len(self._frames), size=self._config.batch_size)
        height, width = self._frames.shape[1:3]
        crops, masks = [], []
        for pick in picks:
            points = self._occupied[pick]
            limits = np.array([height - self._crop[0], width - self._crop[1]])
            corner = rng.integers(0, limits + 1)
            if len(points) and rng.random() < 0.5:
                centre = points[rng.integers(len(points))] + rng.integers(-12, 13, 2)
                corner = np.clip(centre - np.array(self._crop) // 2, 0, limits)
            window = (pick, slice(corner[0], corner[0] + self._crop[0]), slice(corner[1], corner[1] + self._crop[1]))
            mirrored = slice(None, None, -1 if rng.random() < 0.5 else 1)
            crops.append(self._frames[window][:, mirrored])
            masks.append(self._foreground[window][:, mirrored])
        weights = 1.0 + (self._config.foreground_weight - 1.0) * torch.from_numpy(np.stack(masks)).float()
        return to_images(torch.from_numpy(np.stack(crops))), (weights / weights.mean()).unsqueeze(1)


def foreground(frames: NDArray[np.uint8], threshold: int = 24) -> NDArray[np.bool_]:
    """Where pictures (N, H, W, 3) of a fixed camera differ from their median picture, grown by one pixel: (N, H, W)."""
    sample: Sequence[int] = np.linspace(0, len(frames) - 1, min(len(frames), 400)).astype(int).tolist()
    background = np.median(frames[sample], axis=0).astype(np.int16)
    masks = np.empty(frames.shape[:3], dtype=bool)
    for index, frame in enumerate(frames):
        different = np.abs(frame.astype(np.int16) - background).max(axis=-1) > threshold
        masks[index] = ndimage.binary_dilation(different)
    return masks
