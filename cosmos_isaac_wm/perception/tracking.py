"""Where are coloured objects in pictures? One strict detector for real and dreamed frames, and a track's errors."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import rgb_to_hsv
from numpy.typing import NDArray
from scipy import ndimage

from ..scene import Marker

REFERENCE_WIDTH = 512  # pixel errors are reported at the report's picture size
MIN_AREA = 0.001  # share of the picture below which a blob is not an object


def detect(frames: NDArray[np.uint8], marker: Marker) -> NDArray[np.float64]:
    """Centroid of the largest blob of the marker's colour in each frame.

    Args:
        frames: RGB pictures, uint8 (T, H, W, 3), real or dreamed: the thresholds are the same.
        marker: Hue range and least saturation and value of a pixel that counts.

    Returns:
        (column, row) in pixels of the given frames, (T, 2); NaN where no blob covers 0.1 % of the picture.
    """
    centroids = np.full((len(frames), 2), np.nan)
    for index, frame in enumerate(frames):
        blob = _blob(frame, marker)
        if blob is not None:
            row, column = ndimage.center_of_mass(blob)
            centroids[index] = column, row
    return centroids


def sizes(frames: NDArray[np.uint8], marker: Marker) -> NDArray[np.float64]:
    """How large that blob is: the edge of a square of its area in pixels, (T,); NaN where there is none."""
    blobs = (_blob(frame, marker) for frame in frames)
    return np.array([np.nan if blob is None else np.sqrt(blob.sum()) for blob in blobs])


def _blob(frame: NDArray[np.uint8], marker: Marker) -> NDArray[np.bool_] | None:
    """The largest blob of the marker's colour as a mask (H, W); None if it is too small to be one."""
    low, high = np.array(marker.hue) / 360.0
    least = MIN_AREA * frame.shape[0] * frame.shape[1]
    # A cheap test first: HSV saturation and value without the hue leave few pixels to convert.
    brightest, darkest = frame.max(axis=-1).astype(np.float32), frame.min(axis=-1).astype(np.float32)
    colourful = (brightest >= marker.min_value * 255) & (brightest - darkest >= marker.min_saturation * brightest)
    rows, columns = np.nonzero(colourful)
    hue = rgb_to_hsv(frame[rows, columns] / 255.0)[:, 0] if len(rows) else np.empty(0)
    right = (hue >= low) & (hue <= high) if low <= high else (hue >= low) | (hue <= high)
    if right.sum() < least:
        return None
    mask = np.zeros(frame.shape[:2], dtype=bool)
    mask[rows[right], columns[right]] = True
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labels[mask], minlength=count + 1)
    blob = int(areas.argmax())
    return np.asarray(labels == blob) if areas[blob] >= least else None


def hold_last(track: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill frames without a detection with the last one before them, so that a fading object is never rewarded.

    Args:
        track: Positions (T, 2) with NaN where nothing was found.
        start: Position (2,) that stands in before the first detection.
    """
    filled = track.copy()
    last = start
    for index, position in enumerate(filled):
        if np.isnan(position).any():
            filled[index] = last
        last = filled[index]
    return filled


def errors_px512(track: NDArray[np.float64], truth: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Distances (...,) between pixel tracks (..., 2) of pictures `width` pixels wide, scaled to 512 pixels."""
    return np.asarray(np.linalg.norm(track - truth, axis=-1) * (REFERENCE_WIDTH / width))
