import pytest

from cosmos_isaac_wm.storage.atomic import replacing


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "folder" / "file.txt"
    with replacing(target) as path:
        path.write_text("half")
        assert not target.exists()
        path.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")

    def interrupted_write():
        with replacing(target) as path:
            path.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk"):
        interrupted_write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
