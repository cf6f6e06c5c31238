"""Is there a picture of bounds and errors, whatever is unknown?"""

import numpy as np
from PIL import Image

from cosmos_isaac_wm.evaluation.trust import Doubted
from cosmos_isaac_wm.reporting.trust import _worst, draw_trust
from tests.evaluation.test_trust import scaled


def test_it_is_drawn_of_episodes_of_all_lengths_and_of_unknown_steps(tmp_path):
    rng = np.random.default_rng(0)
    rows = [Doubted("push", rng.random((n, 2)), 1 + rng.random((n, 2)), np.ones((n, 2))) for n in (5, 20, 20, 12)]
    rows[0].errors[3] = np.nan
    draw_trust(tmp_path / "trust.png", scaled([1.0] * 9, [1.0] * 9), rows, "metres")
    pixels = np.asarray(Image.open(tmp_path / "trust.png").convert("L"))
    assert pixels.std() > 5


def test_the_worst_component_of_a_step_counts():
    together = _worst([np.array([[1.0, 3.0], [np.nan, np.nan]]), np.array([[np.nan, 2.0], [0.0, 1.0], [5.0, 4.0]])])
    assert np.array_equal(together, [[3, np.nan, np.nan], [2, 1, 5]], equal_nan=True)
