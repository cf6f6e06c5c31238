import pytest

from cosmos_isaac_wm.data import EpisodeDataset, write_dataset
from cosmos_isaac_wm.train.speed import learning
from cosmos_isaac_wm.train.speed.learning import learning as measure


def test_learning_is_timed_until_it_beats_a_still_picture(world_model, scene, make_episode, tmp_path, monkeypatch):
    path = write_dataset(tmp_path / "held", (make_episode(scene, seed) for seed in range(8)), scene, ["test"] * 8)
    monkeypatch.setattr(learning, "_LEARNED", 1000.0)
    found = measure(world_model, EpisodeDataset(path), 3.0, 4, seed=0)
    assert found["still_error_px512"] > 0
    for recipe in ("default", "seed"):
        assert found[f"{recipe}_seconds_to_error"] == pytest.approx(found[f"{recipe}_fit_s"] / 4)  # after one update
    monkeypatch.setattr(learning, "_LEARNED", 0.0)
    assert "seed_seconds_to_error" not in measure(world_model, EpisodeDataset(path), 3.0, 4, seed=0)
