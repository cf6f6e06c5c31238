import imageio.v3 as imageio
import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError
from cosmos_isaac_wm.data.importers.pictures import read_clips


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)


def test_pictures_of_a_folder_come_in_the_order_of_their_names(frames, tmp_path):
    for number in (3, 0, 4, 1, 2):
        imageio.imwrite(tmp_path / f"{number}.png", frames[number])
    (tmp_path / "notes.txt").write_text("no picture")
    (clip,) = read_clips(tmp_path)
    np.testing.assert_array_equal(clip, frames)


def test_pictures_with_transparency_or_without_colour_become_rgb(tmp_path):
    imageio.imwrite(tmp_path / "0.png", np.full((8, 8, 4), 100, np.uint8))
    imageio.imwrite(tmp_path / "1.png", np.full((8, 8), 100, np.uint8))
    (clip,) = read_clips(tmp_path)
    assert clip.shape == (2, 8, 8, 3)
    assert (clip == 100).all()


def test_a_video_is_read_frame_by_frame(tmp_path):
    frames = np.repeat(np.arange(0, 250, 25, dtype=np.uint8), 64 * 64 * 3).reshape(10, 64, 64, 3)
    imageio.imwrite(tmp_path / "clip.mp4", frames, fps=10)
    (clip,) = read_clips(tmp_path / "clip.mp4")
    assert clip.shape == frames.shape
    assert np.abs(clip.astype(int) - frames).max() < 6


def test_arrays_are_one_clip_or_several(frames, tmp_path):
    np.save(tmp_path / "one.npy", frames)
    np.save(tmp_path / "two.npy", np.stack([frames, frames[::-1]]))
    (clip,) = read_clips(tmp_path / "one.npy")
    np.testing.assert_array_equal(clip, frames)
    first, second = read_clips(tmp_path / "two.npy")
    np.testing.assert_array_equal(second, first[::-1])


def test_what_is_no_clip_is_refused_with_its_name(frames, tmp_path):
    np.save(tmp_path / "floats.npy", frames / 255)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    imageio.imwrite(tmp_path / "mixed" / "0.png", frames[0])
    imageio.imwrite(tmp_path / "mixed" / "1.png", frames[0, :8])
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "0.png").write_bytes((tmp_path / "mixed" / "0.png").read_bytes()[:40])
    for name, said in {
        "floats.npy": "expected uint8 frames",
        "objects.npy": "loads without unpickling",
        "broken.mp4": "no video that ffmpeg reads",
        "text.txt": "no folder of pictures, no .npy file and no video",
        "empty": "holds no pictures",
        "mixed": "pixels large",
        "torn": "is no picture",
        "nowhere.mp4": "is not there",
    }.items():
        with pytest.raises(DatasetError, match=said) as refusal:
            read_clips(tmp_path / name)
        assert name in str(refusal.value)
