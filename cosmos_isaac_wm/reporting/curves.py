"""How did a fit of the dynamics go? Its loss and its validation errors against updates, as a picture."""

from __future__ import annotations

import os

from matplotlib.figure import Figure

from ..storage.atomic import replacing
from ..training import FitResult

_UNITS = {"px": "px at 512", "mm": "mm", "std": "standard deviations", "latent": "L1 of latents"}


def draw_curves(path: str | os.PathLike[str], result: FitResult) -> None:
    """Training loss and validation errors against updates, as a PNG."""
    updates = [row["update"] for row in result.curve]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(updates, [row["loss"] for row in result.curve])
    left.set(title="training loss", xlabel="update")
    for key in result.curve[0]:
        if key in ("error", "still") or key.endswith(("_median", "_rmse")):
            right.semilogy(updates, [row[key] for row in result.curve], label=key)
    right.axvline(result.best["update"], color="grey", linestyle=":", label="kept")
    right.set(title=f"open loop on val ({_UNITS[result.unit]})", xlabel="update")
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
