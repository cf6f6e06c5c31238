"""How are YAML and JSON files read that anybody may have written? Bounded first, then parsed, then held to a shape."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

_LARGEST, _LARGEST_RECIPE = 32 * 2**20, 2**18  # bytes of text
_MOST_NODES = 1_000_000  # aliases counted as often as they are used
_DEEPEST = 64
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Shape = TypeVar("Shape")


def content_of(path: Path, error: type[Exception] = ValueError, largest: int | None = None) -> bytes:
    """The bytes of a regular file; no pipe or device is waited for.

    Raises:
        error: If it is none, cannot be read, or is larger than `largest` bytes.
    """
    must_be_file(path, error)
    try:
        if largest is not None and path.stat().st_size > largest:
            raise error(f"{path} has {path.stat().st_size:,} bytes; expected {largest:,} or less")
        return path.read_bytes()
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}") from problem


def read(path: Path, shape: type[Shape], error: type[Exception] = ValueError, data: bytes | None = None) -> Shape:
    """A YAML or JSON file, by its suffix, as what it should hold.

    Args:
        path: Of the file.
        shape: A dataclass, `dict[str, float]`, or any other type that msgspec knows.
        error: What to raise.
        data: The file's bytes, where they have been read.

    Raises:
        error: If the file is missing, damaged, too large, or holds something else; names the place in it.
    """
    data = content_of(path, error, _LARGEST) if data is None else data
    try:
        text = data.decode()
        if path.suffix == ".json":
            content = json.loads(text)
        else:
            _check_size(text)
            content = yaml.load(text, _Loader)
    except UnicodeDecodeError as problem:
        raise error(f"{path} is no text in UTF-8: {problem.reason} at byte {problem.start}") from problem
    except RecursionError as problem:
        raise error(f"{path} is nested too deeply") from problem
    except (ValueError, yaml.YAMLError) as problem:
        raise error(f"{path} is truncated or damaged: {one_line(problem)}") from problem
    return shaped(content, shape, str(path), error)


def shaped(content: Any, shape: type[Shape], where: str, error: type[Exception] = ValueError) -> Shape:
    """Plain content as what it should be.

    Args:
        content: Of mappings, lists, text and numbers.
        shape: As of `read`.
        where: What to call it in messages.
        error: What to raise.

    Raises:
        error: If a value is of another type, missing, or unknown; names it.
    """
    try:
        made = msgspec.convert(content, shape)
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError) as problem:
        raise error(f"{where} is not as it should be: {one_line(problem)}") from problem
    if (stranger := _stranger(content, made)) is not None:
        raise error(f"{where} has an unknown key {stranger}")
    return made


def as_yaml(content: Mapping[str, Any]) -> str:
    """Plain content as YAML text, without aliases."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False))


class _Dumper(yaml.SafeDumper):
    """Writes out what occurs twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def read_rows(path: Path, shape: type[Shape], error: type[Exception] = ValueError) -> list[Shape]:
    """The rows of a CSV file with a header, each as a dataclass.

    Raises:
        error: If the file is damaged; names it.
    """
    try:
        text = content_of(path, error, _LARGEST).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        return [msgspec.convert(row, shape, strict=False) for row in rows]
    except (UnicodeDecodeError, csv.Error, msgspec.ValidationError, TypeError) as problem:
        raise error(f"{path} is damaged: {one_line(problem)}; delete it, or restore it from a copy") from problem


def one_line(problem: Exception) -> str:
    """What an error has to say, in one line that is not too long."""
    return " ".join(str(problem).split())[:300]


def must_be_file(path: Path, error: type[Exception] = ValueError) -> None:
    """Refuse what is no regular file: a pipe or device would be waited for.

    Raises:
        error: Says whether there is anything.
    """
    if not path.is_file():
        raise error(f"{path} is {'no regular file' if path.exists() else 'not there'}")


def _stranger(content: Any, made: Any) -> str | None:
    """The first key of plain content that the dataclass made from it does not have, or None."""
    if dataclasses.is_dataclass(made) and isinstance(content, Mapping):
        known = [field.name for field in dataclasses.fields(made)]
        for key, value in content.items():
            if key not in known:
                return f"{key!r}; expected some of {known}"
            if (inside := _stranger(value, getattr(made, key))) is not None:
                return inside
    elif isinstance(content, list) and isinstance(made, list | tuple):
        pairs = zip(content, made, strict=True)
        return next((found for pair in pairs if (found := _stranger(*pair)) is not None), None)
    return None


def check_recipe(path: Path, error: type[Exception] = ValueError) -> None:
    """Refuse a YAML file of options that is no text, no mapping, or larger or deeper than any real one.

    Raises:
        error: Says why.
    """
    read(path, dict[str, Any] | None, error, content_of(path, error, _LARGEST_RECIPE))  # type: ignore[arg-type]


def _check_size(text: str) -> None:
    """Count the nodes of YAML as it would be built, without building it.

    Raises:
        ValueError: If there are too many, in too many levels, or one that holds itself.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and nodes so far before it
    count = 0
    for event in yaml.parse(text, _Loader):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((anchor, count))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count + 1 - before
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"*{event.anchor} stands for something that holds itself, or for nothing")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if anchor is not None:
                sizes[anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            count += 1
        if count > _MOST_NODES or len(open_nodes) > _DEEPEST:
            raise ValueError(f"more than {_MOST_NODES:,} values, or more than {_DEEPEST} levels")
