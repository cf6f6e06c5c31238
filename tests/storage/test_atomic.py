import errno
import os

import pytest

from cosmos_isaac_wm.storage import atomic
from cosmos_isaac_wm.storage.atomic import replacing, replacing_folder


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


def test_a_folder_takes_the_place_of_another_in_one_step(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")
    with replacing_folder(target, keep=True) as path:
        (path / "new").write_text("new")
        assert {file.name for file in target.iterdir()} == {"old"}
    assert {file.name for file in target.iterdir()} == {"old", "new"}
    with replacing_folder(target) as path:
        (path / "other").write_text("other")
    assert [file.name for file in target.iterdir()] == ["other"]
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_process_number_that_comes_again_blocks_nothing(tmp_path):
    mine = atomic._temporary(tmp_path / "folder")  # as an earlier process of this number may have left it
    mine.mkdir()
    with replacing_folder(tmp_path / "folder") as path:
        (path / "file").write_text("whole")
    assert (tmp_path / "folder" / "file").read_text() == "whole"


def test_files_have_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as path:
            path.write_text("x")
            path.chmod(0o600)  # as some libraries do
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_without_room_nothing_is_begun(tmp_path):
    said = r"the disk is full, .*file could not be written: .* MiB more are needed"
    with pytest.raises(OSError, match=said) as error, replacing(tmp_path / "file", size=2**60):
        raise AssertionError("not reached")
    assert error.value.errno == errno.ENOSPC
