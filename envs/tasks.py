"""Which task is a bundle's? The one place to change where a second task shall stand beside the table's."""

from __future__ import annotations

import difflib
from typing import Any

from ..perception import Perception
from ..worlds import Task
from .table_task import TableOptions, TableTask


def new_task(perception: Perception, num_envs: int = 1, to_torch: bool = False, **options: Any) -> Task:
    """The task of B environments.

    Args:
        perception: Of the bundle.
        num_envs: B.
        to_torch: Show the user's functions tensors instead of arrays.
        options: The task's own, as of `TableOptions`.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an option is impossible, or the bundle does not support it.
    """
    known = sorted(TableOptions.__annotations__)
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the options of the task are {known}"
            raise TypeError(f"unexpected keyword argument {name!r}; {hint}")
    return TableTask(perception, num_envs, to_torch=to_torch, **options)
