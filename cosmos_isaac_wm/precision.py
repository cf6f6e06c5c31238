"""Where do networks compute, in which precision, and whether compiled?"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

Precision = torch.dtype | Literal["auto", "float32", "bfloat16"]
Compile = bool | Literal["auto"]

_LOG = logging.getLogger(__name__)
_LARGE_BATCH = 8  # dreams from which arithmetic outweighs the overhead of each operation
_LONG_RUN = 2000  # steps after which it pays to have waited for a compiler


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device of a name; "auto" is a GPU if there is one, else the processor.

    Raises:
        ValueError: If the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {str(device)!r} is not available here: {str(error).splitlines()[0]}") from error


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, so that it is faster there than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a training step computes.

    Not Accelerate's own: that fixes one precision for the life of the process.

    Args:
        precision: "bf16", "fp32", or "auto": bf16 where the processor or GPU has it.
        device: Where it computes.

    Raises:
        ValueError: If `precision` is none of these.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"unknown precision {precision!r}; expected 'auto', 'bf16' or 'fp32'")
    enabled = precision == "bf16" or (precision == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


class FastModule:
    """A network for inference in a precision of its own, and compiled when that pays; the original stays as it is.

    Args:
        network: What to call. Compiled, it has the weights of that moment for good: constants, which the compiler can
            lay out for the processor once.
        batch: How many it is called with.
        dtype: "float32", "bfloat16", or "auto": bfloat16 for batches of 8 and more where the device has it.
        compile: As of `FastCall`.

    Attributes:
        dtype: The precision.

    Raises:
        ValueError: If `dtype` or `compile` is none of these.
    """

    def __init__(self, network: nn.Module, batch: int, dtype: Precision = "float32", compile: Compile = False):
        self._device = next(network.parameters(), torch.empty(0)).device
        self.dtype = choose_dtype(dtype, self._device, batch)
        if self.dtype != torch.float32:  # the weights are converted once; buffers hold sizes and stay exact
            network = copy.deepcopy(network)
            for parameter in network.parameters():
                parameter.data = parameter.data.to(self.dtype)
        self._call = network if compile is False else FastCall(network, batch, compile)

    def __call__(self, *arguments: Any) -> Any:
        """What the network returns for these arguments."""
        with torch.autocast(self._device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._call(*arguments)


class FastCall:
    """A call of tensors that is compiled when that pays.

    Args:
        call: What to call: a network, or any function whose networks stay as they are from then on.
        batch: How many it is called with.
        compile: True compiles with the first call, "auto" for batches of 8 and more with call 2,000, when the run has
            shown to be a long one. Without a working compiler all goes on as it is, and a warning says so.
        whole: Compile all of it as one graph, or not at all. On a GPU that graph is recorded and replayed, so `call`
            must leave what it remembers in the same tensors.

    Raises:
        ValueError: If `compile` is none of these.
    """

    def __init__(self, call: Callable[..., Any], batch: int, compile: Compile, whole: bool = False):
        if compile not in (True, False, "auto"):
            raise ValueError(f"unknown compile {compile!r}; expected True, False or 'auto'")
        self._original = self._call = call
        self._whole, self._calls, never = whole, 0, -1
        self._compile_at = {True: 0, False: never, "auto": _LONG_RUN if batch >= _LARGE_BATCH else never}[compile]

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process gets: no compiled code, which is compiled there with the next call."""
        compiled = self._call is not self._original
        return vars(self) | {"_call": self._original} | ({"_calls": self._compile_at} if compiled else {})

    def __call__(self, *arguments: Any) -> Any:
        """What it returns for these arguments."""
        self._calls += 1
        if self._calls == self._compile_at + 1:
            _LOG.info("compiling, which takes some seconds")
            try:
                compiled = _compiled(self._call, self._whole)
                result = compiled(*arguments)
                self._call = compiled
                return result
            except Exception as error:  # whatever a compiler may raise: what it would compile is there
                warnings.warn(f"the dreams go on without compilation: {why(error)}", RuntimeWarning, stacklevel=2)
        elif self._whole and self._calls == self._compile_at + 2 and arguments[0].is_cuda:
            self._call = _Replayed(self._call, *arguments)
        return self._call(*arguments) if self._call is self._original else self._compiled_call(*arguments)

    def _compiled_call(self, *arguments: Any) -> Any:
        """The compiled call; it is compiled anew where torch has been set otherwise since, which may not work."""
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self._call(*arguments)
        except TorchDynamoException as error:  # raised before anything was computed
            warnings.warn(f"the dreams go on without compilation: {why(error)}", RuntimeWarning, stacklevel=3)
            self._call = self._original
            return self._call(*arguments)


class _Replayed:
    """A call recorded once as a CUDA graph: every further one is a single launch."""

    def __init__(self, call: Callable[..., Any], *arguments: Tensor):
        self._inputs = [argument.clone() for argument in arguments]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):  # records, but does not compute
            self._outputs = call(*self._inputs)

    def __call__(self, *arguments: Tensor) -> Any:
        for own, given in zip(self._inputs, arguments, strict=True):
            own.copy_(given)
        self._graph.replay()
        return tree_map(torch.clone, self._outputs)  # the next replay writes into the same memory


def why(error: Exception) -> str:
    """One line of what a compiler has to say: the first that does not just announce another, or a traceback's last."""
    told, _, traceback = str(error).partition("Traceback (most recent call last):\n")
    lines = [line for line in (traceback or told).splitlines() if line.strip() and not line.rstrip().endswith(":")]
    ends = [line for line in lines if not line.startswith(" ")] if traceback else lines  # what is indented led there
    return ends[0].strip() if ends else type(error).__name__


def _compiled(call: Callable[..., Any], whole: bool) -> Callable[..., Any]:
    """The call behind a compiler that takes weights for constants; compiles at the first call of each shape."""
    from torch._inductor import config  # takes a second, and only who compiles shall wait for it

    inner = torch.compile(_alone(call), dynamic=False, fullgraph=whole)

    def frozen(*arguments: Any) -> Any:
        with torch.no_grad(), config.patch(freezing=True):
            return inner(*arguments)

    return frozen


def _alone(network: Callable[..., Any]) -> Callable[..., Any]:
    """A call of a network, or of a function, by code of its own.

    PyTorch counts compilations per piece of code, not per network: the ninth network of a class, or batch size, would
    run uncompiled, with no more than a line in the log.
    """

    def call(*arguments: Any) -> Any:
        return network(*arguments)

    call.__code__ = call.__code__.replace()  # a copy, and so another piece of code
    return call


def choose_dtype(dtype: Precision, device: torch.device, batch: int) -> torch.dtype:
    """The precision of a batch; see `FastModule`.

    Raises:
        ValueError: If `dtype` is unknown.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype == "auto":
        return torch.bfloat16 if batch >= _LARGE_BATCH and has_bfloat16(device) else torch.float32
    chosen = dtype if isinstance(dtype, torch.dtype) else known.get(dtype)
    if chosen is None or chosen not in known.values():
        raise ValueError(f"unknown dtype {dtype!r}; expected 'auto' or one of {sorted(known)}")
    return chosen
