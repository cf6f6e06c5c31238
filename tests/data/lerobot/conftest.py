import pytest

from cosmos_isaac_wm.data import write_dataset
from tests.dots import recorded_dots


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A dataset of dots: six episodes with rewards, successes and a state of two numbers."""
    scene, episodes = recorded_dots()
    splits = ["val", "train", "train", "test", "train", "train"]
    return write_dataset(tmp_path_factory.mktemp("dots") / "data", episodes, scene, splits)
