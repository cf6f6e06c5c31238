import pytest

from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.world_model import WorldModel


@pytest.fixture
def saved(world_model, tmp_path):
    """A bundle of this test's own, to be damaged."""
    return world_model.save(tmp_path / "bundle")


def test_an_unknown_bundle_says_which_there_are_and_which_was_meant(monkeypatch, tmp_path, saved):
    import cosmos_isaac_wm.storage.bundle as module

    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    saved.rename(tmp_path / "default")
    assert WorldModel.load("default").path == tmp_path / "default"
    with pytest.raises(BundleError, match=r"'defualt'.*shipped are \['default'\]; did you mean 'default'\?"):
        WorldModel.load("defualt")


def test_a_perception_is_found_alone_and_in_a_bundle(saved):
    assert find_perception("general").name == "general"
    assert find_perception("pendulum") == WorldModel.load("pendulum").path
    assert find_perception(saved) == saved
    with pytest.raises(BundleError, match=r"no perception 'generl'.*'general'.*did you mean 'general'\?"):
        find_perception("generl")
    with pytest.raises(BundleError, match=r"no world model bundle 'general'.*config\.yaml"):
        WorldModel.load("general")
