import pytest
import torch

from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.protocols import Tokenizer


@pytest.mark.parametrize("size", [128, 512])
def test_it_turns_pictures_into_16_channels_at_an_eighth_of_the_size_and_back(size):
    tokenizer = TinyTokenizer()
    assert isinstance(tokenizer, Tokenizer)
    with torch.inference_mode():
        latents = tokenizer.encode(torch.rand(1, 3, size, size) * 2 - 1)
        images = tokenizer.decode(latents)
    assert latents.shape == (1, 16, size // 8, size // 8)
    assert images.shape == (1, 3, size, size)


def test_it_has_at_most_two_million_parameters():
    assert sum(parameter.numel() for parameter in TinyTokenizer().parameters()) <= 2_000_000


def test_decoded_pictures_stay_within_their_range():
    images = TinyTokenizer().decode(1000 * torch.randn(1, 16, 4, 4))
    assert images.min() == -1.0
    assert images.max() == 1.0


def test_a_size_that_is_no_multiple_of_eight_is_refused():
    with pytest.raises(ValueError, match=r"\(100, 96\).*multiple of 8"):
        TinyTokenizer().encode(torch.zeros(1, 3, 100, 96))


def test_a_cell_depends_on_its_neighbourhood_only():
    tokenizer = TinyTokenizer(TinyTokenizerConfig(blocks=1))
    image = torch.rand(1, 3, 128, 128)
    changed = image.clone()
    changed[..., :8, :8] = 0.0
    difference = (tokenizer.encode(image) - tokenizer.encode(changed)).abs().amax(dim=(0, 1))
    assert difference[0, 0] > 0
    assert difference[8:, 8:].max() == 0


def test_the_fingerprint_changes_with_a_single_weight_and_with_the_shape():
    torch.manual_seed(0)
    tokenizer = TinyTokenizer(TinyTokenizerConfig(widths=(16, 16), blocks=1))
    before = tokenizer.fingerprint()
    assert tokenizer.fingerprint() == before
    with torch.no_grad():
        next(tokenizer.decoder.parameters()).view(-1)[0] += 1e-6
    assert tokenizer.fingerprint() != before
