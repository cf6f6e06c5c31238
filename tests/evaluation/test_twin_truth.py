"""Does MuJoCo say what can be known of a twin, and what actions do? On InvertedPendulum, restored and followed."""

import json

import pytest
import torch

from cosmos_isaac_wm.contexts import Contexts
from cosmos_isaac_wm.data import EpisodeDataset, write_dataset
from cosmos_isaac_wm.data.collection import Job
from cosmos_isaac_wm.data.windows import encode_episodes
from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.evaluation import twin_truth
from cosmos_isaac_wm.evaluation.twin_truth import truth_figures
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.heads import HeadsConfig
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.policies.env_recording import environment, record_env_episodes
from cosmos_isaac_wm.training.heads import new_heads
from cosmos_isaac_wm.world_model import WorldModel
from tests.dots import dot_twin, recorded_dots


@pytest.fixture(scope="module")
def reacher(tmp_path_factory):
    """An untrained twin of Reacher-v5, and a dataset of six episodes of it."""
    kwargs = json.dumps({})
    jobs = [Job(number, "episode", number, 24) for number in range(6)]
    episodes = [record_env_episodes([job], "Reacher-v5", kwargs, 32, "random")[0] for job in jobs]
    scene = environment("Reacher-v5", kwargs, 32).scene
    data = EpisodeDataset(write_dataset(tmp_path_factory.mktemp("data") / "reacher", episodes, scene, ["test"] * 6))
    torch.manual_seed(0)
    perception = Perception(scene, TinyTokenizer(TinyTokenizerConfig(widths=(8, 8), blocks=1)))
    perception.eval().requires_grad_(False)
    encoded = encode_episodes(episodes, scene, perception.encode)
    small = HeadsConfig(embedding=16, width=8, hidden=16, acts=True)
    perception.heads = new_heads(encoded, scene.action_dim, small).eval().requires_grad_(False)
    contexts = Contexts(
        encoded.latents[:, :4],
        torch.zeros(6, 4, 0, 2),
        torch.zeros(6, 0, dtype=torch.float64),
        torch.arange(6),
        torch.zeros(6, dtype=torch.int64),
        ["start"] * 6,
    )
    shape = ResNetRolloutConfig(action_dim=scene.action_dim, history=1, width=8, blocks=1)
    return WorldModel(perception, ResNetRollout(shape), contexts).eval().requires_grad_(False), data


def test_what_is_known_exactly_can_be_followed_and_what_is_not_cannot(reacher):
    model, data = reacher
    exact, unsure, blind = (truth_figures(model, data, range(6), r2, 15) for r2 in (1.0, 0.99, 0.0))
    assert exact["knowable_r2_mean_at_15"] > 0.999
    assert exact["knowable_r2_mean_at_15"] > unsure["knowable_r2_mean_at_15"] > blind["knowable_r2_mean_at_15"]


def test_a_dream_that_ignores_its_actions_has_no_sensitivity(reacher):
    model, data = reacher
    responds = truth_figures(model, data, range(6), 1.0, 10)["action_sensitivity"]
    assert responds > 0
    channels = slice(64, 64 + 4)  # of the actions, behind those of four latents
    kept = model.dynamics.in_projection.weight[:, channels].clone()
    model.dynamics.in_projection.weight[:, channels] = 0
    acts = model.perception.heads.observation[0].weight
    led = acts[:, 16::18].clone(), acts[:, 17::18].clone()
    acts[:, 16::18] = acts[:, 17::18] = 0
    assert truth_figures(model, data, range(6), 1.0, 10)["action_sensitivity"] == pytest.approx(0, abs=1e-6)
    model.dynamics.in_projection.weight[:, channels] = kept
    acts[:, 16::18], acts[:, 17::18] = led


def test_a_state_that_is_not_all_of_an_environment_is_found_out(reacher, capsys, monkeypatch):
    model, data = reacher
    displaced = twin_truth._World.follow
    monkeypatch.setattr(
        twin_truth._World, "follow", lambda self, state, acted, by=None: displaced(self, state, 0 * acted, by)
    )
    assert truth_figures(model, data, range(6), 1.0, 10) == {}
    assert "not all that Reacher-v5 goes on from" in capsys.readouterr().err


def test_nothing_is_said_where_mujoco_does_not_simulate(tmp_path):
    scene, episodes = recorded_dots()
    data = EpisodeDataset(write_dataset(tmp_path / "dots", episodes, scene, ["test"] * len(episodes)))
    assert truth_figures(dot_twin(), data, range(len(episodes)), 1.0) == {}
