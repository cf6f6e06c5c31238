"""What belongs together in a world model? Perception, dynamics, real start contexts, and how it was made: a bundle.

config.yaml              dynamics type and shape, provenance (config, seed, versions, data fingerprint)
perception.yaml, .safetensors    scene, tokenizer, latent statistics, readout
dynamics.safetensors     weights
contexts.safetensors     real contexts to start dreams from, with the simulator state of their last frame
error_bound.safetensors  how far dreams may be off, where that was learned
metrics.json, README.md  figures on held-out episodes, and the model card made from them
episodes/                held-out episodes (Minari), in shipped bundles
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .borders import ours, own_draws
from .contexts import Contexts
from .data.dataset import EpisodeDataset
from .dynamics import DYNAMICS, DynamicsNetwork
from .dynamics.network import observed_of
from .error_bound import FILE, ErrorBound, ErrorBoundConfig
from .perception import BundleError, Perception
from .perception.readout import Located
from .precision import choose_device
from .scene import Scene
from .storage.atomic import replacing_folder, write
from .storage.bundle import find_bundle, part, seal
from .storage.paths import user_path
from .storage.structured import as_yaml, read, shaped
from .storage.weights import fingerprint, load_weights, must_be_buildable, save_tensors
from .training.verdict import Verdict

FORMAT = 1


class WorldModel(nn.Module):
    """A learned simulator: encode real frames, step the dynamics in latent space, decode and locate.

    Args:
        perception: Tokenizer, latent statistics and readout.
        dynamics: A model behind the `Dynamics` contract, of a class in `cosmos_isaac_wm.dynamics.DYNAMICS`.
        contexts: Real starts.
        provenance: How it was made; JSON values.
        metrics: Figures on held-out episodes.
        verdict: What its validation says of it; None where that was not judged.
        error_bound: How far its dreams may be off; None where that was not learned.

    Attributes:
        path: The folder it was loaded from, or None.
        name: What it was loaded by, a shipped name or a folder, or None.
    """

    def __init__(
        self,
        perception: Perception,
        dynamics: DynamicsNetwork,
        contexts: Contexts,
        provenance: dict[str, Any] | None = None,
        metrics: dict[str, float] | None = None,
        verdict: Verdict | None = None,
        error_bound: ErrorBound | None = None,
    ):
        super().__init__()
        self.perception, self.contexts = perception, contexts
        self.dynamics, self.error_bound = dynamics, error_bound
        self.provenance, self.metrics, self.verdict = provenance or {}, metrics or {}, verdict
        self.path: Path | None = None
        self.name: str | None = None
        scene = perception.scene
        if dynamics.channels != perception.tokenizer.channels:
            raise BundleError(
                f"the dynamics has {dynamics.channels} latent channels, the tokenizer {perception.tokenizer.channels}"
            )
        tells = 0 if perception.heads is None else perception.heads.tells
        if observed_of(dynamics) not in (0, tells):
            raise BundleError(
                f"the dynamics is told {observed_of(dynamics)} observed components, the heads tell {tells}"
            )
        if dynamics.action_dim not in (0, scene.action_dim):
            raise BundleError(
                f"the dynamics takes {dynamics.action_dim} action dimensions, the scene has {scene.action_dim}"
            )
        expected = (dynamics.context_length, *perception.latent_shape)
        if tuple(contexts.latents.shape[1:]) != expected:
            raise BundleError(
                f"the start contexts have latents of shape {tuple(contexts.latents.shape[1:])}, expected {expected}"
            )

    def train(self, mode: bool = True) -> WorldModel:
        """Stay as it is: a bundle dreams, without dropout, also as a part of something that is being trained.

        To train its dynamics call `train` on that.
        """
        return super().train(False)

    @property
    def scene(self) -> Scene:
        """What the bundle's data says about its world."""
        return self.perception.scene

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.perception.device

    def encode(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 frames (B, H, W, 3) to normalised latents (B, C, h, w)."""
        return self.perception.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B, C, h, w) to uint8 frames (B, H, W, 3)."""
        return self.perception.decode(latents)

    @ours
    def locate(self, latents: Tensor) -> Located:
        """Positions in metres of the scene's markers, in order."""
        return self.perception.locate(latents)

    def fingerprint(self) -> str:
        """A hash of all weights that dream; what is thought of dreams changes none."""
        return fingerprint(nn.ModuleDict({"perception": self.perception, "dynamics": self.dynamics}))

    def held_out(self) -> EpisodeDataset:
        """The held-out episodes shipped with the bundle.

        Raises:
            BundleError: If it has none.
        """
        if self.path is None or not (self.path / "episodes").is_dir():
            raise BundleError(
                f"{self.path or 'this world model'} ships no held-out episodes; pass a dataset with --data"
            )
        return EpisodeDataset(self.path / "episodes")

    def save(self, folder: str | os.PathLike[str], beside: Callable[[Path], object] = lambda folder: None) -> Path:
        """Write the bundle, all or nothing.

        Args:
            folder: Of the bundle.
            beside: Puts further files, such as held-out episodes, into the folder that it is given before that takes
                its name.

        Raises:
            FileExistsError: If the folder exists: a bundle is never overwritten.
        """
        folder = user_path(folder).absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(
                f"{folder} exists and is not empty; a bundle is never overwritten, choose another name"
            )
        with replacing_folder(folder) as temporary:
            self.perception.save(temporary)
            save_tensors(temporary / "dynamics.safetensors", self.dynamics.state_dict())
            self.contexts.save(temporary / "contexts.safetensors")
            bound = self.error_bound
            if bound is not None:
                save_tensors(temporary / FILE, bound.state_dict())
            kind = next(name for name, (cls, _) in DYNAMICS.items() if type(self.dynamics) is cls)
            config = {
                "format": FORMAT,
                "package_version": version("cosmos-isaac-wm"),
                "dynamics": {"type": kind, "config": dataclasses.asdict(self.dynamics.config)},
                "verdict": None if self.verdict is None else dataclasses.asdict(self.verdict),
                "error_bound": None if bound is None else dataclasses.asdict(bound.config),
                "provenance": self.provenance,
            }
            write(temporary / "config.yaml", as_yaml(config))
            self._write_metrics(temporary)
            beside(temporary)
            seal(temporary)
        self.path, self.name = folder, os.fspath(folder)
        return folder

    def save_metrics(self) -> None:
        """Write the figures, and the model card made from them, into the bundle's folder, all of it in one step.

        Raises:
            BundleError: If it is in no folder.
        """
        if self.path is None:
            raise BundleError("the world model is in no folder yet; save it first")
        with replacing_folder(self.path, keep=True) as temporary:
            self._write_metrics(temporary)
            seal(temporary)

    def _write_metrics(self, folder: Path) -> None:
        write(folder / "metrics.json", json.dumps(self.metrics, indent=2) + "\n")
        write(folder / "README.md", model_card(self))

    @classmethod
    @ours
    def load(cls, name: str | os.PathLike[str] = "default", device: str | torch.device = "auto") -> WorldModel:
        """Load a bundle.

        Args:
            name: A shipped bundle ("default", of MuJoCo's pictures, "isaac", of Isaac Lab's, or "pendulum", a twin), a
                folder, or "hf://owner/repository" on the Hugging Face hub, "hf://owner/repository@revision" to pin one.
            device: "auto" takes a GPU if there is one.

        Raises:
            BundleError: If there is no such bundle, or it is damaged, or its parts do not fit together.
        """
        folder = find_bundle(name)
        described = read(folder / "config.yaml", _Described, BundleError, part(folder, "config.yaml"))
        if described.format != FORMAT:
            raise BundleError(f"{folder} has bundle format {described.format}; this version reads format {FORMAT}")
        model = cls(
            Perception.load(folder),
            _dynamics(described.dynamics, folder),
            Contexts.load(folder),
            described.provenance,
            read(folder / "metrics.json", dict[str, float], BundleError, part(folder, "metrics.json")),
            described.verdict,
            None if described.error_bound is None else ErrorBound.load(described.error_bound, folder),
        )
        folder = folder.absolute()
        model.path, model.name = folder, str(folder) if user_path(name).is_dir() else os.fspath(name)
        return model.eval().requires_grad_(False).to(choose_device(device))


@dataclass
class _Network:
    """A dynamics network as config.yaml describes it."""

    type: str
    config: dict[str, Any]


@dataclass
class _Described:
    """What config.yaml holds. Provenance is written last: without it, what stands before may have lost keys as well."""

    format: int
    dynamics: _Network
    provenance: dict[str, Any]
    package_version: str = ""
    verdict: Verdict | None = None
    error_bound: ErrorBoundConfig | None = None


def _dynamics(described: _Network, folder: Path) -> DynamicsNetwork:
    """The network of a bundle."""
    where = f"{folder}/config.yaml"
    if described.type not in DYNAMICS:
        raise BundleError(f"{where}: unknown dynamics {described.type!r}; expected one of {sorted(DYNAMICS)}")
    model_class, config_class = DYNAMICS[described.type]
    config = shaped(described.config, config_class, f"{where}, dynamics", BundleError)
    try:
        must_be_buildable(config, lambda: model_class(config), folder / "dynamics.safetensors")
        with own_draws():
            dynamics = model_class(config).float()
    except ValueError as error:
        raise BundleError(f"{where} describes no dynamics: {error}") from error
    load_weights(dynamics, folder, "dynamics.safetensors")
    dynamics.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return dynamics


def model_card(model: WorldModel, name: str = "this/folder") -> str:
    """The README of a bundle that loads by a name, from its real figures."""
    parameters = sum(p.numel() for p in model.dynamics.parameters())
    lines = [
        f"# World model of {model.scene.name}",
        "",
        f"Dynamics `{type(model.dynamics).__name__}` with {parameters:,} parameters, context of "
        f"{model.dynamics.context_length} latents of shape {model.perception.latent_shape}, "
        f"{model.scene.action_dim} action dimensions at {model.scene.control_hz:g} Hz.",
        "",
        f'```python\nmodel = WorldModel.load("{name}")\ngym.make("CosmosDream-v0", world_model="{name}")\n```',
        "",
        "## How it was made",
        "",
        *(f"- {key}: `{value}`" for key, value in model.provenance.items()),
        "",
        "## Figures",
        "",
    ]
    if model.verdict is not None:
        lines += [f"On validation episodes: {model.verdict.words()}.", ""]
    if model.metrics:
        lines += ["Pixels are at 512 scale.", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value:.4g} |" for key, value in model.metrics.items()]
    else:
        lines += [f"Not evaluated yet: `cosmos-wm evaluate --world-model {name} --data DIR`."]
    return "\n".join(lines) + "\n"
