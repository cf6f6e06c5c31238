"""Is it measured rightly what an error bound is worth? On dreams whose errors are known."""

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.data import EpisodeDataset, write_dataset
from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.error_bound import ErrorBound, ErrorBoundConfig
from cosmos_isaac_wm.evaluation.trust import Doubted, doubted, trust_figures
from tests.dots import dot_twin, recorded_dots
from tests.envs.test_trust import bounded


def scaled(scores, usual, seen=6, outputs=1):
    """A bound of one kind with such scores."""
    count = len(scores)
    bound = ErrorBound(ErrorBoundConfig(seen, 2, outputs, 8, ("push",), (count,), 20))
    bound.scores.copy_(torch.tensor(scores))
    bound.usual_scores.copy_(torch.tensor(usual))
    return bound


def test_an_episode_counts_as_covered_if_the_bound_holds_at_all_its_steps():
    bound = scaled([1.0] * 8 + [2.0], [4.0] * 9)
    errors = np.full((10, 5, 1), 1.9)
    errors[0, 3] = 2.1  # one step of one episode
    errors[1, 2] = np.nan  # where there was no truth
    rows = [Doubted("push", each, np.ones((5, 1)), np.ones((5, 1))) for each in errors]
    figures = trust_figures(bound, rows)
    assert figures["push_bound_coverage_90"] == pytest.approx(0.9)
    assert figures["push_bound_coverage_80"] == 0  # 1.0 is the factor there
    assert "push_bound_coverage_95" not in figures  # 19 episodes would be needed
    assert figures["push_bound_width"] == pytest.approx(2.0)
    assert figures["push_bound_width_over_step_only"] == pytest.approx(0.5)


def test_who_knows_when_it_is_off_has_an_auroc_of_one():
    rng = np.random.default_rng(0)
    errors = rng.uniform(0, 0.06, (20, 5, 1))
    for estimates, expected in ((errors, 1.0), (-errors, 0.0), (np.ones_like(errors), 0.5)):
        rows = [Doubted("push", e, s, np.ones((5, 1))) for e, s in zip(errors, estimates, strict=True)]
        assert trust_figures(scaled([1.0] * 9, [1.0] * 9), rows)["auroc_off_3cm"] == pytest.approx(expected)


def test_without_a_bound_nothing_is_said(world_model):
    assert trust_figures(None, []) == {}
    assert doubted(world_model, [], []) == []


@pytest.mark.parametrize("twin", [False, True])
def test_it_is_measured_as_an_environment_tells_it(twin, world_model, scene, make_episode, tmp_path):
    if twin:
        model = bounded(dot_twin(), 2, 2, ("episode",))
        own, episodes = recorded_dots(3)
    else:
        model, own = bounded(world_model, 1, 6), scene
        episodes = [make_episode(scene, seed, kind="push") for seed in range(3)]
    data = EpisodeDataset(write_dataset(tmp_path / "data", episodes, own, ["test"] * 3))
    row, episode = doubted(model, data, [0])[0], data[0]
    env = DreamEnv(model, kind=None if twin else "push")
    env.reset(options={"frames": episode.frames[:4], "actions": episode.actions[:3]})
    told = [env.step(action)[4]["error_bound"] for action in episode.actions[3 : 3 + len(row.errors)]]
    units = model.perception.heads.std[:2].numpy() if twin else 1.0
    expected = model.error_bound.factor(episode.kind) * row.estimates * units
    assert np.allclose(np.reshape(told, expected.shape), expected, rtol=1e-3)
    assert row.errors.shape == row.estimates.shape == row.usual.shape
