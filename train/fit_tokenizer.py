"""How does a world model learn to see? `cosmos-wm fit-tokenizer --data DIR --out PERCEPTION` fits its perception.

Trains the embedded tokenizer (or takes NVIDIA's Cosmos files as they are), measures the latents' statistics, and trains
the readout where the data has positions.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from cosmos_isaac_wm.data import EpisodeDataset, open_datasets
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.heads import HeadsConfig
from cosmos_isaac_wm.perception.readout import Readout, ReadoutConfig
from cosmos_isaac_wm.perception.tokenizers import CosmosTokenizer, TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.precision import choose_device
from cosmos_isaac_wm.storage.atomic import write_json
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.storage.lock import claim, holding
from cosmos_isaac_wm.storage.structured import read
from cosmos_isaac_wm.storage.weights import must_be_buildable
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.training.carry import fit_carry
from cosmos_isaac_wm.training.heads import (
    HeadsFitConfig,
    about_as_good,
    fit_heads,
    judge_heads,
    judging_alone,
    new_heads,
)
from cosmos_isaac_wm.training.material import encode_split
from cosmos_isaac_wm.training.processes import Processes
from cosmos_isaac_wm.training.readout import ReadoutFitConfig, fit_readout
from cosmos_isaac_wm.training.round_trip import round_trip
from cosmos_isaac_wm.training.statistics import latent_statistics
from cosmos_isaac_wm.training.tokenizer import TokenizerFitConfig, fit_tokenizer

_BOUND, _FIGURES, _CHECKPOINT = "fit.json", "figures.json", "tokenizer-checkpoint.pt"
_PLACES = 16  # that heads look for
_MAY_CHANGE = "fit.minutes, the device and the number of processes"


@dataclass(frozen=True)
class FitTokenizer:
    """Fit tokenizer, latent statistics and readout on the train split of one or several datasets, resumably.

    `accelerate launch` or `torchrun` let several processes share the tokenizer's batch; only the main one writes, and
    does what else there is to do.

    Attributes:
        data: A dataset folder, as written by `cosmos-wm collect`, or several, of two simulators for example.
        out: Folder to write perception to; an interrupted fit in it is continued.
        init: A perception folder, or a bundle by folder or shipped name, to go on from, with its latent statistics.
        adapt: With `init`, what learns besides the readout: nothing ("readout"), so that what has been encoded, and the
            dynamics fitted to it, stay good; the "decoder", so that it draws another renderer's pictures of such a
            scene while latents stay what they are; or all of the "tokenizer", which sees these pictures more precisely
            and whose latents the dynamics has to learn (a `fit.lr` of 2e-4 keeps them close). `cosmos-wm fit-dynamics
            --init` goes on from the bundle in each case.
        pretrained: Whose weights a new tokenizer begins with, where they have its shape: a perception folder, or a
            bundle by folder or shipped name. "general" has seen many worlds, so that pictures of a new one are learned
            in a fraction of the time. "scratch" begins with random weights.
        tokenizer: Shape of the embedded tokenizer.
        fit: How the embedded tokenizer is trained.
        readout: How the readout is trained, where the data has positions.
        heads: How the heads are trained, where the data is of a foreign environment.
        head_frames: Newest frames that they read an observation from.
        cosmos_encoder: NVIDIA's `encoder.jit`, to use a Cosmos tokenizer instead of training one.
        cosmos_decoder: NVIDIA's `decoder.jit`.
        cosmos_video: Whether the Cosmos files are a video (CV) tokenizer.
        device: "auto", "cpu" or "cuda".
        seed: Seed of weights, batches and noise.
    """

    data: list[Path] | Path
    out: Path
    init: str | None = None
    adapt: Literal["readout", "decoder", "tokenizer"] = "readout"
    pretrained: str = "general"
    tokenizer: TinyTokenizerConfig = field(default_factory=TinyTokenizerConfig)
    fit: TokenizerFitConfig = field(default_factory=TokenizerFitConfig)
    readout: ReadoutFitConfig = field(default_factory=ReadoutFitConfig)
    heads: HeadsFitConfig = field(default_factory=HeadsFitConfig)
    head_frames: int = 3
    cosmos_encoder: Path | None = None
    cosmos_decoder: Path | None = None
    cosmos_video: bool = False
    device: str = "auto"
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Fit what is to be fitted, and write the perception; the losses at the end."""
        if self.adapt != "readout" and self.init is None:
            raise ValueError(f"--adapt {self.adapt} needs --init: whose {self.adapt}?")
        if (self.out / "perception.yaml").exists() and not (self.out / _BOUND).is_file():
            raise FileExistsError(f"{self.out} already holds a perception; choose another folder")
        must_be_buildable(self.tokenizer, lambda: TinyTokenizer(self.tokenizer))
        processes = Processes(choose_device(self.device).type)  # what is not there is an error now
        processes.slots(self.fit.batch_size)  # and so is what cannot be shared
        datasets = open_datasets(self.data)
        seen = None if self.init is None else Perception.load(find_perception(self.init), self._where)
        with holding(self.out) if processes.main else nullcontext():
            with processes.main_first():
                begun = any((self.out / name).exists() for name in (_CHECKPOINT, "perception.yaml"))
                claim(self.out / _BOUND, self._settings(datasets, seen), begun, _MAY_CHANGE)
            if (self.out / "perception.yaml").exists():
                cli.going_on(f"the finished perception in {self.out}")
                return read(self.out / _FIGURES, dict[str, float]) if (self.out / _FIGURES).is_file() else {}
            return self._fitted(datasets, seen, processes)

    def _settings(self, datasets: Sequence[EpisodeDataset], seen: Perception | None) -> dict[str, Any]:
        """What a fit that is gone on with must have been begun with."""
        new: dict[str, Any] = {"tokenizer": dataclasses.asdict(self.tokenizer), "pretrained": self.pretrained}
        new |= {"cosmos": [self.cosmos_encoder, self.cosmos_decoder, self.cosmos_video]}
        return {
            "data": [each.fingerprint() for each in datasets],
            "init": None if seen is None else seen.fingerprint(),
            **({"adapt": self.adapt} if seen is not None else new),
            "fit": {key: value for key, value in dataclasses.asdict(self.fit).items() if key != "minutes"},
            "readout": dataclasses.asdict(self.readout),
            "heads": dataclasses.asdict(self.heads) | {"frames": self.head_frames},
            "seed": self.seed,
        }

    def _fitted(
        self, datasets: Sequence[EpisodeDataset], seen: Perception | None, processes: Processes
    ) -> dict[str, float]:
        """Fit, or what is left of it, and write the perception."""
        torch.manual_seed(self.seed)
        perception, losses = self._new(datasets) if seen is None else self._adapted(seen, datasets)
        if not processes.main:
            return {}
        if seen is None:
            perception.mean, perception.std = latent_statistics(datasets, perception)
        losses |= self._fit_readout(perception, datasets) if perception.scene.environment is None else {}
        losses |= self._fit_heads(perception, datasets) if perception.scene.environment is not None else {}
        judged = round_trip(perception, datasets)
        write_json(self.out / _FIGURES, losses | judged.figures)
        perception.cpu().save(self.out)
        (self.out / _CHECKPOINT).unlink(missing_ok=True)
        print(f"perception in {self.out}\n{judged.words()}")
        return losses | judged.figures

    @property
    def _where(self) -> torch.device:
        return choose_device(self.device)

    def _new(self, datasets: Sequence[EpisodeDataset]) -> tuple[Perception, dict[str, float]]:
        """A perception of its own, still without statistics and readout, and the loss of what was trained."""
        model: TinyTokenizer | CosmosTokenizer
        encoder, decoder, losses = self.cosmos_encoder, self.cosmos_decoder, dict[str, float]()
        if encoder is not None and decoder is not None:
            model = CosmosTokenizer(str(encoder.resolve()), str(decoder.resolve()), self.cosmos_video)
        elif encoder is not None or decoder is not None:
            raise ValueError("a Cosmos tokenizer needs both --cosmos_encoder and --cosmos_decoder")
        else:
            model = TinyTokenizer(self.tokenizer)
            self._begin(model)
            losses = self._fit(model, datasets)
        return Perception(datasets[0].scene, model.eval().requires_grad_(False)).to(self._where), losses

    def _begin(self, model: TinyTokenizer) -> None:
        """Give a new tokenizer the weights that it begins with; says so where they are of another shape."""
        if self.pretrained == "scratch":
            return
        theirs = Perception.load(find_perception(self.pretrained)).tokenizer
        if isinstance(theirs, TinyTokenizer) and theirs.config == model.config:
            model.load_state_dict(theirs.state_dict())
        elif Processes(self._where.type).main:
            print(f"the tokenizer of {self.pretrained!r} has another shape: this one learns from scratch")

    def _adapted(self, seen: Perception, datasets: Sequence[EpisodeDataset]) -> tuple[Perception, dict[str, float]]:
        """One that goes on from another with its latent statistics, and the loss of what was trained."""
        model, before, losses = seen.tokenizer, seen.latents_fingerprint(), dict[str, float]()
        if self.adapt != "readout":
            if not isinstance(model, TinyTokenizer):
                raise ValueError(f"{self.init} sees with NVIDIA's tokenizer; only the embedded one can be trained")
            (model.decoder if self.adapt == "decoder" else model).requires_grad_(True)
            losses = self._fit(model, datasets)
            model.eval().requires_grad_(False)
        adapted_from = before if self.adapt == "tokenizer" else seen.adapted_from
        return Perception(datasets[0].scene, model, None, seen.mean, seen.std, adapted_from).to(self._where), losses

    def _fit(self, model: TinyTokenizer, datasets: Sequence[EpisodeDataset]) -> dict[str, float]:
        """Train a tokenizer; its loss at the end."""
        curve = fit_tokenizer(model, datasets, self.out, self.fit, self.seed, self._where.type)
        return {"tokenizer_loss": curve[-1][1]}

    def _fit_readout(self, perception: Perception, datasets: Sequence[EpisodeDataset]) -> dict[str, float]:
        """Give a perception its readout, where the data has positions; its loss at the end."""
        scene = perception.scene
        if scene.workspace_low is None or scene.workspace_high is None or not scene.markers:
            path = datasets[0].path
            print(f"{path} has no positions, so there is no readout: the dream has pictures and latents only")
            return {}
        encoded = encode_split(datasets, "train", perception, self.out, mirror=True)
        config = ReadoutConfig(perception.tokenizer.channels, len(scene.markers), headings=any(scene.symmetries))
        torch.manual_seed(self.seed + 1)  # whatever was drawn before: an interrupted fit draws less
        perception.readout = Readout(config, scene.workspace_low, scene.workspace_high)
        real = torch.arange(encoded.latents.shape[1]) < encoded.lengths[:, None]  # the rest is padding
        examples = (encoded.latents[real], encoded.positions[real], encoded.headings[real])
        loss = fit_readout(perception.readout, *examples, self.readout, self.seed, self._where)
        return {"readout_loss": loss}

    def _fit_heads(self, perception: Perception, datasets: Sequence[EpisodeDataset]) -> dict[str, float]:
        """Give a perception its heads; their loss at the end, and how well they read episodes that they do not know."""
        encoded = encode_split(datasets, "train", perception, self.out, mirror=False)
        torch.manual_seed(self.seed + 2)  # whatever was drawn before
        shape, scale = HeadsConfig(frames=self.head_frames, places=_PLACES, acts=True), perception.scale_actions
        heads = new_heads(encoded, perception.scene.action_dim, shape)
        encoded = encoded.rested(shape.frames - 1)  # first frames are read as well
        beside = [judging_alone(heads)] if heads.config.observed else []
        loss = fit_heads(heads, encoded, scale, self.heads, self.seed, self._where, beside=beside)
        unseen = encode_split(datasets, "val", perception, self.out, mirror=False).rested(shape.frames - 1)
        figures = judge_heads(heads, unseen, scale, self._where)
        for alone in beside:
            if about_as_good(figures, found := judge_heads(alone, unseen, scale, self._where)):
                heads, figures = alone, found
            print(f"rewards and ends are judged from {'pictures, too' if heads.config.looks else 'observations alone'}")
        if heads.config.observed:
            heads, found = fit_carry(heads, encoded, unseen, scale, self.heads, self.seed, self._where)
            figures |= found
        perception.heads = heads
        return {"heads_loss": loss} | figures


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm fit-tokenizer` command."""
    return cli.run(FitTokenizer, "fit-tokenizer", argv)


if __name__ == "__main__":
    sys.exit(main())
