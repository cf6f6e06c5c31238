"""Which task is a bundle's? The twin's where it is of a foreign environment, else that of bringing objects to goals."""

from __future__ import annotations

import difflib
from typing import Any

from ..perception import Perception
from ..worlds import Task
from .table_task import TableOptions, TableTask
from .twin_task import TwinOptions, TwinTask


def new_task(perception: Perception, num_envs: int = 1, to_torch: bool = False, **options: Any) -> Task:
    """The task of B environments.

    Args:
        perception: Of the bundle.
        num_envs: B.
        to_torch: Show the user's functions tensors instead of arrays.
        options: The task's own, as of `TableOptions` or `TwinOptions`.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an option is impossible, or the bundle does not support it.
    """
    twin = perception.scene.environment is not None and perception.heads is not None
    known = sorted((TwinOptions if twin else TableOptions).__annotations__)
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the options of the task are {known}"
            raise TypeError(f"unexpected keyword argument {name!r}; {hint}")
    if twin:
        return TwinTask(perception, num_envs, to_torch=to_torch, **options)
    return TableTask(perception, num_envs, to_torch=to_torch, **options)
