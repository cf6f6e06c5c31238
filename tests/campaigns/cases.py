"""Which wrong input has which number? A target, one of its files and a change of it, drawn by seed and number."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.campaigns.mutations import BY_NAME, fitting


@dataclass(frozen=True)
class Target:
    """What is read, and which of its files may be wrong.

    Attributes:
        base: Its folder among the inputs.
        files: Patterns of files there.
        share: How often it is drawn, relative to others.
    """

    base: str
    files: tuple[str, ...]
    share: int


_YAML = ("config.yaml", "config.yaml", "perception.yaml", "perception.yaml", "metrics.json")
_BUNDLE = (*_YAML, "*.safetensors", "*.safetensors", "SHA256SUMS")
TARGETS = {
    "bundle": Target("bundle", _BUNDLE, 30),
    "info": Target("bundle", (*_BUNDLE, "episodes/data/*"), 12),
    "evaluate": Target("bundle", (*_BUNDLE, "episodes/data/*"), 3),
    "agent": Target("agent", ("agent.yaml", "agent.yaml", "policy.safetensors", "SHA256SUMS"), 18),
    "dataset": Target("dataset", ("data/metadata.json", "data/main_data.hdf5", "**/SHA256SUMS"), 18),
    "recipe": Target("recipes", ("*.yaml",), 12),
    "collected": Target("collected", ("*.json", "unfinished/*.json", "unfinished/episode_*.npz"), 8),
    "fit": Target(
        "fit", ("bundle.fit/*.pt", "bundle.fit/*.safetensors", "bundle.fit/*.json", "perception/latents-*"), 5
    ),
    "seen": Target("seen", ("perception/*.json", "perception/*.pt", "perception/latents-*"), 5),
    "trained": Target(
        "trained",
        ("run/*.json", "run/evaluations.csv", "run/checkpoints/*", "run/agent/*", "run/agents/32/*"),
        5,
    ),
    "played": Target("played", ("played/*.json", "played/transfer.json"), 5),
}
# The first numbers are these: what has done harm before, and has to be in every campaign.
FIRST = (
    ("dataset", "data/metadata.json", "environment_of_code"),
    ("bundle", "config.yaml", "billion_laughs"),
    ("bundle", "perception.yaml", "own_anchor"),
    ("bundle", "config.yaml", "fifo"),
    ("bundle", "dynamics.safetensors", "flip_bit"),
    ("bundle", "contexts.safetensors", "flip_bit"),
    ("dataset", "data/main_data.hdf5", "flip_bit"),
    ("bundle", "config.yaml", "deep"),
    ("collected", "unfinished/episode_000001.npz", "array_of_code"),
    ("fit", "bundle.fit/checkpoint.pt", "member_of_code"),
    ("agent", "agent.yaml", "endless"),
    ("agent", "agent.yaml", "huge_value"),
)


@dataclass(frozen=True)
class Case:
    """A wrong input.

    Attributes:
        seed: Of the campaign.
        number: Its number.
        target: A key of `TARGETS`.
        file: That is changed, relative to the target's folder.
        change: A key of `BY_NAME`.
    """

    seed: int
    number: int
    target: str
    file: str
    change: str

    def build(self, inputs: Path, folder: Path) -> Path:
        """Copy the target into a folder, and change the file; where that is."""
        shutil.copytree(inputs / TARGETS[self.target].base, folder)
        BY_NAME[self.change](folder / self.file, Random(f"{self.seed}, {self.number}, how"))
        return folder / self.file


def draw(inputs: Path, seed: int, number: int) -> Case:
    """The case of a number."""
    if number < len(FIRST):
        return Case(seed, number, *FIRST[number])
    random = Random(f"{seed}, {number}, what")
    (name,) = random.choices([*TARGETS], [target.share for target in TARGETS.values()])
    folder = inputs / TARGETS[name].base
    found = [sorted(path for path in folder.glob(pattern) if path.is_file()) for pattern in TARGETS[name].files]
    file = random.choice(random.choice([files for files in found if files]))
    change = random.choice(fitting(file))
    return Case(seed, number, name, str(file.relative_to(folder)), change.__name__)
