"""The report's other systems: their sizes, what they take, and what their noise does."""

import pytest
import torch

from cosmos_isaac_wm.dynamics import LatentUNet, LatentUNetConfig, ProbabilisticPlus, ProbabilisticPlusConfig
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.protocols import Dynamics
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.fit_dynamics import FitDynamics

SMALL_UNET = LatentUNetConfig(channels=2, action_dim=2, width=8, multipliers=(1, 2, 2), blocks=1)
SMALL_NOISE = ProbabilisticPlusConfig(channels=2, action_dim=2, width=8, blocks=3, noise_dim=3)


def stochastic():
    torch.manual_seed(0)
    model = ProbabilisticPlus(SMALL_NOISE)
    for parameter in model.parameters():  # the blocks start as identities
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        ("resnet_rollout.yaml", 1_024_720 / 3),  # a third of the Conv3d's weights are live
        ("probabilistic_plus.yaml", 10e6),
        ("rollout.yaml", 84e6),
        ("sharp_shooter.yaml", 84e6),
    ],
)
def test_a_recipe_makes_a_network_of_the_reports_size(scene, recipe, parameters):
    sight = Perception(scene, TinyTokenizer(TinyTokenizerConfig(widths=(8, 8), blocks=1)))
    with torch.device("meta"):
        network = cli.recipe(FitDynamics, "fit-dynamics", recipe).new_network(sight)
    assert network.action_dim == 2
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.05)


@pytest.mark.parametrize("model", [LatentUNet(SMALL_UNET), ProbabilisticPlus(SMALL_NOISE)])
@pytest.mark.parametrize("grid", [(4, 4), (16, 12), (5, 7)])
def test_any_grid_will_do(model, grid):
    assert isinstance(model, Dynamics)
    latent = model(torch.randn(3, model.context_length, 2, *grid), torch.zeros(3, 2)).latent
    assert latent.shape == (3, 2, *grid)
    assert latent.dtype == torch.float32


@pytest.mark.parametrize("model", [LatentUNet(SMALL_UNET), ProbabilisticPlus(SMALL_NOISE)])
def test_a_context_of_another_length_is_refused(model):
    with pytest.raises(ValueError, match="expected a context of"):
        model(torch.randn(1, 3, 2, 4, 4), torch.zeros(1, 2))


@pytest.mark.parametrize("make", [lambda: LatentUNet(SMALL_UNET).eval(), stochastic])
def test_actions_matter(make):
    model = make()
    context = torch.randn(1, model.context_length, 2, 8, 8)
    first, second = (model(context, torch.tensor([[a, 0.0]])).latent for a in (-1.0, 1.0))
    assert (first - second).abs().max() > 1e-3


def test_a_dream_without_noise_is_the_mean_and_noise_makes_others():
    model, context, action = stochastic(), torch.randn(2, 4, 2, 4, 4), torch.zeros(2, 2)
    mean = model(context, action).latent
    torch.testing.assert_close(mean, model(context, action, None, torch.zeros(2, 3)).latent)
    drawn = model(context, action, None, torch.ones(2, 3))
    assert (mean - drawn.latent).abs().max() > 1e-3
    assert drawn.kl is None


def test_the_posterior_sees_the_target():
    model, context, action = stochastic(), torch.randn(2, 4, 2, 4, 4), torch.zeros(2, 2)
    still = torch.zeros(2, 3)
    first, second = (model(context, action, target, still) for target in torch.randn(2, 2, 2, 4, 4))
    assert (first.latent - second.latent).abs().max() > 1e-4
    assert first.kl.shape == (2, 3)
    assert (first.kl >= 0).all()
