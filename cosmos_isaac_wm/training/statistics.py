"""How large are a tokenizer's latents? Their mean and spread, with which a perception normalises them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.dataset import EpisodeDataset
from ..perception import Perception


def latent_statistics(datasets: Sequence[EpisodeDataset], perception: Perception) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents of about a thousand training frames of each dataset.

    Args:
        datasets: With a train split.
        perception: Encodes; not normalised yet.

    Returns:
        Two vectors with an entry for each channel, (C,).
    """
    encoded = []
    for dataset in datasets:
        indices = dataset.indices("train")
        chosen = indices[:: max(1, len(indices) // 100)]
        encoded += [perception.encode(torch.from_numpy(episode.frames[::10])) for episode in dataset.episodes(chosen)]
    cells = torch.cat([latents.transpose(0, 1).flatten(1) for latents in encoded], dim=1)  # pictures may differ in size
    return cells.mean(dim=1), cells.std(dim=1).clamp(min=1e-6)
