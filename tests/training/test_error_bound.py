"""Does a bound hold for as many new episodes as it says, and is it narrow where dreams are good?"""

import dataclasses

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.error_bound import ErrorBound, ErrorBoundConfig, Follower, enough, read_of
from cosmos_isaac_wm.perception.heads import HeadsConfig
from cosmos_isaac_wm.perception.readout import Located
from cosmos_isaac_wm.training import error_bound
from cosmos_isaac_wm.training.error_bound import (
    ErrorBoundFitConfig,
    Followed,
    fit_error_bound,
    follow_dreams,
)
from cosmos_isaac_wm.training.heads import new_heads
from tests.dots import encoded_dots
from tests.training.test_dynamics import Oracle, perception, walk  # noqa: F401 (a fixture)

STEPS = 12


def drifting(count, seed, kinds=("calm", "wild")):
    """Dreams that go astray where what is read says so, and ten times as fast in wild episodes."""
    rng = np.random.default_rng(seed)
    own = [kinds[i % len(kinds)] for i in range(count)]
    shaken = rng.random((count, 1)) < 0.5
    scale = np.where(shaken, 0.05, 0.002) * np.array([[10.0 if kind == "wild" else 1.0] for kind in own])
    errors = np.cumsum(scale * rng.exponential(1.0, (count, STEPS)), axis=1)
    looks = np.where(shaken, 1.0, -1.0) + np.array([[4.0 if kind == "wild" else 0.0] for kind in own])
    seen = np.repeat(looks[:, None], STEPS + 1, axis=1) + rng.normal(0, 0.1, (count, STEPS + 1, 1))
    return Followed(
        torch.tensor(seen, dtype=torch.float32),
        torch.zeros(count, STEPS, 1),
        torch.tensor(errors[..., None], dtype=torch.float32),
        own,
    )


@pytest.fixture(scope="module")
def fitted():
    """A bound of drifting dreams."""
    return fit_to(drifting(400, 0), drifting(200, 1))


def fit_to(learned, judged, **recipe):
    """A bound of dreams that are there already."""
    patch = pytest.MonkeyPatch()
    parts = iter([judged, learned])
    patch.setattr(error_bound, "follow_dreams", lambda *given: next(parts))
    patch.setattr(error_bound, "unit_of", lambda *given: "mm")
    told = dataclasses.make_dataclass("Told", ["kinds"])(judged.kinds)
    try:
        asked = ErrorBoundFitConfig(**{"updates": 300, "lr": 5e-3, **recipe})
        return fit_error_bound(torch.nn.Linear(1, 1), None, told, told, asked, 0)
    finally:
        patch.undo()


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("kind", ["calm", "wild"])
def test_it_holds_at_all_steps_of_as_many_new_episodes_as_it_says(fitted, kind, level):
    new = drifting(2000, 2)
    rows = [own == kind for own in new.kinds]
    with torch.no_grad():
        estimates = fitted.along(new.seen[rows], new.actions[rows], fitted.number(kind))
    holds = (new.errors[rows] <= fitted.factor(kind, level) * estimates).flatten(1).all(dim=1)
    assert float(holds.float().mean()) == pytest.approx(level, abs=0.09)  # 100 episodes have scaled it


def test_it_is_narrow_where_dreams_are_good(fitted):
    new = drifting(400, 3)
    calm = torch.tensor([own == "calm" for own in new.kinds])
    shaken = new.seen[:, 0, 0] > 0
    with torch.no_grad():
        bounds = fitted.factor("calm") * fitted.along(new.seen, new.actions, fitted.number("calm"))
    assert float(bounds[calm & shaken].mean()) > 3 * float(bounds[calm & ~shaken].mean())
    assert (bounds[:, -1] > bounds[:, 0]).float().mean() > 0.9


def test_another_kind_has_the_widest_of_all(fitted):
    assert fitted.number(None) == fitted.number("unheard") == fitted.number("wild")
    assert fitted.factor(None) == fitted.factor("wild")


def test_too_few_episodes_for_a_level_are_counted(fitted, capsys):
    with pytest.raises(ValueError, match=r"100 validation episodes of kind 'calm' .* 99.9 %: 999 are needed"):
        fitted.factor("calm", 0.999)
    assert (enough(0.9), enough(0.95), enough(0.5)) == (9, 19, 1)
    few = drifting(12, 4)
    assert fit_to(few, few) is None
    assert "6 calm, 6 wild validation episodes, and 9 of each kind are needed" in capsys.readouterr().out


def test_no_updates_are_no_bound():
    few = drifting(40, 4)
    assert fit_to(few, few, updates=0) is None


