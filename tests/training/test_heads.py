"""Do heads learn what an environment observes, what it pays, and when it is over? And is how well said truly?"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.perception.heads import _Maps
from cosmos_isaac_wm.training.heads import (
    HeadsConfig,
    HeadsFitConfig,
    _Steps,
    about_as_good,
    fit_heads,
    judge_heads,
    judging_alone,
    new_heads,
)
from tests.dots import encoded_dots

SMALL = HeadsConfig(embedding=32, width=16, hidden=64)


@pytest.fixture(scope="module")
def dots():
    perception, train = encoded_dots(60)
    _, val = encoded_dots(12, seed=1)
    return perception, train, val


def test_they_learn_places_rewards_and_ends(dots):
    perception, train, val = dots
    heads = new_heads(train, 2, SMALL)
    cpu, recipe = torch.device("cpu"), HeadsFitConfig(updates=600, batch_size=64, latent_noise=0.05)
    before = judge_heads(heads, val, perception.scale_actions, cpu)
    fit_heads(heads, train, perception.scale_actions, recipe, 0, cpu)
    after = judge_heads(heads, val, perception.scale_actions, cpu)
    assert before["state_r2_min"] < 0.5
    assert after["state_r2_min"] > 0.9
    assert before["reward_r2"] < 0.2
    assert after["reward_r2"] > 0.7
    assert after["state_mae_0"] < 0.1
    assert after["end_precision"] > 0.5
    assert after["end_recall"] > 0.5


def test_learned_maps_find_small_things_sooner(dots):
    perception, train, val = dots
    cpu, recipe = torch.device("cpu"), HeadsFitConfig(updates=250, batch_size=64, latent_noise=0.05)
    off = {}
    for places in (0, 4):
        torch.manual_seed(0)
        heads = new_heads(train, 2, replace(SMALL, places=places))
        fit_heads(heads, train, perception.scale_actions, recipe, 0, cpu)
        figures = judge_heads(heads, val, perception.scale_actions, cpu)
        off[places] = figures["state_mae_0"] + figures["state_mae_1"]
        assert heads.maps is None if places == 0 else judging_alone(heads).maps is heads.maps
    assert off[4] < 0.8 * off[0], off


def test_learned_maps_say_how_far_beside_a_cell_something_is():
    maps, grid = _Maps(1, 4, 2), torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 5)] * 2, indexing="ij"))
    for parameter in maps.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        maps.layers[-1].bias[2:] = torch.tensor([0.5, -0.25, 0.0, 1.0])  # of a cell, of 0.5: down and right
    assert torch.allclose(maps(torch.zeros(1, 1, 5, 5), grid), torch.tensor([[0.25, -0.125, 0.0, 0.5]]), atol=1e-6)


def test_the_same_seed_teaches_the_same(dots):
    perception, train, _ = dots
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        heads = new_heads(train, 2, SMALL)
        fit_heads(heads, train, perception.scale_actions, HeadsFitConfig(updates=5), 1, torch.device("cpu"))
        weights.append(heads.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_statistics_are_those_of_what_was_recorded(dots):
    _, train, _ = dots
    heads = new_heads(train, 2)
    rows = np.concatenate([train.observed[e, : int(train.lengths[e])] for e in range(len(train))])
    np.testing.assert_allclose(heads.mean[:-1], rows.mean(axis=0), atol=1e-5)
    assert torch.allclose(heads.in_units(heads.normalised(train.observed[0])), train.observed[0], atol=1e-5)


def test_rewards_of_a_goal_environment_are_read_with_the_goal_that_no_picture_shows():
    perception, train = encoded_dots(60, observes="goal")
    _, held_out = encoded_dots(20, seed=7, observes="goal")
    heads = new_heads(train, 2, SMALL)
    assert (heads.config.observed, heads.config.goal, heads.goals.shape) == (4, 2, (60, 2))
    fit_heads(heads, train, perception.scale_actions, HeadsFitConfig(updates=600), 0, torch.device("cpu"))
    figures = judge_heads(heads, held_out, perception.scale_actions, torch.device("cpu"))
    assert figures["reward_r2"] > 0.6  # without the goal it would be about 0
    assert "state_r2_3" in figures
    assert "state_r2_4" not in figures  # what is desired is not read


def test_observations_alone_judge_where_they_tell_all(dots):
    perception, train, held_out = dots
    torch.manual_seed(0)
    looking = new_heads(train, 2, SMALL)
    alone = judging_alone(looking)
    cpu, scale = torch.device("cpu"), perception.scale_actions
    fit_heads(looking, train, scale, HeadsFitConfig(updates=400), 0, cpu, beside=[alone])
    assert alone.observation is looking.observation
    found = [judge_heads(heads, held_out, scale, cpu) for heads in (looking, alone)]
    assert found[0]["state_r2_mean"] == found[1]["state_r2_mean"]
    assert found[1]["reward_r2"] > 0.8
    memory = looking.remember(held_out.latents[:4, :4].float())
    before = now = looking.observe(memory)
    judged = [alone.judge(before, now, each, torch.zeros(4, 2)) for each in (memory, memory + 100)]
    assert torch.equal(judged[0].ends, judged[1].ends)  # whatever the picture looks like


@pytest.mark.parametrize(
    ("alone", "enough"),
    [
        ({"reward_r2": 0.93, "end_precision": 0.8, "end_recall": 0.9}, True),
        ({"reward_r2": 0.90, "end_precision": 0.9, "end_recall": 0.9}, False),
        ({"reward_r2": 0.99, "end_precision": 0.9, "end_recall": 0.5}, False),
        ({"reward_r2": 0.99}, False),
    ],
)
def test_pictures_are_looked_at_where_something_is_missed_without(alone, enough):
    looking = {"reward_r2": 0.96, "end_precision": 0.91, "end_recall": 0.9}
    assert about_as_good(looking, alone) is enough


def test_ends_are_as_likely_as_they_are_though_batches_have_more():
    """Where nothing can be told apart, the share of ends is what is foretold."""
    perception, train = encoded_dots(30)
    for part in (train.latents, train.observed, train.actions):
        part.zero_()
    heads = new_heads(train, 2, SMALL)
    fit_heads(heads, train, perception.scale_actions, HeadsFitConfig(updates=300), 0, torch.device("cpu"))
    memory = heads.remember(train.latents[:1, :4].float())
    read = heads.observe(memory)
    foretold = torch.sigmoid(heads.judge(read, read, memory, torch.zeros(1, 2)).ends)
    steps = train.lengths - 1
    shown = (train.lengths - 3).clamp(min=0).sum()  # steps with enough frames before them
    share = train.ends.gather(1, (steps - 1).unsqueeze(1))[steps >= 3].sum() / shown
    assert abs(float(foretold) - float(share)) < 0.05


def test_first_frames_are_read_and_no_step_leads_through_a_rest(dots):
    _, train, _ = dots
    heads = new_heads(train, 2, SMALL)
    rested = _Steps(train.rested(4), heads)
    steps = sorted(map(tuple, rested.table.tolist()))
    assert steps == [
        (episode, 4 + frame) for episode, length in enumerate(train.lengths.tolist()) for frame in range(1, length)
    ]
    latents, actions, known, observed, *_ = rested.show(torch.tensor([0]))
    episode, frame = rested.table[0].tolist()
    assert known.tolist() == [[False] * 3 + [True]]  # nothing had been done before the first frame
    assert torch.equal(actions[0, -1], train.actions[episode, frame - 5])
    assert torch.equal(observed[0, 0], train.observed[episode, frame - 5])
    assert torch.equal(latents[0, 0], train.latents[episode, 0].float())
