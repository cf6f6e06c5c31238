"""Which random number belongs to a seed and a place? Counter-based ones: tensor operations without any state.

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) in int64 arithmetic,
which wraps around as unsigned numbers do. The same key and draw give the same number on every device, alone and in a
batch, in any order; nothing has to be kept, or copied from the host.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as int64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def mixed(key: Tensor, part: Tensor | int) -> Tensor:
    """A key made from a key and one part more, such as an episode's number or a draw's.

    Args:
        key: int64, of any shape.
        part: int64 that broadcasts with it.

    Returns:
        int64, every bit of which depends on every bit of both.
    """
    # part + 1 times the constant, as -(part + 1) times its negative. A compiler folds "+ 1" and the constant into the
    # arithmetic of its indices, which is 32 bits wide on a GPU; it takes "~" as it is.
    step = -_GOLDEN * ~part
    return _avalanche(key + (step if isinstance(step, Tensor) else (step + 2**63) % 2**64 - 2**63))


def uniform(key: Tensor, draw: Tensor | int = 0) -> Tensor:
    """Numbers in [0, 1), float64, one for each key and draw (they broadcast)."""
    return _shifted(mixed(key, draw), 11).double() * 2.0**-53


def normal(key: Tensor, count: int) -> Tensor:
    """Standard normal numbers, float32 (..., count), for keys (...): Box and Muller's transform of uniform ones."""
    draws = torch.arange(2 * count, device=key.device)
    first, second = uniform(key.unsqueeze(-1), draws).chunk(2, dim=-1)
    return ((-2 * (1 - first).log()).sqrt() * (2 * math.pi * second).cos()).float()


def _avalanche(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser."""
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Shifted to the right, with zeros from the left; int64's own shift would repeat the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
