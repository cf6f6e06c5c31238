"""How are pictures read that lie about as files? A folder of them, a video, or a NumPy array, as clips."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray

from ...storage.structured import must_be_file, one_line
from ..episodes import DatasetError

_PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
_VIDEOS = (".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm")


def read_clips(path: Path) -> list[NDArray[np.uint8]]:
    """Recorded pictures as clips of RGB frames, uint8 (T, H, W, 3) each.

    Args:
        path: A folder of pictures in the order of their names, a video, or a `.npy` file of uint8 (T, H, W, 3) or, of
            several clips, (N, T, H, W, 3).

    Raises:
        DatasetError: If there are none, or they are of different sizes or of another type.
    """
    if path.is_dir():
        return [_folder(path)]
    must_be_file(path, DatasetError)
    if path.suffix == ".npy":
        return list(_array(path))
    if path.suffix.lower() not in _VIDEOS:
        raise DatasetError(f"{path} is no folder of pictures, no .npy file and no video ({', '.join(_VIDEOS)})")
    try:
        return [np.stack([_rgb(frame, path) for frame in imageio.imiter(path)])]
    except DatasetError:
        raise
    except (OSError, ValueError, RuntimeError, IndexError) as problem:
        raise DatasetError(f"{path} is no video that ffmpeg reads: {one_line(problem)}") from problem


def _folder(folder: Path) -> NDArray[np.uint8]:
    """The pictures of a folder, in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not files:
        raise DatasetError(f"{folder} holds no pictures ({', '.join(_PICTURES)})")
    frames: list[NDArray[np.uint8]] = []
    for file in files:
        try:
            frames.append(_rgb(imageio.imread(file, plugin="pillow", mode="RGB"), file))
        except (OSError, ValueError, SyntaxError) as problem:  # the last is Pillow's word for a broken PNG
            raise DatasetError(f"{file} is no picture: {one_line(problem)}") from problem
        if frames[-1].shape != frames[0].shape:
            raise DatasetError(
                f"{file} is {frames[-1].shape[:2]}, {files[0].name} is {frames[0].shape[:2]} pixels large"
            )
    return np.stack(frames)


def _array(path: Path) -> NDArray[np.uint8]:
    """Clips (N, T, H, W, 3) of a NumPy file, which is not unpickled."""
    try:
        clips = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise DatasetError(f"{path} is no NumPy array that loads without unpickling: {one_line(problem)}") from problem
    if clips.dtype != np.uint8 or clips.ndim not in (4, 5) or clips.shape[-1] != 3 or not clips.size:
        raise DatasetError(
            f"{path} holds {clips.dtype} {clips.shape}; expected uint8 frames (T, H, W, 3), or (N, T, H, W, 3)"
        )
    return np.asarray(clips if clips.ndim == 5 else clips[None])


def _rgb(frame: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """A picture as it should be: uint8 (H, W, 3)."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        raise DatasetError(f"{path} holds {frame.dtype} {frame.shape}; expected RGB pictures of 8 bits a colour")
    return frame
