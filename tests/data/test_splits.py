import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, assign_splits
from cosmos_isaac_wm.data.splits import draw_splits


def test_a_dataset_without_a_split_says_how_to_get_one(folder):
    with pytest.raises(DatasetError, match="assign_splits"):
        EpisodeDataset(folder).indices("train")
    assert EpisodeDataset(folder).indices("all") == [0, 1]


def test_an_assigned_split_is_stored(folder):
    splits = assign_splits(folder, seed=0, shares=(0.5, 0.0))
    dataset = EpisodeDataset(folder)
    for name in set(splits):
        assert dataset.indices(name) == [i for i, split in enumerate(splits) if split == name]


def test_an_unknown_or_empty_split_is_refused(dataset, folder):
    with pytest.raises(DatasetError, match="unknown split 'validation'"):
        dataset.indices("validation")
    assign_splits(folder, seed=0, shares=(1.0, 0.0))
    with pytest.raises(DatasetError, match=r"'val' of .* is empty"):
        EpisodeDataset(folder).indices("val")


def test_splits_are_80_10_10_within_every_kind_and_drawn_from_the_seed():
    kinds = ["push"] * 200 + ["slide"] * 100
    splits = np.array(draw_splits(kinds, seed=3))
    for part, size in ((splits[:200], 200), (splits[200:], 100)):
        shares = [int((part == name).sum()) for name in ("train", "val", "test")]
        assert shares == [0.8 * size, 0.1 * size, 0.1 * size]
    assert splits.tolist() == draw_splits(kinds, seed=3)
    assert splits.tolist() != draw_splits(kinds, seed=4)
