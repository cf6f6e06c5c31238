"""Fitting, on a world whose latents are the cube's position and whose dynamics are known."""

import pytest
import torch

from cosmos_isaac_wm.training import FitConfig
from cosmos_isaac_wm.training.losses import gradient_loss, rollout_loss


@pytest.mark.parametrize(
    ("motion", "foreground", "expected"),
    [(1.0, 0.0, (1 + 1 + 1) / 3), (10.0, 0.0, (10 + 1 + 1) / 3), (10.0, 4.0, (10 + 5 + 1) / 3)],
)
def test_the_loss_weighs_what_moves_and_what_is_not_background(motion, foreground, expected):
    previous = torch.tensor([[[[0.0, 2.0, 0.0]]]])
    target = torch.tensor([[[[0.5, 2.05, 0.0]]]])  # moves, stands out from the background, is background
    config = FitConfig(motion_weight=motion, motion_threshold=0.1, foreground_weight=foreground)
    loss = rollout_loss(target + 1.0, target, previous, torch.zeros(1, 1, 1, 3), config)
    assert float(loss) == pytest.approx(expected)


def test_the_gradient_loss_sees_edges_and_no_offsets():
    target = torch.randn(2, 3, 4, 4)
    assert gradient_loss(target + 1.0, target).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    edge = torch.zeros(1, 1, 4, 4)
    edge[..., 2:] = 1.0  # one of three horizontal steps
    torch.testing.assert_close(gradient_loss(edge, torch.zeros(1, 1, 4, 4)), torch.tensor([1 / 3]))
