"""How do the weights of the dynamics change in an update? By Muon or AdamW, and how their moving average follows."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from pytorch_optimizer import Muon
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from .recipe import FitConfig


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


def one_cycle(optimizer: torch.optim.Optimizer, lr: float, updates: int, warmup: float) -> OneCycleLR:
    """A learning rate that rises in the first share of the updates, two at least, and falls in the others."""
    steps = max(4, updates)
    return OneCycleLR(optimizer, lr, total_steps=steps, pct_start=max(warmup, 2 / steps))


def descend(network: nn.Module, loss: Callable[[], Tensor], updates: int, lr: float, what: str) -> float:
    """Train a small network in place, by AdamW under a one-cycle schedule, as it takes minutes at most.

    Args:
        network: On the device where `loss` computes.
        loss: Of the next batch.
        updates: Optimiser steps.
        lr: Peak learning rate.
        what: For the progress bar.

    Returns:
        The mean loss of the last tenth of the updates.
    """
    network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-4)
    schedule, losses = one_cycle(optimizer, lr, updates, warmup=0.1), list[Tensor]()
    for _ in tqdm(range(updates), desc=what, unit="update"):
        missed = loss()
        optimizer.zero_grad()
        missed.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(missed.detach())  # stays on the device until the end
    network.eval().requires_grad_(False)
    return float(torch.stack(losses[-max(1, updates // 10) :]).mean())


class MovingAverage:
    """The moving average of a network's weights.

    PyTorch's `AveragedModel` counts in a tensor and asks it at every update, for which a GPU would have to be waited
    for. Here the host counts.

    Args:
        network: Whose.
        decay: How much of the average stays in an update; less at first, or a short run would be judged by its first
            weights.

    Attributes:
        network: One with the averaged weights.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network)
        self._decay = decay

    @torch.no_grad()
    def follow(self, network: nn.Module, update: int) -> None:
        """Take in what update number `update` = 0, 1, ... made of the weights."""
        new = 1.0 if update == 0 else 1 - min(self._decay, (1 + update) / (10 + update))
        averaged, current = (list[Tensor](each.parameters()) for each in (self.network, network))
        torch._foreach_lerp_(averaged, current, new)
        for held, now in zip(self.network.buffers(), network.buffers(), strict=True):
            held.copy_(now)
