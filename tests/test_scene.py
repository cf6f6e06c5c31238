import dataclasses

import numpy as np
import pytest

from cosmos_isaac_wm.scene import TABLE, Scene
from cosmos_isaac_wm.sims.dimensions import CUBE_SIZE


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_a_larger_picture_shows_the_same_larger(scale):
    positions = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2))
    points = np.concatenate([positions, np.full((50, 1), CUBE_SIZE / 2)], axis=1)
    size = (round(128 * scale), round(128 * scale))
    pixels, scaled = TABLE.camera.project(points, (128, 128)), TABLE.camera.project(points, size)
    np.testing.assert_allclose(scaled + 0.5, scale * (pixels + 0.5))


def test_the_camera_looks_at_its_target_with_x_to_the_right_and_y_up():
    centre = TABLE.camera.project(TABLE.camera.target, (128, 128))
    np.testing.assert_allclose(centre, [63.5, 63.5])
    right = TABLE.camera.project(np.add(TABLE.camera.target, [0.1, 0, 0]), (128, 128))
    up = TABLE.camera.project(np.add(TABLE.camera.target, [0, 0.1, 0]), (128, 128))
    assert right[0] > centre[0]
    assert up[1] < centre[1]


def test_the_whole_table_is_in_the_picture():
    corners = np.array([[x, y] for x in (-0.44, 0.44) for y in (-0.44, 0.44)])
    assert ((TABLE.to_pixels(corners) >= 0) & (TABLE.to_pixels(corners) <= 127)).all()


def test_mirrored_positions_are_mirrored_pixels():
    positions = np.random.default_rng(0).uniform(-0.4, 0.4, (20, 2))
    columns, rows = TABLE.to_pixels(positions).T
    mirrored_columns, mirrored_rows = TABLE.to_pixels(positions * [-1, 1]).T
    np.testing.assert_allclose(mirrored_columns, 127 - columns)
    np.testing.assert_allclose(mirrored_rows, rows)


def test_a_scene_survives_its_dictionary():
    assert Scene.from_dict(TABLE.to_dict()) == TABLE
    bare = Scene("bare", 5.0, (96, 96), (-1.0,) * 3, (2.0,) * 3)
    assert Scene.from_dict(bare.to_dict()) == bare


def test_an_unknown_or_missing_key_is_named():
    with pytest.raises(ValueError, match="contrl_hz"):
        Scene.from_dict({**TABLE.to_dict(), "contrl_hz": 10.0})
    incomplete = TABLE.to_dict()
    del incomplete["control_hz"]
    with pytest.raises(ValueError, match="control_hz"):
        Scene.from_dict(incomplete)


def test_a_scene_without_a_camera_says_so_when_asked_for_pixels():
    with pytest.raises(ValueError, match="no camera"):
        dataclasses.replace(TABLE, camera=None).to_pixels([0.0, 0.0])
