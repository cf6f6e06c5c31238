import pytest
import torch
from torch import Tensor, nn

from cosmos_isaac_wm.dynamics import (
    ResNetRollout,
    ResNetRolloutConfig,
    grown,
    load_seed_checkpoint,
    to_seed_state_dict,
)
from cosmos_isaac_wm.protocols import Dynamics


class SeedBlock(nn.Module):
    def __init__(self, width: int = 64):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(width, width, 3, padding=1), nn.GroupNorm(8, width)
        self.drop = nn.Dropout(0.1)
        self.conv2, self.norm2 = nn.Conv3d(width, width, 3, padding=1), nn.GroupNorm(8, width)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.act(self.norm1(self.conv1(x))))
        return x + self.act(self.norm2(self.conv2(y)))


class SeedNetwork(nn.Module):
    """The report's network as it was: Conv3d over a time axis of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj = nn.Sequential(nn.Conv3d(64, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.SiLU())
        self.blocks = nn.Sequential(*(SeedBlock() for _ in range(4)))
        self.out_proj = nn.Conv3d(64, 16, 3, padding=1)

    def forward(self, context: Tensor) -> Tensor:
        """Context (B, 4, 16, h, w) to the next latent (B, 16, h, w)."""
        x = context.flatten(1, 2).unsqueeze(2)  # (B, 64, 1, h, w)
        return self.out_proj(self.blocks(self.in_proj(x))).squeeze(2)


@pytest.fixture
def seed_network():
    torch.manual_seed(0)
    network = SeedNetwork().eval().requires_grad_(False)
    for parameter in network.parameters():  # so that no norm is the identity and no bias zero
        parameter += 0.05 * torch.randn_like(parameter)
    return network


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_reports_network_has_1024720_parameters_of_which_342736_are_live(seed_network):
    assert parameters(seed_network) == 1_024_720
    assert parameters(ResNetRollout()) == 342_736
    assert sum(tensor.numel() for tensor in to_seed_state_dict(ResNetRollout()).values()) == 1_024_720


def test_group_normalisation_is_pytorchs_on_every_grid():
    torch.manual_seed(0)
    model = ResNetRollout(ResNetRolloutConfig(width=16)).eval()
    for side in (8, 40):
        context, action = torch.randn(2, 4, 16, side, side), torch.zeros(2, 0)
        with torch.inference_mode():
            without_gradient = model(context, action).latent
        torch.testing.assert_close(without_gradient, model(context, action).latent.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_state_dict"])
def test_a_folded_checkpoint_predicts_what_the_reports_network_predicts(seed_network, tmp_path, prefix, wrapper):
    state = {prefix + name: tensor for name, tensor in seed_network.state_dict().items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 500}, tmp_path / "seed.pt")
    model = load_seed_checkpoint(tmp_path / "seed.pt").eval()
    context = torch.randn(2, 4, 16, 12, 16)
    predicted = model(context, torch.zeros(2, 0)).latent
    torch.testing.assert_close(predicted, seed_network(context), atol=1e-5, rtol=1e-5)


def test_exported_weights_run_in_the_reports_network_and_load_again(seed_network, tmp_path):
    model = ResNetRollout().eval()
    exported = to_seed_state_dict(model)
    seed_network.load_state_dict(dict(zip(seed_network.state_dict(), exported.values(), strict=True)))
    context = torch.randn(1, 4, 16, 8, 8)
    torch.testing.assert_close(seed_network(context), model(context, torch.zeros(1, 0)).latent, atol=1e-5, rtol=1e-5)
    torch.save(exported, tmp_path / "seed.pt")
    again = load_seed_checkpoint(tmp_path / "seed.pt").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_only_the_reports_options_can_be_exported():
    with pytest.raises(ValueError, match="action_dim=0"):
        to_seed_state_dict(ResNetRollout(ResNetRolloutConfig(action_dim=2)))


class Malicious:
    def __reduce__(self):
        import os

        return os.mkdir, ("executed",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Malicious()}, "evil.pt")
    with pytest.raises(ValueError, match="loads without running code"):
        load_seed_checkpoint("evil.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content",
    [{}, {"a": torch.zeros(3)}, [torch.zeros(3)], torch.zeros(2), {"a": torch.zeros(64, 64, 3, 3, 3)}],
    ids=["empty", "no convolution", "a list", "a tensor", "one convolution"],
)
def test_a_file_that_is_not_the_reports_network_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt"):
        load_seed_checkpoint(tmp_path / "other.pt")


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pt"):
        load_seed_checkpoint(tmp_path / "nowhere.pt")


@pytest.mark.parametrize(
    "config",
    [
        ResNetRolloutConfig(context_length=8),
        ResNetRolloutConfig(patch=2),
        ResNetRolloutConfig(action_dim=3),
        ResNetRolloutConfig(norm="layer"),
        ResNetRolloutConfig(patch=2, blend=True),
        ResNetRolloutConfig(
            context_length=8, patch=2, action_dim=3, norm="layer", blend=True, coordinates=True, width=32, blocks=2
        ),
    ],
)
def test_every_option_keeps_the_contract(config):
    model = ResNetRollout(config).eval()
    assert isinstance(model, Dynamics)
    context = torch.randn(2, config.context_length, 16, 8, 12)
    prediction = model(context, torch.randn(2, config.action_dim))
    assert prediction.latent.shape == (2, 16, 8, 12)
    assert prediction.uncertainty is None


@pytest.mark.parametrize("shape", [(1, 3, 16, 8, 8), (1, 4, 8, 8, 8)])
def test_a_context_of_another_length_or_channels_is_refused(shape):
    with pytest.raises(ValueError, match="4 latents with 16 channels"):
        ResNetRollout()(torch.zeros(shape), torch.zeros(1, 0))


def test_the_blended_form_starts_near_the_last_latent_and_can_keep_it_exactly():
    torch.manual_seed(0)
    model = ResNetRollout(ResNetRolloutConfig(blend=True, norm="layer", action_dim=2))
    context = torch.randn(2, 4, 16, 8, 8)
    change = model(context, torch.randn(2, 2)).latent - context[:, -1]
    assert change.abs().mean() < 0.2 * context.abs().mean()
    nn.init.constant_(model.out_projection.bias[16:], -200.0)
    assert torch.equal(model(context, torch.randn(2, 2)).latent, context[:, -1])


def test_with_layer_norm_a_far_object_changes_nothing_here():
    """Group normalisation sees the whole picture: there it does."""
    for norm, local in (("layer", True), ("group", False)):
        torch.manual_seed(0)
        model = ResNetRollout(ResNetRolloutConfig(norm=norm, blocks=1)).eval()
        context = torch.zeros(1, 4, 16, 24, 24)
        empty = model(context, torch.zeros(1, 0)).latent
        context[..., 20:, 20:] = 3.0
        assert torch.equal(model(context, torch.zeros(1, 0)).latent[..., :8, :8], empty[..., :8, :8]) == local


def test_an_action_matters_exactly_when_the_model_takes_one():
    context, actions = torch.randn(1, 4, 16, 8, 8), torch.tensor([[1.0, -1.0]])
    for action_dim in (0, 2):
        model = ResNetRollout(ResNetRolloutConfig(action_dim=action_dim)).eval()
        assert torch.equal(model(context, actions).latent, model(context, -actions).latent) == (action_dim == 0)


def test_coordinates_tell_one_place_from_another():
    for coordinates in (False, True):
        torch.manual_seed(0)
        model = ResNetRollout(ResNetRolloutConfig(coordinates=coordinates, blocks=1)).eval()
        latent = model(torch.ones(1, 4, 16, 24, 24), torch.zeros(1, 0)).latent[0, :, 8:16, 8:16]
        assert (latent.std(dim=(1, 2)).max() > 1e-3) == coordinates


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_dropout_drops_its_share_evenly_and_keeps_the_mean(memory_format):
    dropout = ResNetRollout().blocks[0].dropout
    x = torch.ones(16, 64, 16, 15).to(memory_format=memory_format).requires_grad_()
    torch.manual_seed(0)
    dropped = dropout(x)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.9, abs=2e-3)
    assert kept.float().mean(dim=(0, 2, 3)).sub(0.9).abs().max() < 0.03  # no channel more than another
    assert dropped.mean().item() == pytest.approx(1.0, abs=2e-3)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped)
    torch.manual_seed(0)
    assert torch.equal(dropout(x), dropped)
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("patch", [1, 2])
def test_a_grown_network_predicts_the_same_and_can_learn_more(patch):
    torch.manual_seed(0)
    shape = ResNetRolloutConfig(action_dim=2, observed=3, width=16, blocks=2, dropout=0.0, norm="layer", patch=patch)
    small = ResNetRollout(shape)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.normal_(std=0.1)
    large = grown(small, {"blocks": 3, "history": 1, "context_length": 6})
    context, shown = torch.randn(2, 6, 16, 8, 8), torch.randn(2, 7)  # an action, the newest, three that are observed
    predicted = large(context, shown).latent
    assert torch.allclose(predicted, small(context[:, 2:], shown[:, 2:]).latent, atol=1e-5)
    predicted.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in large.blocks[2].second.parameters())


@pytest.mark.parametrize(
    ("config", "larger", "words"),
    [
        (ResNetRolloutConfig(norm="layer"), {"width": 96}, "grows in .*, not in 'width'"),
        (ResNetRolloutConfig(norm="layer"), {"blocks": 2}, "grows only: blocks is 4 already, got 2"),
        (ResNetRolloutConfig(), {"blocks": 6}, "not in 'blocks'"),
    ],
)
def test_what_cannot_grow_is_said(config, larger, words):
    with pytest.raises(ValueError, match=words):
        grown(ResNetRollout(config), larger)
