"""Fit perception, the part of a world model that sees: `cosmos-wm fit-tokenizer --data DIR --out PERCEPTION`.

Trains the embedded tokenizer (or takes NVIDIA's Cosmos files as they are), measures the latents' statistics, and trains
the readout where the data has positions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cosmos_isaac_wm.data import EpisodeDataset, open_datasets
from cosmos_isaac_wm.data.windows import encode_dataset, join
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.readout import Readout, ReadoutConfig
from cosmos_isaac_wm.perception.tokenizers import CosmosTokenizer, TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.precision import choose_device
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.training.readout import ReadoutFitConfig, fit_readout
from cosmos_isaac_wm.training.tokenizer import TokenizerFitConfig, fit_tokenizer


def run(
    data: list[Path] | Path,
    out: Path,
    init: str | None = None,
    adapt: Literal["readout", "decoder", "tokenizer"] = "readout",
    tokenizer: TinyTokenizerConfig = TinyTokenizerConfig(),  # noqa: B008  (frozen)
    fit: TokenizerFitConfig = TokenizerFitConfig(),  # noqa: B008
    readout: ReadoutFitConfig = ReadoutFitConfig(),  # noqa: B008
    cosmos_encoder: Path | None = None,
    cosmos_decoder: Path | None = None,
    cosmos_video: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> dict[str, float]:
    """Fit tokenizer, latent statistics and readout on the train split of one or several datasets, resumably.

    Args:
        data: A dataset folder, as written by `cosmos-wm collect`, or several, of two simulators for example.
        out: Folder to write perception to; an interrupted fit in it is continued.
        init: A perception folder, or a bundle by folder or shipped name, to go on from, with its latent statistics.
        adapt: With `init`, what learns besides the readout: nothing ("readout"), so that what has been encoded, and the
            dynamics fitted to it, stay good; the "decoder", so that it draws another renderer's pictures of such a
            scene while latents stay what they are; or all of the "tokenizer", which sees these pictures more precisely
            and whose latents the dynamics has to learn (a `fit.lr` of 2e-4 keeps them close). `cosmos-wm fit-dynamics
            --init` goes on from the bundle in each case.
        tokenizer: Shape of the embedded tokenizer.
        fit: How the embedded tokenizer is trained.
        readout: How the readout is trained.
        cosmos_encoder: NVIDIA's `encoder.jit`, to use a Cosmos tokenizer instead of training one.
        cosmos_decoder: NVIDIA's `decoder.jit`.
        cosmos_video: Whether the Cosmos files are a video (CV) tokenizer.
        device: "auto", "cpu" or "cuda".
        seed: Seed of weights, batches and noise.
    """
    if adapt != "readout" and init is None:
        raise ValueError(f"--adapt {adapt} needs --init: whose {adapt}?")
    if (out / "perception.yaml").exists():
        raise FileExistsError(f"{out} already holds a finished perception; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    where = choose_device(device)
    datasets = open_datasets(data)
    scene = datasets[0].scene
    seen = None if init is None else Perception.load(find_perception(init), where)
    claimed = {"init": None if seen is None else seen.fingerprint(), "adapt": adapt, "seed": seed}
    cli.claim(out / "unfinished.json", {"data": [dataset.fingerprint() for dataset in datasets], **claimed})
    results: dict[str, float] = {}
    model: TinyTokenizer | CosmosTokenizer
    torch.manual_seed(seed)
    if seen is not None:
        model = seen.tokenizer
        before = seen.latents_fingerprint()
        if adapt != "readout":
            if not isinstance(model, TinyTokenizer):
                raise ValueError(f"{init} sees with NVIDIA's tokenizer; only the embedded one can be trained")
            (model.decoder if adapt == "decoder" else model).requires_grad_(True)
            results["tokenizer_loss"] = fit_tokenizer(model, datasets, out, fit, seed, where.type)[-1][1]
            model.eval().requires_grad_(False)
        adapted_from = before if adapt == "tokenizer" else seen.adapted_from
        perception = Perception(scene, model, None, seen.mean, seen.std, adapted_from).to(where)
    else:
        if cosmos_encoder is not None and cosmos_decoder is not None:
            model = CosmosTokenizer(str(cosmos_encoder.resolve()), str(cosmos_decoder.resolve()), cosmos_video)
        elif cosmos_encoder is not None or cosmos_decoder is not None:
            raise ValueError("a Cosmos tokenizer needs both --cosmos_encoder and --cosmos_decoder")
        else:
            model = TinyTokenizer(tokenizer)
            results["tokenizer_loss"] = fit_tokenizer(model, datasets, out, fit, seed, where.type)[-1][1]
        perception = Perception(scene, model.eval().requires_grad_(False)).to(where)
        perception.mean, perception.std = _statistics(datasets, perception)
    if scene.workspace_low is not None and scene.workspace_high is not None and scene.markers:
        latents = perception.latents_fingerprint()
        encoded = join(
            [encode_dataset(dataset, "train", perception.encode, latents, out, mirrored=True) for dataset in datasets]
        )
        config = ReadoutConfig(perception.tokenizer.channels, len(scene.markers), headings=any(scene.symmetries))
        perception.readout = Readout(config, scene.workspace_low, scene.workspace_high)
        real = torch.arange(encoded.latents.shape[1]) < encoded.lengths[:, None]  # the rest is padding
        examples = (encoded.latents[real], encoded.positions[real], encoded.headings[real])
        results["readout_loss"] = fit_readout(perception.readout, *examples, readout, seed, where)
    else:
        print(f"{datasets[0].path} has no positions, so there is no readout: the dream has pictures and latents only")
    perception.cpu().save(out)
    for left_over in ("tokenizer-checkpoint.pt", "unfinished.json"):
        (out / left_over).unlink(missing_ok=True)
    print(f"perception in {out}")
    return results


def _statistics(datasets: Sequence[EpisodeDataset], perception: Perception) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of the latents of about a thousand training frames of each."""
    encoded = []
    for dataset in datasets:
        indices = dataset.indices("train")
        chosen = indices[:: max(1, len(indices) // 100)]
        encoded += [perception.encode(torch.from_numpy(episode.frames[::10])) for episode in dataset.episodes(chosen)]
    latents = torch.cat(encoded)
    return latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)).clamp(min=1e-6)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm fit-tokenizer` command."""
    return cli.run(run, "fit-tokenizer", argv)


if __name__ == "__main__":
    sys.exit(main())
