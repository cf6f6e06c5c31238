"""NVIDIA's weights cannot be shipped, so these tests build TorchScript modules with the same input and output."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cosmos_isaac_wm.perception import BundleError, Perception
from cosmos_isaac_wm.perception.tokenizers import CosmosTokenizer
from cosmos_isaac_wm.protocols import Tokenizer
from cosmos_isaac_wm.world_model import WorldModel

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated:DeprecationWarning")


class ImageEncoder(nn.Module):
    """Like CI8x8 and CI16x16: pictures to (latent, something more)."""

    def __init__(self, compression: int):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, compression, stride=compression)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.conv(x)
        return latent, latent.mean()


class ImageDecoder(nn.Module):
    def __init__(self, compression: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(16, 3, compression, stride=compression)

    def forward(self, z: Tensor) -> Tensor:
        return 100.0 * self.conv(z)


class VideoEncoder(nn.Module):
    """Like CV8x8x8: keeps the first frame and every eighth after it, whatever number comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 16, (1, 8, 8), stride=(8, 8, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.conv(x)
        return latent, latent.mean()


class VideoDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(16, 3, (1, 8, 8), stride=(1, 8, 8))

    def forward(self, z: Tensor) -> Tensor:
        return self.conv(z)


def script(folder: Path, encoder: nn.Module, decoder: nn.Module) -> tuple[str, str]:
    folder.mkdir(exist_ok=True)
    paths = str(folder / "encoder.jit"), str(folder / "decoder.jit")
    for module, path in zip((encoder, decoder), paths, strict=True):
        torch.jit.save(torch.jit.script(module), path)
    return paths


@pytest.fixture
def image_files(tmp_path):
    torch.manual_seed(0)
    return script(tmp_path / "CI8x8", ImageEncoder(8), ImageDecoder(8))


@pytest.fixture
def video_files(tmp_path):
    torch.manual_seed(0)
    return script(tmp_path / "CV8x8x8", VideoEncoder(), VideoDecoder())


@pytest.mark.parametrize("compression", [8, 16])
def test_an_image_tokenizer_is_a_tokenizer(tmp_path, compression):
    encoder = ImageEncoder(compression)
    tokenizer = CosmosTokenizer(*script(tmp_path, encoder, ImageDecoder(compression)))
    assert isinstance(tokenizer, Tokenizer)
    assert (tokenizer.channels, tokenizer.compression) == (16, compression)
    images = torch.rand(2, 3, 64, 96) * 2 - 1
    latents = tokenizer.encode(images)
    torch.testing.assert_close(latents, encoder(images)[0])
    assert tokenizer.decode(latents).shape == images.shape
    assert tokenizer.decode(latents).abs().max() == 1.0


def test_a_video_tokenizer_takes_one_frame_at_a_time(video_files):
    tokenizer = CosmosTokenizer(*video_files, video=True)
    images = torch.rand(3, 3, 64, 64)
    latents = tokenizer.encode(images)
    assert latents.shape == (3, 16, 8, 8)
    torch.testing.assert_close(latents[1:2], tokenizer.encode(images[1:2]))
    torch.testing.assert_close(latents, tokenizer.encode_video(images.unsqueeze(2))[:, :, 0])
    assert tokenizer.decode(latents).shape == images.shape


@pytest.mark.parametrize(("compression", "frames"), [(8, 8), (8, 10), (8, 5), (4, 4), (4, 8)])
def test_a_number_of_frames_that_would_fail_silently_is_refused(video_files, compression, frames):
    tokenizer = CosmosTokenizer(*video_files, video=True, temporal_compression=compression)
    with pytest.raises(ValueError, match=rf"T = 1 \+ {compression} n frames"):
        tokenizer.encode_video(torch.zeros(1, 3, frames, 64, 64))
    assert tokenizer.encode_video(torch.zeros(1, 3, 17, 64, 64)).shape == (1, 16, 3, 8, 8)


def test_taking_video_for_image_files_or_the_reverse_says_how_to_mend_it(image_files, video_files):
    with pytest.raises(ValueError, match="Is it a video tokenizer\\? Then set video=True"):
        CosmosTokenizer(*video_files)
    with pytest.raises(ValueError, match="Is it an image tokenizer\\? Then set video=False"):
        CosmosTokenizer(*image_files, video=True)
    with pytest.raises(ValueError, match="image tokenizer"):
        CosmosTokenizer(*image_files).encode_video(torch.zeros(1, 3, 1, 64, 64))


def test_a_missing_or_truncated_file_is_named(image_files):
    encoder, decoder = image_files
    with pytest.raises(ValueError, match=r"no TorchScript tokenizer at .*nowhere\.jit"):
        CosmosTokenizer(encoder, "nowhere.jit")
    content = Path(decoder).read_bytes()
    Path(decoder).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"decoder\.jit is not a TorchScript module or is truncated"):
        CosmosTokenizer(encoder, decoder)


