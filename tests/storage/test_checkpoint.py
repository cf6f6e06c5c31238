import errno
from pathlib import Path

import pytest
import torch

from cosmos_isaac_wm.storage.checkpoint import Checkpoint


@pytest.fixture
def layer():
    return torch.nn.Linear(2, 2)


def test_what_is_saved_is_restored(tmp_path, layer):
    weight = layer.weight.detach().clone()
    Checkpoint(tmp_path / "a" / "c.pt", layer=layer).save(update=7, curve=[{"loss": 0.5}])
    torch.nn.init.zeros_(layer.weight)
    assert Checkpoint(tmp_path / "a" / "c.pt", layer=layer).load() == {"update": 7, "curve": [{"loss": 0.5}]}
    assert torch.equal(layer.weight, weight)


def test_without_a_file_there_is_nothing_to_restore(tmp_path, layer):
    assert Checkpoint(tmp_path / "c.pt", layer=layer).load() == {}


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, layer, kept):
    checkpoint = Checkpoint(tmp_path / "c.pt", layer=layer)
    checkpoint.save(update=1)
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"c\.pt cannot be continued .*delete the file to start afresh"):
        checkpoint.load()


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, layer):
    Checkpoint(tmp_path / "c.pt", layer=layer).save()
    with pytest.raises(ValueError, match="another configuration"):
        Checkpoint(tmp_path / "c.pt", layer=torch.nn.Linear(3, 2)).load()
    with pytest.raises(ValueError, match="another configuration"):
        Checkpoint(tmp_path / "c.pt", layer=layer, optimizer=torch.optim.SGD(layer.parameters())).load()


def test_a_save_that_fails_halfway_keeps_the_last_one(tmp_path, layer, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "c.pt", layer=layer)
    checkpoint.save(update=1)

    whole = Path.write_bytes

    def half(path, content):
        whole(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match=r"the disk is full, .*c\.pt could not be written.*run the same command again"):
        checkpoint.save(update=2)
    assert checkpoint.load() == {"update": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_loading_runs_no_code(tmp_path, layer):
    class Malicious:
        def __reduce__(self):
            return (tmp_path / "executed").mkdir, ()

    torch.save({"values": Malicious(), "layer": layer.state_dict()}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="cannot be continued"):
        Checkpoint(tmp_path / "c.pt", layer=layer).load()
    assert not (tmp_path / "executed").exists()
