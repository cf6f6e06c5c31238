"""What of the caller's reaches our computation? Values only: no autograd mode, no default type, no array's layout.

Every public call that computes with torch is `ours`; every array or tensor of the caller's goes through `array_of` or
`tensor_of`, and so does what a function of the caller's returns.
"""

from __future__ import annotations

import functools
import operator
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@contextmanager
def own_mode(gradients: bool = False) -> Iterator[None]:
    """Compute alike whatever torch is set to around it; also a decorator.

    Inside there is no inference mode (whose tensors nobody could use again outside of it), no autocast, and there are
    gradients only where they are asked for. These are a thread's own. Torch's default type and device are not: our
    tensors say both.

    Args:
        gradients: Whether they are recorded.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def training_mode() -> Iterator[None]:
    """`own_mode` with gradients in which tensors are float32 and on the processor where nothing is said.

    For what trains, and its optimisers, which ask for both: the default type is the whole process's, so train in one
    thread.
    """
    theirs = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with own_mode(gradients=True), torch.device("cpu") if _elsewhere() else nullcontext():
            yield
    finally:
        torch.set_default_dtype(theirs)


@contextmanager
def own_draws() -> Iterator[None]:
    """Make networks whose weights are read from a file: on the processor, with no draw from the caller's generator."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu") if _elsewhere() else nullcontext():
        yield


def _elsewhere() -> bool:
    """Whether tensors are made on another device than the processor where nothing is said."""
    return torch.get_default_device().type != "cpu"


def ours(call: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A function or method that computes in `own_mode`, without gradients; in a compiled one, whose caller does."""

    @functools.wraps(call)
    def inside(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        if torch.compiler.is_compiling():
            return call(*arguments, **named)
        with own_mode():
            return call(*arguments, **named)

    return inside


@contextmanager
def modules_from_here() -> Iterator[None]:
    """Let modules in the working directory be imported, as by a script there, whatever command or worker this is."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def array_of(values: ArrayLike | Tensor, name: str, dtype: Any = None) -> NDArray[Any]:
    """The caller's values as an array that torch can take: a copy, row by row, in this machine's byte order.

    Args:
        values: An array of any layout, a tensor, or nested lists of numbers.
        name: What they are, for the message.
        dtype: What to convert them to; their own type when None.

    Raises:
        ValueError: If they are not numbers in a regular shape.
    """
    try:
        given = detached(values).cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        if given.dtype.kind not in "biuf":
            raise TypeError(f"these are of type {given.dtype}")
        if given.dtype.kind == "f" and given.dtype.itemsize > 8:  # which torch does not know
            given = given.astype(np.float64)
        with np.errstate(all="ignore"):  # what is too large for the type becomes infinite, and is refused as that
            return np.array(given, dtype=dtype or given.dtype.newbyteorder("="), order="C")
    except (TypeError, ValueError, RuntimeError) as error:  # the last is of tensors that are sparse, or on "meta"
        raise ValueError(f"{name}: expected numbers, in an array of regular shape; {error}") from error


def tensor_of(values: ArrayLike | Tensor, name: str, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """The caller's values as a tensor without a history.

    Args:
        values: As of `array_of`.
        name: What they are, for the message.
        dtype: Of the tensor.
        device: Where it is to be; None leaves a tensor where it is.

    Raises:
        ValueError: If they are not numbers in a regular shape.
    """
    if isinstance(values, Tensor):
        if values.is_complex() or values.layout != torch.strided or values.is_quantized:
            raise ValueError(f"{name}: expected a dense tensor of real numbers, got {values.dtype} ({values.layout})")
        return detached(values).to(device or values.device, dtype)
    return torch.from_numpy(array_of(values, name)).to(device or torch.device("cpu"), dtype)


def integer(value: Any, name: str) -> int:
    """A whole number of the caller's, Python's or NumPy's.

    Raises:
        ValueError: If it is none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: expected a whole number, got {value!r}") from None


def how_to_convert(dtype: Any, shape: tuple[int, ...]) -> str:
    """What makes uint8 RGB frames (..., H, W, 3) of pictures in another form, as the end of a message; maybe nothing.

    Args:
        dtype: Of the pictures, NumPy's or torch's.
        shape: Of the pictures.
    """
    steps = []
    if len(shape) >= 3 and shape[-1] not in (3, 4) and shape[-3] in (3, 4):
        steps.append("channels come last: np.moveaxis(frames, -3, -1)")
    if len(shape) >= 3 and 4 in (shape[-1], shape[-3]):
        steps.append("drop the fourth channel: frames[..., :3]")
    if "float" in str(dtype):
        steps.append("values are 0 to 255: (255 * frames).round().astype(np.uint8), if they lie between 0 and 1")
    return f" ({'; '.join(steps)})" if steps else ""


def detached(tensor: Tensor) -> Tensor:
    """The caller's tensor without its history; a copy of one from inference mode, which may not be used outside."""
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()
