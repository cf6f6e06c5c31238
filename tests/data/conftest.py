import dataclasses

import numpy as np
import pytest

from cosmos_isaac_wm.data import write_dataset


@pytest.fixture
def folder(tmp_path, scene, make_episode):
    """A dataset of two episodes, the second longer and with a simulator state, without a split."""
    second = make_episode(scene, 1, steps=20, kind="slide")
    second = dataclasses.replace(second, infos={"state": np.random.default_rng(0).normal(size=(21, 7))})
    return write_dataset(tmp_path / "made", [make_episode(scene, 0), second], scene, metadata={"simulator": "toy"})
