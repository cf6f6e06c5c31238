"""Who trains together? One process, or several that share a batch: whose dreams are whose, sums over all, one writer.

Slots of the batch are numbered over all processes, and a process takes those next to each other that are its own. What
is drawn for a slot depends on its number only. So N processes with B/N slots each see what one with B slots sees.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, distributed

_PATIENCE = timedelta(minutes=30)  # as long as the others wait for one: while it encodes a dataset, or validates

Plain = TypeVar("Plain")


class Processes:
    """The processes of one training, as `accelerate launch` or `torchrun` have started them; mostly a single one.

    Args:
        device: "cpu", or "cuda" for a GPU a process.

    Attributes:
        device: This process's own.
        count: How many there are, N.
        rank: Which one this is, 0 to N - 1.
    """

    def __init__(self, device: str):
        accelerator = Accelerator(cpu=device == "cpu", kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)])
        self.device: torch.device = accelerator.device
        self.count, self.rank = int(accelerator.num_processes), int(accelerator.process_index)
        if self.count > 1:
            atexit.register(_part)

    @property
    def main(self) -> bool:
        """Whether this is the one that writes, prints and validates."""
        return self.rank == 0

    def slots(self, batch_size: int) -> range:
        """This process's slots of a batch.

        Raises:
            ValueError: If the batch cannot be divided evenly.
        """
        own, left = divmod(batch_size, self.count)
        if left:
            raise ValueError(
                f"a batch of {batch_size} cannot be shared by {self.count} processes; "
                f"choose a batch_size that {self.count} divides, for instance {max(1, own) * self.count}"
            )
        return range(self.rank * own, (self.rank + 1) * own)

    def total(self, part: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.count > 1:
            with self._together():
                distributed.all_reduce(part)
        return part

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the sum of all gradients, in one message.

        Not PyTorch's DistributedDataParallel: that averages, and expects one forward pass an update, where a rollout
        has several.
        """
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.total(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, summed in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def gathered(self, part: Tensor) -> Tensor:
        """The parts (b, ...) of all processes one after the other, (N b, ...)."""
        if self.count == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.count)]
        with self._together():
            distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    def begin_alike(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the main one's weights."""
        for tensor in tensors if self.count > 1 else ():
            dense = tensor.detach().contiguous()  # channels last is not, to a message
            with self._together():
                distributed.broadcast(dense, 0)
            tensor.data.copy_(dense)

    def agreed(self, value: Plain) -> Plain:
        """The main process's number, or other plain value; by way of the hosts, so no GPU waits."""
        if self.count == 1:
            return value
        held = [value]
        with self._together():
            distributed.broadcast_object_list(held, 0, _hosts(), device=torch.device("cpu"))
        return held[0]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process does what is inside before the others, which find what it has left in files."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    def wait(self) -> None:
        """Until all processes are here.

        Raises:
            RuntimeError: If one does not come; says which.
        """
        if self.count > 1:
            with self._together():
                distributed.monitored_barrier(_hosts(), _PATIENCE, wait_all_ranks=True)

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise RuntimeError(
                f"process {self.rank} of {self.count} goes no further, because another one has ended or does not "
                f"answer ({reason}); what ended it is said above or below. Repeat the command to go on."
            ) from error


def _part() -> None:
    """Leave all groups while the interpreter still runs: threads of theirs that outlive it abort the process."""
    _hosts.cache_clear()  # a group that is still known lives on, and so do its threads
    if distributed.is_initialized():
        distributed.destroy_process_group()


@cache
def _hosts() -> distributed.ProcessGroup | None:
    """A group that speaks from host to host, whatever the GPUs speak: it knows who is missing."""
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)
