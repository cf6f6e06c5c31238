"""Who looks at the dream? The first visitor drives, others watch; each is sent the newest picture that it can take."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

_MOST_SAID = 32  # messages that wait for a slow visitor


class Line(Protocol):
    """The part of a WebSocket that sending needs."""

    async def send_text(self, data: str) -> None:
        """Send text."""

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes."""


class Visitor:
    """One page that is open.

    A visitor on a slow line misses pictures and delays nobody: only the newest one waits for it.

    Args:
        line: Where to send.

    Attributes:
        drives: Whether it acts.
    """

    def __init__(self, line: Line):
        self._line, self.drives = line, False
        self._said: deque[dict[str, Any]] = deque(maxlen=_MOST_SAID)
        self._newest: tuple[dict[str, Any], Sequence[bytes]] | None = None
        self._something = asyncio.Event()

    def say(self, message: dict[str, Any]) -> None:
        """Send JSON, every message."""
        self._said.append(message)
        self._something.set()

    def show(self, state: dict[str, Any], pictures: Sequence[bytes]) -> None:
        """Send the state and its pictures, unless newer ones come before."""
        self._newest = state, pictures
        self._something.set()

    async def send(self) -> None:
        """Send what there is, for as long as the visitor stays.

        A picture is a binary message: its place (0 the dream, 1 the real one), then a JPEG file.
        """
        while True:
            await self._something.wait()
            self._something.clear()
            while self._said:
                await self._line.send_text(json.dumps(self._said.popleft()))
            if self._newest is not None:
                (state, pictures), self._newest = self._newest, None
                await self._line.send_text(json.dumps({"type": "state", **state}))
                for place, picture in enumerate(pictures):
                    await self._line.send_bytes(bytes([place]) + picture)


class Visitors:
    """All of them, in the order in which they came."""

    def __init__(self) -> None:
        self._all: list[Visitor] = []

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, visitor: Visitor) -> None:
        """Let one in; it drives if nobody does."""
        self._all.append(visitor)
        self._choose_driver()

    def leave(self, visitor: Visitor) -> bool:
        """Let one go; whether it drove. Whoever waits longest drives then."""
        self._all.remove(visitor)
        drove, visitor.drives = visitor.drives, False
        self._choose_driver()
        return drove

    def say(self, message: dict[str, Any]) -> None:
        """Tell all."""
        for visitor in self._all:
            visitor.say(message)

    def show(self, state: dict[str, Any], pictures: Sequence[bytes]) -> None:
        """Show all of them the same; each is told whether it drives and how many look on."""
        for visitor in self._all:
            visitor.show({**state, "drives": visitor.drives, "visitors": len(self._all)}, pictures)

    def _choose_driver(self) -> None:
        if self._all and not any(visitor.drives for visitor in self._all):
            self._all[0].drives = True