@pytest.mark.parametrize("video", [False, True])
def test_a_bundle_with_cosmos_saves_and_loads_without_copying_nvidias_weights(
    world_model, image_files, video_files, tmp_path, video
):
    tokenizer = CosmosTokenizer(*(video_files if video else image_files), video=video)
    readout = world_model.perception.readout
    perception = Perception(world_model.scene, tokenizer, readout, mean=torch.rand(16), std=1 + torch.rand(16))
    model = WorldModel(perception, world_model.dynamics, world_model.contexts)
    loaded = WorldModel.load(model.save(tmp_path / "bundle"))
    frames = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(loaded.encode(frames), model.encode(frames))
    torch.testing.assert_close(
        loaded.locate(loaded.encode(frames)).positions, model.locate(model.encode(frames)).positions
    )


def test_a_bundle_refuses_a_decoder_that_has_changed(world_model, image_files, tmp_path):
    perception = Perception(world_model.scene, CosmosTokenizer(*image_files), world_model.perception.readout)
    folder = WorldModel(perception, world_model.dynamics, world_model.contexts).save(tmp_path / "bundle")
    torch.manual_seed(1)
    script(Path(image_files[0]).parent, ImageEncoder(8), ImageDecoder(8))
    with pytest.raises(BundleError, match="fingerprint"):
        WorldModel.load(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("video", [False, True], ids=["image", "video"])
def test_files_are_fed_in_the_type_that_they_hold(tmp_path, dtype, video):
    """NVIDIA's own hold bfloat16, to judge by their loaders."""
    pair = (VideoEncoder(), VideoDecoder()) if video else (ImageEncoder(8), ImageDecoder(8))
    files = script(tmp_path / "files", *(module.to(dtype) for module in pair))
    tokenizer = CosmosTokenizer(*files, video=video)
    latents = tokenizer.encode(torch.zeros(2, 3, 64, 64))
    assert latents.dtype == torch.float32
    assert latents.shape == (2, 16, 8, 8)
    images = tokenizer.decode(latents)
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, 64, 64)


class DiscreteEncoder(nn.Module):
    """Like DI8x8: (indices, codes, loss)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 8, stride=8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        codes = self.conv(x)
        return codes.argmax(1).to(torch.int32), codes, torch.zeros(1)


def test_discrete_tokenizers_are_refused_with_a_word(tmp_path):
    with pytest.raises(ValueError, match=r"discrete tokenizer \(DI, DV\).*CI8x8"):
        CosmosTokenizer(*script(tmp_path / "DI8x8", DiscreteEncoder(), ImageDecoder(8)))


@pytest.mark.parametrize(("encoder", "decoder"), [(8, 16), (16, 8)])
def test_encoder_and_decoder_must_be_of_one_tokenizer(tmp_path, encoder, decoder):
    with pytest.raises(ValueError, match=r"not of one tokenizer"):
        CosmosTokenizer(*script(tmp_path / "mixed", ImageEncoder(encoder), ImageDecoder(decoder)))


def test_a_decoder_for_other_channels_is_refused_in_one_line(tmp_path):
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.ConvTranspose2d(6, 3, 8, stride=8)

        def forward(self, z: Tensor) -> Tensor:
            return self.conv(z)

    with pytest.raises(ValueError, match=r"does not decode latents of shape \(1, 16, 8, 8\)") as refusal:
        CosmosTokenizer(*script(tmp_path / "other", ImageEncoder(8), Other()))
    assert "\n" not in str(refusal.value)
