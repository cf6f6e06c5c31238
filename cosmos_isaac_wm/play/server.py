"""How does the page reach the browser, and who may drive? A Starlette application that hears its own page only."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from .stage import Stage
from .visitor import Visitor

_PAGES = {"/": "index.html", "/play.css": "play.css", "/play.js": "play.js", "/controls.js": "controls.js"}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_MOST_VISITORS = 16
_MOST_BYTES = 4096  # of a message
_SILENCE = 5.0  # seconds: whoever does not answer for so long has gone, and holds the wheel no longer


class OwnPage:
    """Lets in what the page itself asks; everything else is refused.

    A page of another origin can open a WebSocket here, and a name that its owner lets point to this machine (DNS
    rebinding) makes it even look like the same origin. So the host must be an address, which nobody can rebind, or
    one of the names; and a WebSocket's origin must be that host.

    Args:
        app: What is guarded.
        names: That this machine is called beside "localhost".
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]):
        self._app, self._names = app, {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host) or (scope["type"] == "websocket" and not _same(headers.get("origin"), host)):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: status 403
            else:
                await PlainTextResponse("this host is not served here", 421)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, guarded)

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            urlsplit(f"//{host}").port  # noqa: B018 (raises for what is no port)
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _same(origin: str | None, host: str) -> bool:
    """Whether a page of an origin was served by the host itself."""
    return origin is not None and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def application(stage: Stage, names: Iterable[str] = ()) -> ASGIApp:
    """The page and its WebSocket `/live`.

    Args:
        stage: What is played.
        names: That this machine is called, beside "localhost" and its addresses.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        stage.begin()
        try:
            yield
        finally:
            await stage.end()

    folder = files("cosmos_isaac_wm.play").joinpath("page")
    pages = {
        path: (folder.joinpath(name).read_bytes(), _TYPES[os.path.splitext(name)[1]]) for path, name in _PAGES.items()
    }

    async def page(request: Request) -> Response:
        content, kind = pages[request.url.path]
        return Response(content, media_type=kind)

    async def live(socket: WebSocket) -> None:
        await _serve(stage, socket)

    routes = [*(Route(path, page) for path in _PAGES), WebSocketRoute("/live", live)]
    return OwnPage(Starlette(routes=routes, lifespan=lifespan), names)


async def _serve(stage: Stage, line: WebSocket) -> None:
    """One visitor, from its coming to its going."""
    await line.accept()
    if len(stage.visitors) >= _MOST_VISITORS:
        await line.close(1013, "too many look on")
        return
    visitor = Visitor(line)
    sending = asyncio.create_task(visitor.send())
    try:
        stage.enter(visitor)
        while True:
            try:
                message = json.loads(await line.receive_text())
            except (ValueError, TypeError, KeyError, RecursionError):  # no JSON, or bytes
                message = None
            stage.hear(visitor, message)
    except WebSocketDisconnect:
        pass
    finally:
        stage.leave(visitor)  # first, as whoever is cancelled gets no further than the next await
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; 0 is any free port.

    Raises:
        ValueError: If there is no such port.
        OSError: If it is taken, or the address is none of this machine; says which.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"port must be from 0 to 65535, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OSError(
            f"cannot listen at {host} port {port} ({error.strerror or error}): choose another --port or --host"
        ) from error


def serve(app: ASGIApp, at: socket.socket) -> None:
    """Serve until the process is interrupted."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=_MOST_BYTES,
        ws_per_message_deflate=False,  # JPEG is compressed
        ws_ping_interval=_SILENCE,
        ws_ping_timeout=_SILENCE,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    uvicorn.Server(config).run([at])
