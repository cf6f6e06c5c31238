"""How can a file be wrong? Bits, pages and lines that changed, other values, hostile content, and what is no file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.campaigns import hostile

NOT_TEXT = "\ue000not text\ue000"  # stands for bytes that are no UTF-8 until the file is written
VALUES: tuple[Any, ...] = (
    *(None, -1, 0, 1e30, 10**7, float("nan"), "", "x", [], {}, [[[[1]]]], True, "y" * 10**6, NOT_TEXT),
)
HUGE: tuple[Any, ...] = (30_000, 10**7, 10**12, 2**63, -(2**63), 1e308, float("inf"))
STRUCTURED = (".yaml", ".json")
Change = Callable[[Path, Random], None]


def flip_bit(path: Path, random: Random) -> None:
    """One bit."""
    content = bytearray(path.read_bytes())
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def zero_page(path: Path, random: Random) -> None:
    """A block of zeros, as after a crash of the file system."""
    content = bytearray(path.read_bytes())
    size = min(4096, max(1, len(content) // 4))
    start = random.randrange(max(1, len(content) // size)) * size
    content[start : start + size] = bytes(len(content[start : start + size]))
    path.write_bytes(content)


def truncate(path: Path, random: Random) -> None:
    """The end is missing."""
    os.truncate(path, random.randrange(max(1, path.stat().st_size)))


def duplicate(path: Path, random: Random) -> None:
    """Everything twice."""
    path.write_bytes(path.read_bytes() * 2)


def empty(path: Path, random: Random) -> None:
    """Nothing in it."""
    path.write_bytes(b"")


def not_text(path: Path, random: Random) -> None:
    """Bytes that are no UTF-8, somewhere."""
    content = path.read_bytes()
    at = random.randrange(len(content) + 1)
    path.write_bytes(content[:at] + b"\xff\xfe\x80" + content[at:])


def swap_lines(path: Path, random: Random) -> None:
    """Two lines in each other's place."""
    lines = path.read_bytes().split(b"\n")
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    path.write_bytes(b"\n".join(lines))


def delete_line(path: Path, random: Random) -> None:
    """A line is missing."""
    lines = path.read_bytes().split(b"\n")
    del lines[random.randrange(len(lines))]
    path.write_bytes(b"\n".join(lines))


def directory(path: Path, random: Random) -> None:
    """A folder of that name."""
    path.unlink()
    path.mkdir()


def fifo(path: Path, random: Random) -> None:
    """A pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def endless(path: Path, random: Random) -> None:
    """A link to /dev/zero."""
    path.unlink()
    path.symlink_to("/dev/zero")


def dangling(path: Path, random: Random) -> None:
    """A link to nothing."""
    path.unlink()
    path.symlink_to(path.with_name("is not there"))


def circular(path: Path, random: Random) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def delete_key(path: Path, random: Random) -> None:
    """A key or an item is missing."""
    _edit(path, random, lambda container, key: container.pop(key))


def replace_value(path: Path, random: Random) -> None:
    """A key has another value."""
    value = random.choice(VALUES)
    _edit(path, random, lambda container, key: container.__setitem__(key, value))


def huge_value(path: Path, random: Random) -> None:
    """A number is enormous, or a list endless."""
    content = _read(path)
    numbers = [(inside, key) for inside, key in places(content) if isinstance(inside[key], int | float)]
    layers = [(inside, key) for inside, key in places(content) if key == "net_arch"]
    inside, key = random.choice(layers if layers and random.random() < 0.3 else numbers or [({}, 0)])
    inside[key] = [16] * 10**5 if key == "net_arch" else random.choice(HUGE)
    _write(path, content)


def other_root(path: Path, random: Random) -> None:
    """Valid, but no mapping."""
    _write(path, random.choice(VALUES))


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a tree with each of its keys."""
    if isinstance(content, dict | list):
        for key in [*content] if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from places(content[key])


def _edit(path: Path, random: Random, change: Callable[[Any, Any], object]) -> None:
    """Change the value at one place, sometimes within a string that is JSON itself."""
    content = _read(path)
    found = list(places(content))
    if not found:
        return
    named = [place for place in found if isinstance(place[1], str)]  # long lists of numbers would be all that is hit
    inside, key = random.choice(named if named and random.random() < 0.8 else found)
    if isinstance(inside[key], str) and inside[key].startswith("{") and random.random() < 0.5:
        inner = json.loads(inside[key])
        change(*random.choice(list(places(inner))))
        inside[key] = json.dumps(inner)
    else:
        change(inside, key)
    _write(path, content)


def _read(path: Path) -> Any:
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


def _write(path: Path, content: Any) -> None:
    json_file = path.suffix == ".json"
    text = json.dumps(content, ensure_ascii=False) if json_file else yaml.safe_dump(content, allow_unicode=True)
    path.write_bytes(text.encode().replace(NOT_TEXT.encode(), b"\xff\xfe\x80").replace(b"\\uE000", b"\xff\xfe\x80"))


ANY: tuple[Change, ...] = (flip_bit, flip_bit, zero_page, truncate, duplicate, empty)
NO_FILE: tuple[Change, ...] = (directory, fifo, endless, dangling, circular)
TEXT: tuple[Change, ...] = (not_text, swap_lines, delete_line)
TREE: tuple[Change, ...] = (delete_key, delete_key, replace_value, replace_value, replace_value, huge_value, other_root)


def fitting(path: Path) -> list[Change]:
    """The changes that make sense for a file, from its name; one that stands there twice is twice as likely."""
    changes = [*ANY]
    if path.suffix in (*STRUCTURED, ".csv"):
        changes += TEXT
    if path.suffix in STRUCTURED:
        changes += TREE
    changes += hostile.BY_SUFFIX.get(path.suffix, ())
    if path.name == "metadata.json":
        changes += [hostile.environment_of_code]
    return [*changes, NO_FILE[0], *NO_FILE[1:]]


BY_NAME: dict[str, Change] = {
    change.__name__: change
    for change in (*ANY, *NO_FILE, *TEXT, *TREE, hostile.environment_of_code, *sum(hostile.BY_SUFFIX.values(), ()))
}
