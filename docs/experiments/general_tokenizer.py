r"""How did the shipped tokenizer `general` learn, and how well does it see a world that it has never seen?

    pip install "gymnasium[classic-control]" && pip install --no-deps gym-pusht "pymunk<7" shapely
    python docs/experiments/general_tokenizer.py OUT --minutes 42
    python docs/experiments/general_tokenizer.py OUT --judge

Repeated, it goes on where it was. Worlds are recorded in several sizes, so that objects are of several sizes.
Isaac's pictures are those that the shipped bundle brings to begin dreams with, as its tokenizer draws them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np
import torch

from cosmos_isaac_wm.data.dataset import EpisodeDataset
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer
from cosmos_isaac_wm.scene import Scene
from cosmos_isaac_wm.storage.bundle import find_perception, seal
from cosmos_isaac_wm.storage.weights import save_tensors
from cosmos_isaac_wm.train.collect import Collect
from cosmos_isaac_wm.train.fit_tokenizer import FitTokenizer
from cosmos_isaac_wm.train.import_isaac import ImportIsaac
from cosmos_isaac_wm.training.heads import HeadsFitConfig
from cosmos_isaac_wm.training.round_trip import round_trip
from cosmos_isaac_wm.training.statistics import latent_statistics
from cosmos_isaac_wm.training.tokenizer import TokenizerFitConfig, fit_tokenizer
from cosmos_isaac_wm.world_model import WorldModel

PUSHT = "pusht_twin:PushTRelative-v0"
LEARNED = (  # environment, rows of its pictures, episodes
    ("table", 128, 60),
    ("Pendulum-v1", 96, 150),
    ("CartPole-v1", 96, 300),
    ("Reacher-v5", 96, 150),
    ("Reacher-v5", 64, 60),
    (PUSHT, 96, 100),
    (PUSHT, 64, 40),
    ("MountainCar-v0", 64, 30),
    ("Hopper-v5", 128, 40),
    ("Ant-v5", 96, 40),
    ("InvertedDoublePendulum-v5", 64, 40),
)
UNSEEN = (("Acrobot-v1", 96, 20), ("Pusher-v5", 96, 20), ("HalfCheetah-v5", 96, 20))
AGAIN = (PUSHT, 96, 30)  # another recording of a world that it knows


def recorded(out: Path, env: str, rows: int, episodes: int, seed: int) -> EpisodeDataset:
    """A recording of one world, made if it is not there."""
    folder = out / f"{env.split(':')[-1]}-{rows}-{seed}"
    if env == "table":
        Collect(folder, episodes, size=rows, workers=1, seed=seed).run()
    else:
        policy = "pusht_twin:pusher" if env == PUSHT else None
        Collect(folder, episodes, env=env, policy=policy, size=rows, steps=100, workers=1, seed=seed).run()
    return EpisodeDataset(folder)


def of_isaac(out: Path) -> EpisodeDataset:
    """What Isaac Lab's table looks like, from what the bundle of that name begins dreams with."""
    model, file = WorldModel.load("isaac"), out / "isaac.hdf5"
    if not (out / "isaac").exists():
        with h5py.File(file, "w") as written:
            for index, latents in enumerate(model.contexts.latents):
                frames = model.perception.decode(latents).numpy()
                written[f"data/demo_{index}/obs/rgb"] = frames
                written[f"data/demo_{index}/actions"] = np.zeros((len(frames), 2), np.float32)
        ImportIsaac(file, out / "isaac").run()
    return EpisodeDataset(out / "isaac")


def learn(out: Path, minutes: float, recoloured: float) -> None:
    """Fit it, and write it as it is shipped: weights in half precision, which `load` makes whole again."""
    datasets = [*(recorded(out, *world, seed=7) for world in LEARNED), of_isaac(out)]
    torch.manual_seed(0)
    model = TinyTokenizer()
    model.load_state_dict(Perception.load(find_perception("default")).tokenizer.state_dict())
    recipe = TokenizerFitConfig(updates=100_000, minutes=minutes, recoloured=recoloured)
    fit_tokenizer(model, datasets, out, recipe, seed=0, device="cpu")
    model.half().float().eval().requires_grad_(False)
    perception = Perception(Scene("general", 30.0, (128, 128), (-1.0,), (1.0,)), model)
    perception.mean, perception.std = (each.half().float() for each in latent_statistics(datasets, perception))
    perception.save(out / "general")
    state = {name: tensor.half() for name, tensor in perception.state_dict().items()}
    save_tensors(out / "general" / "perception.safetensors", state)
    seal(out / "general")


def judge(out: Path) -> None:
    """Decibels of held-out pictures before anything is learned, and after 300 updates, beside the table's tokenizer."""
    print("| world | before: default | general | 300 updates from: default | general |\n|---|---|---|---|---|")
    recipe, heads = TokenizerFitConfig(updates=300), HeadsFitConfig(updates=1)  # heads are not judged here
    for world in (AGAIN, *UNSEEN):
        data = recorded(out, *world, seed=8)
        begun, after = [], []
        for name in ("default", str(out / "general")):
            theirs = Perception.load(find_perception(name)).tokenizer
            begun.append(round_trip(Perception(data.scene, theirs), [data]).figures["round_trip_db"])
            folder = out / f"{data.path.name}-from-{Path(name).name}"
            fit = FitTokenizer(data.path, folder, pretrained=name, fit=recipe, heads=heads)
            after.append(fit.run()["round_trip_db"])
        print(f"| {data.path.name} | " + " | ".join(f"{value:.1f}" for value in (*begun, *after)) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=42.0)
    parser.add_argument("--recoloured", type=float, default=0.5)
    parser.add_argument("--judge", action="store_true")
    options = parser.parse_args()
    if options.judge:
        judge(options.out)
    else:
        learn(options.out, options.minutes, options.recoloured)
