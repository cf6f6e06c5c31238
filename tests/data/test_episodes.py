import dataclasses

import numpy as np


def test_a_missing_marker_has_positions_of_nan(scene, make_episode):
    episode = make_episode(scene, 0)
    alone = dataclasses.replace(episode, positions={"cube": episode.positions["cube"]})
    positions = alone.marker_positions(("cube", "pusher"))
    assert positions.shape == (17, 2, 2)
    assert np.isfinite(positions[:, 0]).all()
    assert np.isnan(positions[:, 1]).all()
