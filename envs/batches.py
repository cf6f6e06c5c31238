"""How are observations and infos of a batch taken apart and put together? Nested dicts of tensors, a row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from ..worlds import Infos, Observation


def for_all(key: str, value: Tensor) -> Infos:
    """An info that every environment has."""
    return {key: value, f"_{key}": torch.ones(len(value), dtype=torch.bool, device=value.device)}


def masked(info: Infos, mask: Tensor) -> Infos:
    """Infos, and their masks, with zeros and False outside `mask`."""
    return {key: torch.where(_like(mask, value), value, torch.zeros_like(value)) for key, value in info.items()}


def selected(which: Tensor, new: Observation, old: Observation) -> Observation:
    """Observations of B environments: the new ones inside of a mask (B,), the old ones elsewhere."""
    if isinstance(old, dict):
        assert isinstance(new, dict)
        return {key: selected(which, new[key], value) for key, value in old.items()}
    assert isinstance(new, Tensor)
    return torch.where(_like(which, old), new, old)


def _like(mask: Tensor, value: Tensor) -> Tensor:
    """A mask (B,) with as many dimensions as a value (B, ...)."""
    return mask.view(-1, *(1,) * (value.ndim - 1))


def to_numpy(tree: Any) -> Any:
    """The tensors of nested dicts and tuples as arrays."""
    if isinstance(tree, Tensor):
        return tree.cpu().numpy()
    if isinstance(tree, dict):
        return {key: to_numpy(value) for key, value in tree.items()}
    return tuple(to_numpy(value) for value in tree) if isinstance(tree, tuple) else tree


def refuse_ended(ended: Tensor) -> None:
    """Raise `ResetNeeded` if there is an environment in the mask (B,), which has ended and was not reset."""
    if late := ended.nonzero().flatten().tolist():
        raise ResetNeeded(f"dreams {late} have ended: call reset(options={{'reset_mask': ...}})")


def as_gymnasium_has_it(results: Any) -> Any:
    """A step of tensors as arrays; the last observations one by one, or nothing of them where there are none."""
    arrays = to_numpy(results)
    info = arrays[-1]
    if "final_obs" in info:
        if info["_final_obs"].any():
            info["final_obs"] = one_by_one(info["final_obs"], info["_final_obs"])
        else:
            for key in ("final_obs", "_final_obs", "final_info", "_final_info"):
                del info[key]
    return arrays


def one_by_one(observation: Any, ended: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The observations of those that ended as Gymnasium's "final_obs": an object array, None for the others."""
    last = np.full(len(ended), None, dtype=object)
    for slot in np.flatnonzero(ended):
        last[slot] = row_of(observation, slot)
    return last


def row_of(tree: Any, slot: Any) -> Any:
    """Of one environment in nested dicts of arrays, a copy."""
    return {key: row_of(value, slot) for key, value in tree.items()} if isinstance(tree, dict) else tree[slot].copy()


def unbatch(observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Observation and info of a batch of one as those of a single environment; what it does not have is left out."""
    return row_of(observation, 0), infos_of(info, [0])[0]


def infos_of(info: Mapping[str, Any], slots: Sequence[int]) -> list[dict[str, Any]]:
    """Gymnasium's vector infos as one dict for each of some environments, without what they do not have."""
    infos: list[dict[str, Any]] = [{} for _ in slots]
    for key, values in info.items():
        if key.startswith("_"):
            continue
        present = info[f"_{key}"].tolist()
        values = values.tolist() if values.ndim == 1 else values
        for own, slot in zip(infos, slots, strict=True):
            if present[slot]:
                own[key] = values[slot]
    return infos
