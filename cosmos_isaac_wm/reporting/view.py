"""How is something looked at step by step? In Rerun's viewer: pictures, tracks and curves on one timeline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..storage.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION = "cosmos-isaac-wm"
COLOURS = {"real": (12, 107, 88), "dream": (194, 24, 143)}
_QUALITY = 92  # of JPEG pictures


@dataclass
class Shown:
    """An episode as it is shown: whatever there is of it, each from a frame of the episode on.

    Attributes:
        name: Of the episode, the first part of all paths.
        hz: Frames a second.
        pictures: By path, the frame that the first is of, and uint8 (T, H, W, 3).
        tracks: By path below that of a picture, the first's frame, and points (T, 2) in its pixels, NaN where unknown.
        curves: By path, the first's frame, and values (T,), NaN where unknown.
    """

    name: str
    hz: float
    pictures: dict[str, tuple[int, NDArray[np.uint8]]] = field(default_factory=dict)
    tracks: dict[str, tuple[int, NDArray[Any]]] = field(default_factory=dict)
    curves: dict[str, tuple[int, NDArray[Any]]] = field(default_factory=dict)

    @property
    def groups(self) -> list[str]:
        """First parts of the curves' paths, in their order."""
        return list(dict.fromkeys(path.split("/")[0] for path in self.curves))


def write_rrd(path: Path, shown: Sequence[Shown]) -> None:
    """Write a recording that `rerun FILE` opens, whole or not at all.

    Raises:
        ImportError: If Rerun is not installed.
    """
    rr = rerun()
    with replacing(path) as temporary:
        stream = rr.RecordingStream(APPLICATION)
        stream.save(temporary, default_blueprint=_layout(shown))
        _send(rr, stream, shown)
        stream.flush()
        stream.disconnect()


def show(shown: Sequence[Shown]) -> None:
    """Open Rerun's viewer, which goes on by itself.

    Raises:
        ImportError: If Rerun is not installed.
    """
    rr = rerun()
    stream = rr.RecordingStream(APPLICATION)
    stream.spawn(default_blueprint=_layout(shown))
    _send(rr, stream, shown)
    stream.flush()
    stream.disconnect()


def rerun() -> ModuleType:
    """Rerun's package.

    Raises:
        ImportError: If it is not installed; says how to install it.
    """
    if find_spec("rerun") is None:
        raise ImportError("this is looked at with Rerun, which is not installed: pip install 'cosmos-isaac-wm[rerun]'")
    import rerun

    return rerun


def _send(rr: ModuleType, stream: Any, shown: Sequence[Shown]) -> None:
    """Log everything; what Rerun cannot take is an error, not a warning."""
    with _strictly(rr):
        for each in shown:
            for path, (first, frames) in each.pictures.items():
                for index, frame in enumerate(frames):
                    _at(stream, each, first + index)
                    stream.log(f"{each.name}/{path}", rr.Image(frame).compress(jpeg_quality=_QUALITY))
            for path, (first, points) in each.tracks.items():
                _send_track(rr, stream, each, path, first, points)
            for path, (first, values) in each.curves.items():
                known = np.flatnonzero(np.isfinite(values))
                rr.send_columns(
                    f"{each.name}/{path}",
                    indexes=[
                        rr.TimeColumn("frame", sequence=first + known),
                        rr.TimeColumn("time", duration=(first + known) / each.hz),
                    ],
                    columns=rr.Scalars.columns(scalars=np.asarray(values, np.float64)[known]),
                    recording=stream,
                )


def _send_track(rr: ModuleType, stream: Any, shown: Shown, path: str, first: int, points: NDArray[Any]) -> None:
    """The way so far as a line, and its end as a point, over a picture. Rerun counts from a pixel's corner."""
    colour = COLOURS["dream" if "dream" in path.split("/")[-1] else "real"]
    seen: list[NDArray[Any]] = []
    for index, point in enumerate(points + 0.5):
        _at(stream, shown, first + index)
        seen += [point] if np.isfinite(point).all() else []
        if seen:
            stream.log(f"{shown.name}/{path}", rr.LineStrips2D([np.array(seen)], colors=[colour]))
            stream.log(f"{shown.name}/{path}/here", rr.Points2D([seen[-1]], colors=[colour], radii=[1.2]))


def _at(stream: Any, shown: Shown, frame: int) -> None:
    """What is logged next is of a frame of the episode."""
    stream.set_time("frame", sequence=frame)
    stream.set_time("time", duration=frame / shown.hz)


@contextmanager
def _strictly(rr: ModuleType) -> Iterator[None]:
    before = rr.strict_mode()
    rr.set_strict_mode(True)
    try:
        yield
    finally:
        rr.set_strict_mode(before)


def _layout(shown: Sequence[Shown]) -> Any:
    """A tab for every episode: its pictures in a row, its curves below, on the timeline of frames."""
    import rerun.blueprint as rrb

    tabs = []
    for each in shown:
        pictures = [rrb.Spatial2DView(origin=f"/{each.name}/{path}", name=path) for path in each.pictures]
        curves = [rrb.TimeSeriesView(origin=f"/{each.name}/{group}", name=group) for group in each.groups]
        rows = [rrb.Horizontal(*row) for row in (pictures, curves) if row]
        tabs.append(rrb.Vertical(*rows, name=each.name))
    return rrb.Blueprint(rrb.Tabs(*tabs), rrb.TimePanel(timeline="frame"))
