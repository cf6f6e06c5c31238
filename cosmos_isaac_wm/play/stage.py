"""When does a dream that is played go on? By a clock of its own, between the messages of whoever drives."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from numpy.typing import NDArray

from .session import Session
from .told import jpeg, scene_of, state_of
from .visitor import Visitor, Visitors

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the recorded rate
_FLUENT = 20.0  # pictures a second that a dream shows at least, unless it is slowed down
_SOON = 0.5  # of a control step after the last one, a new action begins the next, which was not due: nobody waits long
_LATE = 6.0  # control steps that are made up for; after a longer delay the clock begins anew
_MOST_QUEUED = 256  # messages
_FORESEEN = (ValueError, TypeError, KeyError, OSError, RuntimeError, ImportError)  # errors that say enough
_Result = TypeVar("_Result")


def own_speed(rate: float) -> float:
    """The slowest speed at which a dream of this rate, steps a second, shows twenty pictures a second."""
    return next((speed for speed in SPEEDS if speed >= 1 and speed * rate >= _FLUENT), SPEEDS[-1])


class Stage:
    """A session with a clock, an audience, and a thread of its own, on which alone it computes and draws.

    Args:
        open_session: Makes the session, on that thread: what draws belongs to the thread that made it.

    Attributes:
        visitors: Who looks.
        session: What is played.

    Raises:
        Exception: Whatever `open_session` raises, or drawing its first picture.
    """

    def __init__(self, open_session: Callable[[], Session]):
        self._thread = ThreadPoolExecutor(1, "dream")
        try:
            self.session = self._thread.submit(open_session).result()
            self._pictures = self._thread.submit(self._drawn).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self.visitors = Visitors()
        self._queue: asyncio.Queue[tuple[Visitor, dict[str, Any]]] = asyncio.Queue(_MOST_QUEUED)
        self._running, self._speed = False, own_speed(self.session.model.scene.control_hz)
        self._action: NDArray[Any] = self.session.controls.rest()
        self._asked = self._acted = 0  # numbers of the driver's newest action, and of that which led to the picture
        self._last = 0.0  # when the dream went on, by the clock
        self._clock: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the clock, in a loop that runs."""
        self._clock = asyncio.create_task(self._go())

    async def end(self) -> None:
        """Stop the clock, close the session, which keeps its recording, and end its thread."""
        try:
            if self._clock is not None:
                self._clock.cancel()
                await asyncio.gather(self._clock, return_exceptions=True)
            await self._there(self.session.close)
        finally:
            self._thread.shutdown()

    def enter(self, visitor: Visitor) -> None:
        """Let a visitor in, tell it what there is, and show it where the dream is."""
        self.visitors.enter(visitor)
        visitor.say({"type": "scene", "speeds": list(SPEEDS), **scene_of(self.session)})
        self._show()

    def leave(self, visitor: Visitor) -> None:
        """Let a visitor go; with the driver's, the hand goes from the wheel, and the dream stops."""
        if self.visitors.leave(visitor):
            self._running, self._action = False, self.session.controls.rest()
            self._asked = self._acted = 0  # another driver counts anew
        self._show()

    def hear(self, visitor: Visitor, message: Any) -> None:
        """Take a visitor's message; only the driver's are done, and none that come faster than they can be done."""
        if not isinstance(message, dict) or not isinstance(message.get("do"), str):
            visitor.say({"type": "error", "text": 'expected a message {"do": ...}'})
        elif not visitor.drives:
            visitor.say({"type": "error", "text": "somebody else drives; you watch"})
        elif self._queue.full():  # whoever waited here would not see that the visitor has gone
            visitor.say({"type": "error", "text": "too much is asked at once: wait until it is done, then ask again"})
        else:
            self._queue.put_nowait((visitor, message))

    async def _go(self) -> None:
        """Do what is asked, and step when it is time; whoever floods the queue with messages stops no step."""
        asked = asyncio.create_task(self._queue.get())
        try:
            while True:
                await asyncio.wait({asked}, timeout=self._wait())
                if asked.done():
                    visitor, message = asked.result()
                    asked = asyncio.create_task(self._queue.get())
                    if visitor.drives:
                        await self._safely(self._do(message))
                if self._wait() == 0:
                    late = time.perf_counter() - self._last - self._period
                    self._last += self._period + (late if late > _LATE * self._period else 0.0)
                    await self._safely(self._step())
        finally:
            asked.cancel()

    def _wait(self) -> float | None:
        """Seconds until the next step; None while the dream stands."""
        if not self._running:
            return None
        return max(0.0, self._last + self._period - time.perf_counter())

    @property
    def _period(self) -> float:
        """Seconds from step to step."""
        return 1.0 / (self._speed * self.session.model.scene.control_hz)

    async def _safely(self, doing: Any) -> None:
        """Do it; what cannot be done is said, and the dream stands. Whatever a policy raises, the clock goes on."""
        try:
            await doing
        except Exception as error:
            said = " ".join(str(error).split())
            if not isinstance(error, _FORESEEN):
                traceback.print_exception(error)
                said = f"{type(error).__name__}: {said} (where it is from stands in the terminal)"
            self._running = False
            self.visitors.say({"type": "error", "text": said[:400]})
            self._show()

    async def _do(self, message: dict[str, Any]) -> None:
        """One message of the driver."""
        what, on = message["do"], message.get("on") is True
        if what == "act":
            await self._act(message)
        elif what == "run":
            self._run(on)
        elif what == "step":
            self._running = False
            await self._step()
        elif what == "speed":
            if message.get("times") not in SPEEDS:
                raise ValueError(f"speeds are {', '.join(map(str, SPEEDS))}")
            self._speed = float(message["times"])
        elif what == "rewind":
            self._running = False
            await self._change(lambda: self.session.rewind(_whole(message.get("steps"), "steps")))
        elif what == "reset":
            seed = message.get("seed")
            await self._change(lambda: self.session.reset(None if seed is None else _whole(seed, "seed")))
        elif what == "real":
            await self._change(lambda: self.session.set_real(on))
        elif what == "wheel":
            self.session.set_wheel(on)
        elif what == "record":
            self._run(on)
            await self._change(lambda: self.session.record(on))
        else:
            raise ValueError(f"nothing is known that is called {what[:40]!r}")
        self._show()

    def _run(self, on: bool) -> None:
        """Let the dream go on, at once, or let it stand."""
        if on and not self._running:
            self._last = time.perf_counter() - self._period
        self._running = on

    async def _act(self, message: dict[str, Any]) -> None:
        """Take up the driver's action, soon; a touch takes the wheel from the policy, letting go does not."""
        action, number = self.session.controls.action(message.get("action")), _whole(message.get("number"), "number")
        self._action, self._asked = action, number
        if not self.session.controls.at_rest(self._action):
            self.session.set_wheel(False)
        if self._running and time.perf_counter() >= self._last + _SOON * self._period:
            self._last += self._period  # it is the step that was due next: the dream runs no faster
            await self._step()

    async def _step(self) -> None:
        """Let the dream go on, and stop at its end; there a recording is kept."""
        went_on, acted = self.session.over, self._asked  # whoever plays on after the end does not stop again
        moment = await self._there(lambda: self.session.step(self._action))
        await self._draw()
        self._acted = acted
        if moment.ended and not went_on:
            self._running = False
            if self.session.recording:
                self.visitors.say({"type": "kept", "number": await self._there(self.session.keep)})
        self._show()

    async def _change(self, change: Callable[[], object]) -> None:
        """Change the session on its thread, and draw it anew."""
        before = self.session.recorded
        try:
            await self._there(change)
        finally:
            await self._draw()
        if self.session.recorded > before:
            self.visitors.say({"type": "kept", "number": self.session.recorded})

    async def _draw(self) -> None:
        """Take up the pictures of now."""
        self._pictures = await self._there(self._drawn)

    def _drawn(self) -> list[bytes]:
        """The pictures of now, as they are sent; on the session's thread."""
        return [jpeg(frame) for frame in self.session.pictures()]

    def _show(self) -> None:
        """Show everybody how it stands."""
        more = {"running": self._running, "speed": self._speed, "acted": self._acted}
        self.visitors.show(state_of(self.session) | more, self._pictures)

    async def _there(self, what: Callable[[], _Result]) -> _Result:
        """Do something on the session's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)


def _whole(value: Any, name: str) -> int:
    """A whole number from 0 to 2 ** 53, which JavaScript has exactly."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**53:
        raise ValueError(f"{name} must be a whole number from 0, got {str(value)[:40]}")
    return value
