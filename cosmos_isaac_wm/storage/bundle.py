"""Where is a bundle, and what does its YAML say? Shipped ones go by name, others by folder or from the hub."""

from __future__ import annotations

import difflib
import os
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import yaml

from .paths import user_path


class BundleError(ValueError):
    """A bundle is missing, truncated, of another format, or does not fit together."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of a bundle.

    Raises:
        BundleError: If it is missing or not a mapping.
    """
    if not path.is_file():
        raise BundleError(f"no {path.name} in {path.parent}; expected a folder written by `cosmos-wm fit-...`")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise BundleError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} is truncated or not a mapping")
    return content


def find_bundle(name: str | os.PathLike[str]) -> Path:
    """The folder of a bundle, by shipped name, path, or "hf://owner/repository".

    Raises:
        BundleError: If there is none; names the shipped ones.
    """
    if not isinstance(name, str | os.PathLike):
        raise BundleError(f"a world model is a shipped name, a folder or hf://owner/repository, not {name!r}")
    text = os.fspath(name)
    if text.startswith("hf://"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError

        try:
            return Path(snapshot_download(text.removeprefix("hf://")))
        except HFValidationError as error:
            raise BundleError(f"{text!r} is no hf://owner/repository: {error}") from error
    try:
        if (user_path(text) / "config.yaml").is_file():
            return user_path(text)
    except OSError as error:  # such as a name that is too long for one
        raise BundleError(f"no world model bundle {text[:80]!r}: {error.strerror}") from error
    with as_file(files("cosmos_isaac_wm.weights")) as weights:
        shipped = sorted(path.parent.name for path in weights.glob("*/config.yaml"))
        if text in shipped:
            return weights / text
    near = difflib.get_close_matches(text, shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise BundleError(f"no world model bundle {text!r}: not a folder with config.yaml, and shipped are {shipped}{hint}")


def find_perception(name: str | os.PathLike[str]) -> Path:
    """The folder of a perception, or of a bundle as `find_bundle` finds it.

    Raises:
        BundleError: If there is none; names the shipped bundles.
    """
    if (user_path(name) / "perception.yaml").is_file():
        return user_path(name)
    try:
        return find_bundle(name)
    except BundleError as error:
        raise BundleError(f"no perception in {os.fspath(name)!r} (no perception.yaml), and {error}") from error
