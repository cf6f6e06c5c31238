"""How is a dream played? `cosmos-wm play` opens it as a page in the browser, live, and records demonstrations."""

from __future__ import annotations

import signal
import socket
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cosmos_isaac_wm.play.demonstrations import Demonstrations
from cosmos_isaac_wm.play.session import Options, Session, source_of
from cosmos_isaac_wm.play.stage import Stage
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel

_NEEDED = ("starlette", "uvicorn", "websockets")


@dataclass(frozen=True)
class Play:
    """Play a dream in the browser, live, and record demonstrations as a dataset; Ctrl-C ends it (docs/play.md).

    Needs `pip install "cosmos-isaac-wm[play]"`. The first page that is opened drives; others watch.

    Attributes:
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        out: Folder of the demonstrations; one of the same bundle goes on. Nothing can be recorded when not given.
        pictures: Whose pictures demonstrations hold: the "dream"'s, or the "real" simulator's beside it.
        policy: Who can take the wheel: an agent's folder or the name of a shipped one, "scripted" (the table's),
            "random", "smooth", or "module:function"; the bundle's own agent when not given.
        real: What the environment of a twin is called, "module:Name-v0", where Gymnasium does not know it by itself.
        max_steps: Steps until an episode is over; the bundle's own when not given.
        host: Address to listen at. Whoever reaches another one than the machine's own may look on, or drive.
        port: Port to listen at; 0 is any that is free.
        browser: Open the page in this machine's browser.
        device: "auto", "cpu" or "cuda".
        seed: Of the dreams' seeds.
    """

    world_model: str = "default"
    out: Path | None = None
    pictures: Literal["dream", "real"] = "dream"
    policy: str | None = None
    real: str | None = None
    max_steps: int | None = None
    host: str = "127.0.0.1"
    port: int = 8642
    browser: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse options that mean nothing together."""
        if self.pictures == "real" and self.out is None:
            raise ValueError("pictures are those of demonstrations: give their folder with --out")

    def run(self) -> dict[str, float]:
        """Serve the page until Ctrl-C, then write the dataset; how many demonstrations there are."""
        if missing := [name for name in _NEEDED if find_spec(name) is None]:
            raise ImportError(f'play needs {", ".join(missing)}: pip install "cosmos-isaac-wm[play]"')
        from cosmos_isaac_wm.play.server import application, listening, serve

        with listening(self.host, self.port) as at:
            model = WorldModel.load(self.world_model, self.device)
            held = nullcontext() if self.out is None else Demonstrations(self.out, source_of(model, self.pictures))
            with held as demonstrations:
                options = Options(self.max_steps, self.policy, self.real, self.pictures, self.seed)
                stage = Stage(lambda: Session(model, options, demonstrations))
                self._announce(at)
                ended = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the dataset is written
                try:
                    serve(application(stage, self._names()), at)
                except KeyboardInterrupt:
                    print(file=sys.stderr)  # after the terminal's ^C
                finally:
                    signal.signal(signal.SIGTERM, ended)
            count = 0 if demonstrations is None else len(demonstrations)
        print("the play is over" + (f"; demonstrations in {self.out}: {count}" if count else ""))
        return {"demonstrations": count}

    def _announce(self, at: socket.socket) -> None:
        """Say where the page is."""
        host, port = at.getsockname()[:2]
        shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        print(f"play at {url} (Ctrl-C ends it)", flush=True)
        if not self._own_machine_only(host):
            print("whoever reaches this address may look on, and the first one drives", file=sys.stderr)
        if self.browser:
            webbrowser.open(url)

    def _names(self) -> list[str]:
        """What a browser may call this machine."""
        return [self.host] if self._own_machine_only(self.host) else [self.host, socket.gethostname()]

    @staticmethod
    def _own_machine_only(host: str) -> bool:
        return host in ("localhost", "::1") or host.startswith("127.")


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm play` command."""
    return cli.run(Play, "play", argv)


if __name__ == "__main__":
    sys.exit(main())
