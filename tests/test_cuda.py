"""On a GPU: the same dreams as on a processor, replayed as one graph, and training that goes on where it was."""

import dataclasses

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.data.windows import encode_dataset
from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.envs import DreamVectorEnv
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.training import FitConfig, Stage, fit_dynamics
from cosmos_isaac_wm.world_model import WorldModel

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("error:the dreams go on without"),  # a fallback is right elsewhere, and a fault here
    pytest.mark.filterwarnings("error:training goes on without"),
    pytest.mark.filterwarnings("error:updates are not recorded"),
]
N = 16
SAME = 1e-3  # metres: convolutions of float32 are done in TF32 on a GPU, as PyTorch has it


def pair(**more):
    """The same dreams on a processor and on a GPU, exactly."""
    return [
        DreamVectorEnv(N, WorldModel.load("default", device), dtype="float32", compile=False, **more)
        for device in ("cpu", "cuda")
    ]


def test_the_same_seeds_start_the_same_dreams_on_both():
    starts = [envs.reset(seed=0) for envs in pair()]
    for key, value in starts[0][0].items():
        assert np.allclose(value, starts[1][0][key], atol=SAME)
    assert np.allclose(starts[0][1]["goal"], starts[1][1]["goal"], atol=1e-6)


def test_a_dream_on_a_gpu_is_that_of_the_processor_for_97_steps():
    both = pair(goal=(0.3, 0.3), autoreset_mode="Disabled", max_episode_steps=1000)
    for envs in both:
        envs.reset(seed=0)
    apart = []
    for actions in np.random.default_rng(0).uniform(-0.3, 0.3, (97, N, 2)).astype(np.float32):
        results = [envs.advance(envs.task.check_actions(actions)) for envs in both]
        places = [result[0]["observation"].cpu() for result in results]
        apart.append((places[0] - places[1])[:, :4].abs().max(dim=1).values)
    assert torch.stack(apart)[:16].max() < 1e-3  # metres
    assert torch.stack(apart).median() < 1e-3  # contact may magnify what rounding begins, in a few


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_what_is_replayed_is_what_would_be_computed(mode):
    model = WorldModel.load("default", "cuda")
    options = {"world_model": model, "to_torch": True, "max_episode_steps": 5, "autoreset_mode": mode}
    plain, fast = (DreamVectorEnv(N, dtype="float32", compile=compile, **options) for compile in (False, True))
    for envs in (plain, fast):
        envs.reset(seed=3)
    generator = torch.Generator("cuda").manual_seed(0)
    for _ in range(20):
        actions = torch.rand(N, 2, device="cuda", generator=generator) * 2 - 1
        one, other = plain.step(actions), fast.step(actions)
        torch.testing.assert_close(one[0]["observation"], other[0]["observation"], atol=1e-3, rtol=1e-3)
        assert torch.equal(one[2] | one[3], other[2] | other[3])


def test_more_dreams_than_a_gpu_holds_are_refused_with_what_would_fit():
    with pytest.raises(MemoryError, match=r"dreams need .* but cuda.* GiB free; [0-9]+ would fit"):
        DreamEngine(WorldModel.load("default", "cuda"), 10**8)


CONFIG = FitConfig(updates=12, batch_size=8, stages=(Stage(1), Stage(2, 0.5)), validate_every=6, mirror=False)


@pytest.fixture
def fit(dataset, world_model, tmp_path):
    """Fits a small network; its result."""
    sight = world_model.perception
    train, val = (encode_dataset(dataset, split, sight.encode, "", None) for split in ("train", "val"))

    def run(folder, **more):
        torch.manual_seed(0)
        network = ResNetRollout(ResNetRolloutConfig(action_dim=2, width=16, blocks=1, blend=True))
        config = dataclasses.replace(CONFIG, **more)
        return fit_dynamics(network, sight, train, val, config, tmp_path / folder, 0, "cuda")

    return run


def test_training_on_a_gpu_goes_on_where_it_was(fit):
    fit("resumed", updates=6)
    resumed = fit("resumed")
    assert [row["update"] for row in resumed.curve] == [6, 12]
    assert np.isfinite(resumed.best["error"])


def test_recorded_updates_teach_what_launched_ones_do(fit):
    launched, recorded = fit("launched", precision="fp32"), fit("recorded", precision="fp32", compile=True)
    for one, other in zip(launched.curve, recorded.curve, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-2)
        assert one["error"] == pytest.approx(other["error"], rel=1e-2)
