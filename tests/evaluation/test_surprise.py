"""Is another world noticed, and the same one not?"""

import dataclasses

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.data.stored import observed
from cosmos_isaac_wm.evaluation import surprise
from cosmos_isaac_wm.evaluation.surprise import auroc, signs, strange, surprises
from tests.dots import dot_twin, recorded_dots


def walked(rng, slip=0.0, noise=1e-3, steps=60):
    """Dreamed and seen positions of an object and an agent beside it, which go a little farther than is dreamed."""
    way = np.full((steps, 2, 2), 0.02) * rng.choice([-1, 1], (steps, 1, 1))
    seen = np.concatenate([np.zeros((1, 2, 2)), way.cumsum(axis=0)])
    return seen[:-1] + (1 - slip) * way + rng.normal(0, noise, way.shape), seen


def rows(count, slip, seed):
    rng = np.random.default_rng(seed)
    return np.array([surprise._signs(*walked(rng, slip), [True, True], 1, 0.12) for _ in range(count)])


def test_errors_to_one_side_surprise_where_their_size_does_not():
    known, same, other = rows(30, 0, 0), rows(30, 0, 1), rows(30, 0.02, 2)
    assert auroc(other[:, 0], same[:, 0]) < 0.8  # the size of the errors alone
    assert auroc(surprises(other, known), surprises(same, known)) > 0.99
    assert auroc(surprises(rows(30, 0, 3), known), surprises(same, known)) == pytest.approx(0.5, abs=0.15)


def test_what_goes_farther_than_dreamed_has_a_negative_sign():
    found = rows(1, 0.1, 0)[0]
    assert (found[[1, 3, 4]] < -2e-3).all()
    assert found[[1, 3, 4]] == pytest.approx(-0.1 * 0.02 * np.sqrt(2), rel=0.3)


def test_signs_that_an_episode_cannot_tell_are_left_out():
    rng = np.random.default_rng(0)
    dreamed, seen = walked(rng)
    found = surprise._signs(dreamed, seen, [True, False], 1, 0.12)
    assert np.isfinite(found).tolist() == [True, True, False, False, False]
    still = surprise._signs(dreamed, np.zeros_like(seen), [True, True], 1, 0.12)
    assert np.isnan(still).all()
    known = rows(10, 0, 1)
    assert np.isfinite(surprises(found[None], known)).all()
    assert np.isnan(surprises(still[None], known)).all()
    assert np.isnan(auroc(np.array([np.nan]), np.ones(3)))


def test_one_step_is_dreamed_after_every_frame(model, scene, make_episode):
    episode = make_episode(scene, 0)
    found = signs(model, episode)
    latents = model.encode(episode.frames)
    seen = model.locate(latents).positions.double().numpy()
    dreamed = [
        model.locate(
            model.dynamics(
                latents[None, t - 3 : t + 1],
                model.perception.scale_actions(torch.from_numpy(episode.actions[t : t + 1])),
            ).latent
        )
        .positions[0]
        .double()
        .numpy()
        for t in range(3, len(episode))
    ]
    expected = surprise._signs(np.array(dreamed), seen[3:], [True, True], 1, 3 * scene.goal_radius)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6, nan_ok=True)


def test_a_twins_observations_are_dreamed_one_step_after_every_frame():
    twin, (_, (episode, *_)) = dot_twin(), recorded_dots()
    latents, acted = twin.encode(episode.frames), twin.perception.scale_actions(torch.from_numpy(episode.actions))
    heads, dreamed = twin.perception.heads, []
    for t in range(3, len(episode)):
        context, past, action = latents[None, t - 3 : t + 1], acted[None, t - 3 : t], acted[t : t + 1]
        after = twin.dynamics(context, torch.cat([past[:, -1], action], dim=1)).latent  # it is told both
        dreamed.append(heads.observe(heads.follow(heads.remember(context, past), after, action))[0].double().numpy())
    truth = heads.normalised(torch.from_numpy(observed(episode, twin.scene)[3:])).double().numpy()
    expected = surprise._signs_of_twin(np.array(dreamed), truth)
    assert signs(twin, episode) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert len(expected) == 6


def test_a_twin_that_goes_farther_than_dreamed_has_a_negative_sign():
    seen = np.array([[0.0, 0.0], [1.0, -1.0], [2.0, -2.0], [1.0, -1.0]])
    found = surprise._signs_of_twin(0.9 * np.diff(seen, axis=0) + seen[:-1], seen)
    assert found == pytest.approx([np.log(0.1), np.log(0.1), -0.1, -0.1, -0.1 / 3, 0.1 / 3], abs=1e-6)


def test_too_short_an_episode_tells_nothing(model, scene, make_episode):
    assert np.isnan(signs(model, make_episode(scene, 0, steps=2))).all()


@pytest.fixture
def told(monkeypatch):
    """Episodes whose signs are their actions."""
    monkeypatch.setattr(surprise, "signs", lambda _, episode: episode.actions[0].astype(float))


def episodes(make_episode, scene, signs, kind="push"):
    blank = make_episode(scene, 0, kind=kind)
    return [dataclasses.replace(blank, actions=row[None]) for row in signs]


@pytest.mark.usefixtures("told")
def test_a_share_is_told_where_chance_hardly_explains_it(make_episode, scene):
    rng = np.random.default_rng(0)
    known, same, other = rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), rng.normal(4, 1, (20, 2))
    (quiet,), (loud,) = (
        strange(None, episodes(make_episode, scene, known), episodes(make_episode, scene, each))
        for each in (same, other)
    )
    assert not quiet.line
    assert loud.share > 0.8
    assert "push:" in loud.line
    assert "surprise the bundle more than 95% of its own" in loud.line
    few = episodes(make_episode, scene, known[:9])
    assert strange(None, few, few) == []
    assert strange(None, episodes(make_episode, scene, known), episodes(make_episode, scene, other, "slide")) == []


def test_the_same_world_is_called_strange_as_rarely_as_promised():
    rng = np.random.default_rng(0)
    calls = [
        bool(surprise._strange("push", rng.normal(size=(40, 5)), rng.normal(size=(20, 5))).line) for _ in range(400)
    ]
    assert np.mean(calls) < 0.03  # 0.01 is promised where what is usual is known exactly
