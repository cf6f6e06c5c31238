import pytest
import torch
from torch.nn import functional as F

from cosmos_isaac_wm.perception.readout import Readout, ReadoutConfig


@pytest.fixture
def readout():
    torch.manual_seed(0)
    return Readout(ReadoutConfig(markers=2, width=8), (-0.4, -0.2), (0.4, 0.6))


def test_it_gives_a_position_and_a_presence_per_marker(readout):
    located = readout(torch.randn(5, 16, 8, 12))
    assert located.positions.shape == (5, 2, 2)
    assert located.presence.shape == (5, 2)
    assert ((located.presence >= 0) & (located.presence <= 1)).all()


def test_its_strided_first_convolution_is_one_of_patches_and_their_coordinates(readout):
    latent, grid = torch.randn(3, 16, 8, 12), torch.randn(1, 2, 4, 6)
    patches = torch.cat([F.pixel_unshuffle(latent, 2), grid.expand(3, -1, -1, -1)], dim=1)
    torch.testing.assert_close(readout._gather(latent, grid), readout.features[0](patches), atol=1e-5, rtol=1e-5)


def test_headings_are_read_where_they_are_learned(readout):
    assert readout(torch.randn(5, 16, 8, 12)).headings is None
    turned = Readout(ReadoutConfig(markers=2, width=8, headings=True), (-0.4, -0.2), (0.4, 0.6))
    assert turned(torch.randn(5, 16, 8, 12)).headings.shape == (5, 2, 2)


def test_a_blank_latent_is_read_near_the_centre_of_the_workspace(readout):
    for parameter in readout.parameters():
        torch.nn.init.zeros_(parameter)
    located = readout(torch.zeros(1, 16, 8, 8))
    torch.testing.assert_close(located.positions, torch.tensor([[[0.0, 0.2], [0.0, 0.2]]]))


def test_a_cell_votes_for_its_own_place(readout):
    for parameter in readout.parameters():
        torch.nn.init.zeros_(parameter)
    # The weight map follows the latent: one bright block in the upper right corner of the picture.
    with torch.no_grad():
        readout.features[0].weight[0, :64, 1, 1] = 1.0
        readout.features[2].weight[0, 0, 1, 1] = 1.0
        readout.features[4].weight[[2, 6], 0] = 1.0
    latent = torch.zeros(1, 16, 8, 8)
    latent[:, :, :2, -2:] = 1.0
    torch.testing.assert_close(readout(latent).positions[0, 0], torch.tensor([0.4, 0.6]), atol=1e-3, rtol=0)
