import pytest
import torch

from cosmos_isaac_wm.perception.readout import Located
from cosmos_isaac_wm.training.readout import readout_loss


def test_the_loss_counts_known_headings_only():
    positions, presence = torch.zeros(1, 2, 2), torch.ones(1, 2)
    truth = torch.tensor([[[1.0, 0.0], [float("nan"), float("nan")]]])
    right, wrong = (Located(positions, presence, torch.tensor([[[c, 0.0], [5.0, 5.0]]])) for c in (1.0, -1.0))
    assert float(readout_loss(right, positions, truth)) == pytest.approx(0.0, abs=1e-4)
    assert float(readout_loss(wrong, positions, truth)) == pytest.approx(0.4, abs=1e-4)


def test_the_loss_counts_decimetres_of_what_is_present_only():
    truth = torch.tensor([[[0.1, 0.0], [float("nan"), float("nan")]]])
    presence = torch.tensor([[1.0, 0.0]])
    perfect = Located(torch.tensor([[[0.1, 0.0], [9.0, 9.0]]]), presence)
    off = Located(torch.tensor([[[0.2, 0.1], [9.0, 9.0]]]), presence)
    assert float(readout_loss(perfect, truth)) == pytest.approx(0.0, abs=1e-4)
    assert float(readout_loss(off, truth)) == pytest.approx(2.0, abs=1e-4)
    absent = Located(perfect.positions, torch.tensor([[1.0, 1.0]]))
    assert float(readout_loss(absent, truth)) > 0.5
