"""Does training call the network as it is, or compiled? Compiled on a GPU, when the fit is long enough to wait for it.

There the host, which launches some thousand small kernels an update, is slower than the GPU that computes them. So what
an update computes is recorded as well, and replayed as one launch. On the processor a compiled update was not faster
(docs/experiments/performance.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..precision import Compile, autocast, why
from .clock import Budget
from .dreams import Dreams

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


class Recorded:
    """Losses and gradients of one rollout length, recorded as a CUDA graph: every further update is a single launch.

    Gradients have to stay in the tensors where they are now, so they are zeroed, not dropped.

    Args:
        compute: Advances the dreams, adds to the gradients, and returns the loss; has been called before.
        dreams: The batch that it advances.
    """

    def __init__(self, compute: Callable[[], Tensor], dreams: Dreams):
        begin = dreams.place, dreams.context, dreams.alive
        self._place, self._context = dreams.place, dreams.context = dreams.place.clone(), dreams.context.clone()
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self._graph):  # records, but does not compute
                self._loss = compute()
            self._advanced = dreams.context, dreams.alive
        finally:
            dreams.place, dreams.context, dreams.alive = begin

    def __call__(self, dreams: Dreams) -> Tensor:
        """The loss of this update; as `compute` of these dreams."""
        self._place.copy_(dreams.place)
        self._context.copy_(dreams.context)
        self._graph.replay()
        context, alive = self._advanced
        dreams.place, dreams.context, dreams.alive = self._place.clone(), context.clone(), alive.clone()
        return self._loss.clone()
