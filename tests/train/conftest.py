"""A perception and a bundle that were fitted to the toy world in seconds, and the options that make fits so short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.train import fit_dynamics, fit_tokenizer


@pytest.fixture(scope="session")
def tiny_perception() -> list[str]:
    """Options of fit-tokenizer."""
    return [
        *("--tokenizer.widths=[16,16]", "--tokenizer.blocks=1", "--fit.updates=30", "--fit.batch_size=8"),
        *("--readout.updates=30", "--fit.crop=32", "--device=cpu"),
    ]


@pytest.fixture(scope="session")
def tiny_fit() -> list[str]:
    """Options of fit-dynamics."""
    return [
        *("--fit.updates=12", "--fit.batch_size=4", "--fit.validate_every=6", "--fit.precision=fp32"),
        *("--contexts=6", "--device=cpu"),
    ]


@pytest.fixture(scope="session")
def fit(tiny_perception: list[str], tiny_fit: list[str]) -> Callable[..., Path]:
    """Perception and a bundle from a dataset, through the command line."""

    def run(data: Path, folder: Path, *more: str) -> Path:
        assert fit_tokenizer.main([f"--data={data}", f"--out={folder / 'perception'}", *tiny_perception]) == 0
        arguments = ["--data", str(data), f"--perception={folder / 'perception'}", f"--out={folder / 'bundle'}"]
        shape = ["--dynamics.width=16", "--dynamics.blocks=1"]
        assert fit_dynamics.main([*arguments, *shape, *tiny_fit, *more]) == 0
        return folder / "bundle"

    return run


@pytest.fixture(scope="session")
def fitted(dataset: EpisodeDataset, fit: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the toy dataset."""
    return fit(dataset.path, tmp_path_factory.mktemp("fit"), "--ship_episodes=1")


@pytest.fixture(scope="session")
def second_look(
    fitted: Path, dataset: EpisodeDataset, tiny_perception: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A perception of that bundle whose readout alone was fitted again."""
    out = tmp_path_factory.mktemp("look") / "perception"
    arguments = [f"--data={dataset.path}", f"--init={fitted}", f"--out={out}", *tiny_perception, "--seed=1"]
    assert fit_tokenizer.main(arguments) == 0
    return out
