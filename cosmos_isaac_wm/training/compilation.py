"""Does training call the network as it is, or compiled? Compiled on a GPU, when the fit is long enough to wait for it.

On the processor a compiled update was not faster (docs/experiments/performance.md).
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from ..precision import Compile, autocast, why
from .clock import Budget

_LONG_FIT, _LONG_TIME = 5000, 5.0  # updates, minutes: a compiler takes up to one


def pays(compile: Compile, budget: Budget, device: torch.device) -> bool:
    """Whether a recipe's network is to be compiled: as it says, or "auto", for long fits on a GPU.

    Raises:
        ValueError: If `compile` is none of True, False and "auto".
    """
    if compile not in (True, False, "auto"):
        raise ValueError(f"unknown compile {compile!r}; expected True, False or 'auto'")
    if compile != "auto":
        return bool(compile)
    long = budget.updates >= _LONG_FIT and (budget.minutes is None or budget.minutes >= _LONG_TIME)
    return long and device.type == "cuda"


def compiled(network: nn.Module, example: tuple[Tensor, ...], precision: str) -> nn.Module:
    """The network behind PyTorch's compiler, with the same weights; as it is, with a warning, where there is none.

    Args:
        network: Which one.
        example: Arguments as it will be called with, always of these shapes.
        precision: In which it computes, as of `autocast`.
    """
    called: nn.Module = torch.compile(network, dynamic=False)  # type: ignore[assignment]
    try:
        with autocast(precision, example[0].device):
            prediction = called(*example)
        prediction.latent.float().sum().backward()
    except Exception as error:  # whatever a compiler may raise: the network itself is there
        warnings.warn(f"training goes on without compilation: {why(error)}", RuntimeWarning, stacklevel=2)
        called = network
    network.zero_grad()
    return called