def test_the_same_seed_learns_the_same():
    parts = drifting(60, 5), drifting(60, 6)
    one, two = (fit_to(*parts, updates=5).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_dreams_are_compared_with_what_was_true(perception):  # noqa: F811
    episodes = walk(5, length=20)
    exact, poor = (follow_dreams(Oracle(gain), perception, episodes) for gain in (1.0, 0.5))
    assert exact.errors.shape == (5, 16, 1)
    assert exact.seen.shape == (5, 17, 3)
    assert float(exact.errors.max()) < 2e-3
    truth = episodes.positions[:, 4:, :1] - episodes.positions[:, 3:4, :1]
    assert torch.allclose(poor.errors[..., 0], 0.5 * truth.norm(dim=-1)[..., 0], atol=3e-3)
    assert torch.allclose(exact.actions, episodes.actions[:, 3:])


def test_what_ends_early_counts_to_its_end_only(perception):  # noqa: F811
    episodes = walk(2, length=20)
    episodes.lengths[0] = 10
    errors = follow_dreams(Oracle(), perception, episodes).errors
    assert errors[0, :6].isfinite().all()
    assert errors[0, 6:].isnan().all()
    assert errors[1].isfinite().all()


def test_of_a_twin_every_component_has_a_bound():
    eyes, train = encoded_dots(20)
    _, val = encoded_dots(12, seed=1)
    torch.manual_seed(0)
    small = HeadsConfig(embedding=16, width=8, hidden=16, acts=True)
    eyes.heads = new_heads(train, 2, small).eval().requires_grad_(False)
    dynamics = ResNetRollout(ResNetRolloutConfig(action_dim=2, history=1, width=16, blocks=1))
    bound = fit_error_bound(dynamics, eyes, train.rested(3), val.rested(3), ErrorBoundFitConfig(updates=3), 0)
    assert bound.config.outputs == bound.config.seen == 2
    assert bound.factor("episode") > 0


def test_what_is_not_there_is_read_as_nothing():
    there = Located(torch.tensor([[[0.1, 0.2], [torch.nan, 0.4]]]), torch.tensor([[0.9, 0.2]]))
    assert torch.allclose(read_of(there), torch.tensor([[0.1, 0.2, 0.0, 0.0, 1.0, 0.0]]))


def test_an_untrained_one_can_be_built_from_its_shape_alone():
    shape = ErrorBoundConfig(seen=6, actions=2, kinds=("push", "slide"), counts=(10, 20))
    carried, estimate = ErrorBound(shape).follow(
        torch.zeros(3, 17), torch.zeros(3, 6), torch.ones(3, 6), torch.zeros(3, 2), 1
    )
    assert carried.shape == (3, 17)
    assert estimate.shape == (3, 1)
    assert (estimate > 0).all()


def test_dreams_that_go_on_together_are_followed_as_whole_ones_are():
    torch.manual_seed(0)
    bound = ErrorBound(ErrorBoundConfig(3, 2, 2, 8, ("push", "slide"), (9, 9), 5)).requires_grad_(False)
    for part, low in (
        (bound.shift, -1),
        (bound.spread, 0.5),
        (bound.usual, 0.1),
        (bound.shares, 0.2),
        (bound.least, 0.01),
    ):
        part.uniform_(low, low + 0.5)
    seen, actions = torch.randn(4, 9, 3), torch.rand(4, 8, 2)
    follower = Follower(bound, 1, 2.0, 4)
    follower.start(torch.tensor([True, True, True, False]), seen[:, 0])
    follower.start(torch.tensor([False, False, False, True]), seen[:, 0])
    rows = [follower.step(seen[:, t + 1], actions[:, t], torch.full((4,), t + 1)).clone() for t in range(8)]
    assert torch.allclose(torch.stack(rows, dim=1), 2.0 * bound.along(seen, actions, 1), rtol=1e-3)


def test_dreams_of_which_nothing_is_true_are_no_evidence():
    judged = drifting(40, 8)
    judged.errors[:30] = torch.nan
    assert len(judged.known().kinds) == 10
    assert fit_to(drifting(40, 9), judged, updates=2) is None  # five of each kind are left


def test_where_training_dreams_end_sooner_the_usual_error_is_what_it_was():
    learned = drifting(60, 10)
    learned.errors[:, 6:] = torch.nan
    bound = fit_to(learned, drifting(60, 11), updates=2)
    assert torch.equal(bound.usual[:, 5], bound.usual[:, 11])
    assert (bound.usual.diff(dim=1) >= 0).all()


def test_more_validation_episodes_than_are_dreamed_are_no_trouble(monkeypatch, perception):  # noqa: F811
    monkeypatch.setattr(error_bound, "_EPISODES", 12)
    episodes = walk(30, length=12)
    bound = fit_error_bound(Oracle(0.5), perception, episodes, episodes, ErrorBoundFitConfig(updates=2), 0)
    assert bound.config.counts == (12,)


def test_what_rested_is_dreamed_from_its_rest_and_from_its_first_frames(perception):  # noqa: F811
    episodes = walk(2, length=20)
    back = episodes.rested(3).unrested()
    assert (back.rest, back.lengths.tolist()) == (0, episodes.lengths.tolist())
    assert torch.equal(back.latents[:, :20], episodes.latents)
    assert torch.equal(back.actions[:, :19], episodes.actions)
    plain, both = (follow_dreams(Oracle(), perception, each) for each in (episodes, episodes.rested(3)))
    assert both.kinds == episodes.kinds * 2
    assert torch.equal(both.seen[2:, : plain.seen.shape[1]], plain.seen)
    assert torch.equal(both.errors[2:].isfinite().sum(dim=1), plain.errors.isfinite().sum(dim=1))
    assert (both.errors[:2].isfinite().sum(dim=1) == plain.errors.isfinite().sum(dim=1) + 3).all()
