from pathlib import Path

import pytest

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.storage.paths import expanded, user_path
from cosmos_isaac_wm.world_model import WorldModel


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNS", "runs of mine")
    return tmp_path


def test_paths_mean_what_they_mean_in_a_shell(home, monkeypatch):
    monkeypatch.chdir(home)
    assert user_path("~/models") == home / "models"
    assert user_path(Path("~") / "$RUNS" / "a") == home / "runs of mine" / "a"
    assert user_path("${RUNS}/a~b") == Path("runs of mine/a~b")
    (home / "$kept").mkdir()
    assert user_path("$kept") == Path("$kept")  # there is such a folder
    assert expanded("my_policies:expert") == "my_policies:expert"


def test_a_variable_that_is_not_set_is_named(home):
    with pytest.raises(ValueError, match="'NOWHERE_SET'"):
        user_path("$NOWHERE_SET/model")


def test_bundles_and_datasets_are_found_and_written_at_home(home, world_model, dataset):
    (home / "data").symlink_to(dataset.path)
    assert len(EpisodeDataset("~/data")) == len(dataset)
    world_model.save("~/$RUNS/model")
    assert (home / "runs of mine" / "model" / "config.yaml").is_file()
    assert WorldModel.load("~/$RUNS/model").fingerprint() == world_model.fingerprint()
