"""How do pictures get out of an mp4 and into one? Frame by frame, by their time stamps."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...storage.structured import must_be_file
from ..episodes import DatasetError

_KEYFRAMES = "2"  # frames from one that can be decoded alone to the next, as LeRobot has them: any is found at once
_QUALITY = "18"  # x264's constant rate factor; hardly to be told from the original


def frames_in(path: Path) -> tuple[int, tuple[int, int]]:
    """How many frames a video says it has, 0 if it does not say; their height and width.

    Raises:
        DatasetError: If it is missing or no video.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        try:
            return int(stream.frames), (int(stream.height), int(stream.width))
        except AttributeError as error:  # of a codec that nobody knows
            raise DatasetError(f"{path} is no video that can be read: {error}") from error


def frames_from(path: Path, begin: float, count: int, fps: float) -> Generator[NDArray[np.uint8]]:
    """So many frames of a video, uint8 (H, W, 3) each.

    Args:
        path: Of the video.
        begin: Time of the first in seconds.
        count: How many.
        fps: Frames per second.

    Raises:
        DatasetError: If it is damaged, or has no frame at one of these times.
    """
    found = 0
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            container.seek(int(begin / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                place = round((float(frame.pts * stream.time_base) - begin) * fps)
                if place < found:
                    continue
                if place > found or found == count:
                    break
                yield frame.to_ndarray(format="rgb24")
                found += 1
        except Exception as error:  # whatever damage makes FFmpeg and PyAV raise
            raise DatasetError(f"{path} is damaged: {error}") from error
    if found < count:
        raise DatasetError(f"{path} has no frame at {begin + found / fps:.3f} s, of which the table has a row")


class Mp4:
    """A video that is being written.

    Args:
        path: Of the file.
        fps: Frames per second.
        size: Height and width in pixels, both even.

    Attributes:
        count: Frames so far.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]):
        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.count = path, 0
        self._container = av.open(str(path), "w")
        self._stream: Any = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt, self._stream.options = "yuv420p", {"crf": _QUALITY, "g": _KEYFRAMES}

    def add(self, frames: NDArray[np.uint8]) -> None:
        """Add frames (T, H, W, 3)."""
        import av

        for frame in frames:
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        self.count += len(frames)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode())
        self._container.close()


def _opened(path: Path) -> Any:
    import av

    must_be_file(path, DatasetError)
    try:
        container = av.open(str(path), format="mp4")  # a playlist would lead to other files
    except Exception as error:  # whatever damage makes FFmpeg and PyAV raise
        raise DatasetError(f"{path} is no video that can be read: {error}") from error
    if not container.streams.video:
        container.close()
        raise DatasetError(f"{path} has no pictures")
    return container
