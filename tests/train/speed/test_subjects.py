import torch

from cosmos_isaac_wm.dynamics import ResNetRollout
from cosmos_isaac_wm.train.speed.subjects import SeedForm, SeedLoop, Still


def test_the_reports_form_predicts_what_the_folded_network_predicts():
    torch.manual_seed(0)
    folded, context = ResNetRollout().eval(), torch.randn(2, 4, 16, 8, 8)
    loop = SeedLoop(SeedForm(folded).eval(), context)
    with torch.inference_mode():
        expected = folded(context, torch.zeros(2, 0)).latent
    torch.testing.assert_close(loop.step(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loop.context, torch.cat([context[:, 1:], expected.unsqueeze(1)], dim=1))


def test_in_a_still_dream_nothing_moves():
    context = torch.randn(2, 4, 16, 8, 8)
    assert torch.equal(Still(4)(context, torch.zeros(2, 2)).latent, context[:, -1])
