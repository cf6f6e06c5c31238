"""Show what a bundle contains: `cosmos-wm info --world-model NAME`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from torch import nn

from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


def run(world_model: str = "default", seed: int = 0) -> dict[str, float]:
    """Print a bundle's scene, shapes, parameters, provenance, figures, start contexts and shipped episodes.

    Args:
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        seed: Not used; every command takes it.
    """
    model = WorldModel.load(world_model, "cpu")
    scene, perception = model.scene, model.perception
    channels, height, width = perception.latent_shape
    numbers: dict[str, float] = {
        "dynamics_parameters": _parameters(model.dynamics),
        "tokenizer_parameters": _parameters(perception.tokenizer),
        "readout_parameters": _parameters(perception.readout) if perception.readout is not None else 0,
        "latent_channels": channels,
        "latent_height": height,
        "latent_width": width,
        "context_length": model.dynamics.context_length,
        "action_dim": scene.action_dim,
        "control_hz": scene.control_hz,
        "contexts": len(model.contexts),
    }
    try:
        shipped = model.held_out()
        numbers["shipped_episodes"] = len(shipped)
        kinds = f"{len(shipped)}: {_counts(shipped.kinds)}"
    except BundleError:
        kinds = "none"
    sections = {
        "bundle": {"folder": model.path, "fingerprint": model.fingerprint(), **model.provenance},
        "scene": {
            "name": scene.name,
            "pictures": f"{scene.image_size[0]} x {scene.image_size[1]} at {scene.control_hz:g} Hz",
            "actions": f"{scene.action_dim}, from {list(scene.action_low)} to {list(scene.action_high)}",
            "tracked": ", ".join(scene.marker_names) or "nothing",
            "agent": scene.agent or "none",
        },
        "model": {
            "dynamics": f"{type(model.dynamics).__name__}, {numbers['dynamics_parameters']:,} parameters",
            "tokenizer": f"{type(perception.tokenizer).__name__}, {numbers['tokenizer_parameters']:,} parameters, "
            f"fingerprint {perception.tokenizer.fingerprint()}",
            "readout": f"{numbers['readout_parameters']:,} parameters" if perception.readout is not None else "none",
            "context": f"{model.dynamics.context_length} latents of {channels} x {height} x {width}",
        },
        "data": {
            "start contexts": f"{len(model.contexts)}: {_counts(model.contexts.kinds)}",
            "held-out episodes": kinds,
        },
        "figures (px at 512)": {key: f"{value:.4g}" for key, value in model.metrics.items()}
        or {"none": "not evaluated"},
    }
    for title, entries in sections.items():
        print(title)
        for key, value in entries.items():
            print(f"  {key:<32} {value}")
    return numbers | model.metrics


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _counts(kinds: Sequence[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm info` command."""
    return cli.run(run, "info", argv)


if __name__ == "__main__":
    sys.exit(main())
