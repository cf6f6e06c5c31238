"""How do others get a bundle? `cosmos-wm push BUNDLE hf://owner/name --license mit` puts it on the Hugging Face hub."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer
from cosmos_isaac_wm.reporting.hub_card import write_hub_card
from cosmos_isaac_wm.storage.bundle import find_bundle, seal, verify
from cosmos_isaac_wm.storage.hub import KEPT, parsed, upload
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Push:
    """Publish a bundle on the Hugging Face hub, from where `world_model="hf://owner/name"` loads it.

    Its files are held to their checksums and it is loaded before. What is pushed is safetensors, YAML, JSON, recorded
    episodes and pictures. The page there shows its model card, a dream, and what the hub sorts by. A second push to the
    same name is a new revision; "hf://owner/name@revision" goes on to load an earlier one. Log in with `hf auth login`
    or set HF_TOKEN.

    Attributes:
        bundle: A folder, or a shipped bundle's name.
        to: "hf://owner/name"; created when it is not there.
        license: Under which others may use the weights, by the hub's name for it: "mit", "apache-2.0", "cc-by-4.0", ...
        private: Create it for its owner only.
        message: Of the commit there.
        seed: Not used; every command takes it.
    """

    bundle: str
    to: str
    license: str
    private: bool = False
    message: str = "A world model bundle"
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Push it; how many files and bytes."""
        parsed(self.to)  # before anything is read
        folder = find_bundle(self.bundle)
        verify(folder)
        model = WorldModel.load(folder, "cpu")
        if not isinstance(model.perception.tokenizer, TinyTokenizer):
            raise BundleError(
                f"{folder} sees through NVIDIA's Cosmos tokenizer, whose files are not in it and are programs, which "
                "are never loaded from the hub: nobody could use the bundle there"
            )
        with tempfile.TemporaryDirectory() as temporary:
            staged = Path(temporary) / "bundle"
            copied(folder, staged)
            beside = tuple(sorted(path.name for path in staged.glob("*.png")))
            write_hub_card(staged, model, self.to, self.license, beside)
            seal(staged)
            commit = upload(staged, self.to, self.message, self.private)
            sizes = [path.stat().st_size for path in staged.rglob("*") if path.is_file()]
        print(f'{len(sizes)} files are {self.to}@{commit[:12]}; load them with WorldModel.load("{self.to}@{commit}")')
        return {"files": float(len(sizes)), "bytes": float(sum(sizes))}


def copied(folder: Path, target: Path) -> None:
    """Copy what is pushed of a bundle; checksums of the whole are made anew, those of folders in it stay true.

    Raises:
        BundleError: If a folder in it has checksums of files that would stay behind.
    """
    for pattern in KEPT:
        for path in sorted(folder.rglob(pattern)):
            if path.is_file():
                (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / path.relative_to(folder))
    (target / "SHA256SUMS").unlink(missing_ok=True)
    verify(target)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm push` command; bundle and name may stand first, without `--bundle` and `--to`."""
    return cli.run(Push, "push", cli.first_as(("--bundle", "--to"), argv))


if __name__ == "__main__":
    sys.exit(main())
