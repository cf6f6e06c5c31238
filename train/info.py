"""What does a bundle contain? `cosmos-wm info --world-model NAME` prints it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.error_bound import ErrorBoundConfig
from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.storage.bundle import find_bundle, seal, verify
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Info:
    """Print a bundle's scene, shapes, parameters, provenance, figures, start contexts and shipped episodes.

    Every file, and every shipped episode, is held to its checksum before.

    Attributes:
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        seal: Write the checksums anew, after a change of your own.
        seed: Not used; every command takes it.
    """

    world_model: str = "default"
    seal: bool = False
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Print it; its sizes and figures."""
        folder = find_bundle(self.world_model)
        if self.seal:
            seal(folder)
        verified = verify(folder)
        model = WorldModel.load(self.world_model, "cpu")
        shipped = _shipped(model)
        numbers = _sizes(model, shipped) | {"verified_files": verified}
        for title, entries in _sections(model, shipped, numbers).items():
            print(title)
            for key, value in entries.items():
                print(f"  {key:<32} {value}")
        return numbers | model.metrics


def _shipped(model: WorldModel) -> EpisodeDataset | None:
    """The held-out episodes of a bundle, if it has some."""
    try:
        return model.held_out()
    except BundleError:
        return None


def _sizes(model: WorldModel, shipped: EpisodeDataset | None) -> dict[str, float]:
    """What can be counted."""
    scene, perception = model.scene, model.perception
    channels, height, width = perception.latent_shape
    numbers: dict[str, float] = {
        "dynamics_parameters": _parameters(model.dynamics),
        "tokenizer_parameters": _parameters(perception.tokenizer),
        "readout_parameters": _parameters(perception.readout) if perception.readout is not None else 0,
        "heads_parameters": _parameters(perception.heads) if perception.heads is not None else 0,
        "latent_channels": channels,
        "latent_height": height,
        "latent_width": width,
        "context_length": model.dynamics.context_length,
        "action_dim": scene.action_dim,
        "control_hz": scene.control_hz,
        "contexts": len(model.contexts),
    }
    return numbers | ({} if shipped is None else {"shipped_episodes": len(shipped)})


def _sections(
    model: WorldModel, shipped: EpisodeDataset | None, numbers: Mapping[str, float]
) -> dict[str, dict[str, object]]:
    """What is printed: titles, and below each its lines."""
    scene, perception = model.scene, model.perception
    tokenizer = perception.tokenizer
    channels, height, width = perception.latent_shape
    return {
        "bundle": {
            "folder": model.path,
            "fingerprint": model.fingerprint(),
            "checksums": f"{numbers['verified_files']} files are as they were written"
            if numbers["verified_files"]
            else "none: this bundle is from before they were written",
            **model.provenance,
        },
        "scene": {
            "name": scene.name,
            "pictures": f"{scene.image_size[0]} x {scene.image_size[1]} at {scene.control_hz:g} Hz",
            "actions": f"{scene.action_dim}, from {list(scene.action_low)} to {list(scene.action_high)}",
            "tracked": ", ".join(scene.marker_names) or "nothing",
            "agent": scene.agent or "none",
            "environment": "none"
            if scene.environment is None
            else f"{scene.environment.id or 'recorded elsewhere'}, of which it is a twin",
        },
        "model": {
            "dynamics": f"{type(model.dynamics).__name__}, {numbers['dynamics_parameters']:,} parameters",
            "tokenizer": f"{type(tokenizer).__name__}, {numbers['tokenizer_parameters']:,} parameters, "
            f"fingerprint {tokenizer.fingerprint()}",
            "readout": f"{numbers['readout_parameters']:,} parameters" if perception.readout is not None else "none",
            "heads": "none"
            if perception.heads is None
            else f"{numbers['heads_parameters']:,} parameters, {perception.heads.config.observed} components of an "
            f"observation from {perception.heads.config.frames} frames",
            "error bound": "none: dreams do not say how far they may be off"
            if model.error_bound is None
            else f"scaled on {_counted(model.error_bound.config)} episodes of {model.error_bound.config.steps} steps",
            "context": f"{model.dynamics.context_length} latents of {channels} x {height} x {width}",
        },
        "data": {
            "start contexts": f"{len(model.contexts)}: {_counts(model.contexts.kinds)}",
            "held-out episodes": "none" if shipped is None else f"{len(shipped)}: {_counts(shipped.kinds)}",
        },
        "verdict": {"on validation episodes": "not judged" if model.verdict is None else model.verdict.words()},
        "figures (px at 512)": {key: f"{value:.4g}" for key, value in model.metrics.items()}
        or {"none": "not evaluated"},
    }


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _counted(config: ErrorBoundConfig) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in zip(config.kinds, config.counts, strict=True))


def _counts(kinds: Sequence[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm info` command."""
    return cli.run(Info, "info", argv)


if __name__ == "__main__":
    sys.exit(main())
