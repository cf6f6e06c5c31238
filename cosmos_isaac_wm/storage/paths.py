"""What does a path of the user's mean? As in a shell: `~` is their home, `$NAME` a variable of the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path with `~` and variables replaced.

    Raises:
        ValueError: If a variable is not set.
    """
    return Path(expanded(os.fspath(path)))


def expanded(text: str) -> str:
    """Text with `~` at its beginning, and `$NAME` or `${NAME}` in it, replaced; what exists under its name stays so.

    Raises:
        ValueError: If a variable is not set.
    """
    if os.path.exists(text):
        return text
    found = os.path.expanduser(os.path.expandvars(text))
    if missing := _VARIABLE.search(found):
        raise ValueError(f"{text!r}: the environment variable {missing[1] or missing[2]!r} is not set")
    return found
