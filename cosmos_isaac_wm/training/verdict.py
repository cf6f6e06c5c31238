"""What may be believed of a fit? What its validation says, in words, for whoever uses the bundle later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_NO_BETTER = 0.95  # share of a still picture's error from which a dream is no better than that
_IGNORED = 0.05  # response to the actions below which they might as well not be there
_RUNS_AWAY = 4.0  # growth of the latents beyond which dreams have left what they were trained on
FIGURES = ("error", "still", "constant_velocity", "response", "growth", "good_steps", "steps")
_UNITS = {"px": "px", "mm": "mm", "std": "standard deviations", "latent": "(L1 of latents)"}


@dataclass(frozen=True)
class Verdict:
    """Of a dynamics on validation episodes.

    Attributes:
        figures: Of `validate`, those of `FIGURES` that there are.
        unit: Of the errors: "px" at 512, "mm" or "latent".
        unseen: Whether the validation episodes were kept out of training.
    """

    figures: dict[str, float]
    unit: str
    unseen: bool = True

    @classmethod
    def of(cls, validation: Mapping[str, float], unit: str, unseen: bool = True) -> Verdict:
        """That of what `validate` returned."""
        return cls({name: float(validation[name]) for name in FIGURES if name in validation}, unit, unseen)

    @property
    def faults(self) -> list[str]:
        """What makes the dream useless to train in, in words; empty for a usable one."""
        figures, found = self.figures, []
        if figures["error"] >= _NO_BETTER * figures["still"]:
            found.append("is no better than a still picture")
        if figures.get("response", 1.0) < _IGNORED:
            found.append("ignores actions")
        if self.runs_away:
            found.append("runs away from real latents")
        return found

    @property
    def runs_away(self) -> bool:
        """Whether dreamed latents grow out of all proportion."""
        return self.figures["growth"] > _RUNS_AWAY

    def line(self) -> str:
        """The figures on one line."""
        figures, unit = self.figures, _UNITS[self.unit]
        beside = [f"a still picture {figures['still']:.3g}"]
        if "constant_velocity" in figures:
            beside.append(f"constant velocity {figures['constant_velocity']:.3g}")
        parts = [f"error {figures['error']:.3g} {unit} ({', '.join(beside)})"]
        if "response" in figures:
            parts.append(f"response to actions {figures['response']:.2f}")
        return "; ".join([*parts, f"latents grow {figures['growth']:.2f}-fold"])

    def words(self) -> str:
        """The verdict: faults if there are some, else how many steps the dream is good for."""
        where = "" if self.unseen else " (judged on training episodes: there are no others)"
        if self.faults:
            return f"this dynamics {' and '.join(self.faults)}{where}: {self.line()}"
        steps, of = int(self.figures["good_steps"]), int(self.figures["steps"])
        good = f"good to about {steps} of {of} steps" if steps else "better than a still picture, but not twice as good"
        return f"{good}{where}: {self.line()}"
