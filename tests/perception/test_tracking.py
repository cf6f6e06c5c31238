import numpy as np
import pytest

from cosmos_isaac_wm.perception.tracking import detect, errors_px512, hold_last
from cosmos_isaac_wm.scene import Marker

RED = Marker("cube", hue=(345.0, 15.0))
BLUE = Marker("pusher", hue=(205.0, 245.0))


def picture(colour, rows=slice(10, 14), columns=slice(20, 26), size=64):
    frame = np.full((size, size, 3), 128, np.uint8)
    frame[rows, columns] = colour
    return frame[None]


def test_the_centroid_of_a_blob_is_column_and_row_of_its_middle():
    assert detect(picture((220, 20, 20)), RED).tolist() == [[22.5, 11.5]]


@pytest.mark.parametrize("level", [0, 30, 128, 255])
def test_an_all_grey_picture_holds_no_cube(level):
    assert np.isnan(detect(np.full((1, 64, 64, 3), level, np.uint8), RED)).all()


@pytest.mark.parametrize("colour", [(220, 20, 40), (220, 40, 20)])
def test_red_wraps_around_hue_zero(colour):
    assert np.isfinite(detect(picture(colour), RED)).all()


@pytest.mark.parametrize("colour", [(220, 20, 120), (220, 120, 20), (20, 60, 230)])
def test_neither_pink_nor_orange_nor_blue_is_red(colour):
    assert np.isnan(detect(picture(colour), RED)).all()


def test_a_faded_cube_is_lost_rather_than_guessed():
    assert np.isnan(detect(picture((170, 120, 120)), RED)).all()


def test_a_blob_under_a_thousandth_of_the_picture_is_noise():
    assert np.isnan(detect(picture((220, 20, 20), slice(10, 12), slice(20, 22)), RED)).all()  # 4 of 4096 pixels
    assert np.isfinite(detect(picture((220, 20, 20), slice(10, 11), slice(20, 25)), RED)).all()  # 5


def test_the_largest_of_several_blobs_is_the_object():
    frames = picture((220, 20, 20))
    frames[0, 50:53, 50:53] = 220, 20, 20
    assert detect(frames, RED).tolist() == [[22.5, 11.5]]


def test_every_marker_is_found_by_its_own_colour_in_the_same_picture():
    frames = picture((220, 20, 20))
    frames[0, 40:44, 40:44] = 20, 60, 230
    assert detect(frames, RED).tolist() == [[22.5, 11.5]]
    assert detect(frames, BLUE).tolist() == [[41.5, 41.5]]


def test_frames_without_a_detection_keep_the_last_position():
    track = np.array([[np.nan, np.nan], [1.0, 2.0], [np.nan, np.nan], [np.nan, np.nan], [5.0, 6.0]])
    assert hold_last(track, np.array([9.0, 9.0])).tolist() == [[9, 9], [1, 2], [1, 2], [1, 2], [5, 6]]


def test_a_cube_that_fades_away_from_a_moving_truth_is_not_rewarded():
    truth = np.stack([np.arange(10.0), np.zeros(10)], axis=1)
    faded = np.where(np.arange(10)[:, None] < 3, truth, np.nan)
    errors = errors_px512(hold_last(faded, truth[0]), truth, 512)
    assert errors.tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("width", "expected"), [(512, 5.0), (128, 20.0), (1024, 2.5)])
def test_errors_are_scaled_to_pictures_512_pixels_wide(width, expected):
    assert errors_px512(np.array([3.0, 4.0]), np.zeros(2), width) == expected
