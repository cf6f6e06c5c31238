import pytest

from cosmos_isaac_wm.perception import BundleError
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
