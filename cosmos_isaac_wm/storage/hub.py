"""Where is what lies on the Hugging Face hub? Downloaded once, in the hub's own cache."""

from __future__ import annotations

from pathlib import Path

HUB = "hf://"


def downloaded(name: str, kind: str = "model", error: type[Exception] = ValueError) -> Path:
    """The folder of a repository.

    Args:
        name: "hf://owner/repository".
        kind: "model" or "dataset".
        error: What to raise.

    Raises:
        error: If that is no name of one.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name.removeprefix(HUB), repo_type=kind))
    except HFValidationError as problem:
        raise error(f"{name!r} is no {HUB}owner/repository: {problem}") from problem
