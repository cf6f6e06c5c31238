"""One process of a fit that several share: what `test_processes.py` launches, on the world of `test_dynamics.py`.

The options come as one JSON object, see `main`. Each process leaves weights or gradients in `found-RANK.safetensors`.
"""

import dataclasses
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.scene import TABLE
from cosmos_isaac_wm.storage import checkpoint
from cosmos_isaac_wm.training import dynamics, logbook, tokenizer
from cosmos_isaac_wm.training.processes import Processes

spec = importlib.util.spec_from_file_location("world", Path(__file__).with_name("test_dynamics.py"))
world = importlib.util.module_from_spec(spec)
spec.loader.exec_module(world)
RANK = int(os.environ.get("RANK", "0"))


def new_parts(config):
    """Arguments of a fit; the weights differ until the main process gives its own."""
    scene = dataclasses.replace(TABLE, name="toy", image_size=(32, 32), markers=TABLE.markers[:1], agent=None)
    eyes = TinyTokenizer(TinyTokenizerConfig(channels=2, widths=(8, 8), blocks=1))
    perception = Perception(scene, eyes, world.PositionReadout())
    torch.manual_seed(RANK)
    shape = world.ResNetRolloutConfig(channels=2, action_dim=2, width=16, blocks=1, dropout=0.0, blend=True)
    train, val = world.walk(6, kinds=("push", "slide")), world.walk(2, seed=1)
    recipe = dataclasses.replace(world.CONFIG, **config)
    return world.ResNetRollout(shape), perception, train, val, recipe


def watch(stop, die):
    """End before an update, or kill the second process there."""
    made, loss = iter(range(10**6)), dynamics.self_fed_loss

    def watched(*arguments):
        number = next(made)
        if number == die and RANK == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == stop:
            sys.exit()
        return loss(*arguments)

    dynamics.self_fed_loss = watched


def gradients_of(trainer, model):
    """Of three updates, in which the weights stay and dreams go on."""
    found = {}

    def note(set_to_none=True):
        for name, part in model.named_parameters():
            found[f"{len(found)} {name}"], part.grad = part.grad, None

    trainer._optimizer.step, trainer._optimizer.zero_grad = (lambda: None), note
    for number in range(3):
        trainer.update(number, number / 3)
    return found


def tokenizer_gradients(data, out):
    """As above, of a tokenizer that learns from a dataset."""
    torch.manual_seed(RANK)
    model = TinyTokenizer(TinyTokenizerConfig(widths=(8, 8), blocks=1))
    recipe = tokenizer.TokenizerFitConfig(updates=3, batch_size=6, crop=16, frames_per_episode=4, precision="fp32")
    return gradients_of(tokenizer._Trainer(model, [EpisodeDataset(data)], out, recipe, 0, Processes("cpu")), model)


def main(out, config, gradients=False, data=None, stop=-1, die=-1):
    """Fit, or note gradients.

    Args:
        out: Folder.
        config: Fields of the recipe.
        gradients: Note those of three updates, instead of fitting.
        data: A dataset: note the gradients of a tokenizer that learns from it.
        stop: End before this update.
        die: The second process is killed before this update.
    """
    model, *rest = new_parts(config)
    if RANK:
        checkpoint.replacing = None  # who writes nevertheless fails
    logbook.SAVED_EVERY = -1.0  # a checkpoint after every update
    watch(stop, die)
    if data is not None:
        found = tokenizer_gradients(data, Path(out))
    elif gradients:
        found = gradients_of(dynamics._Trainer(model, *rest, Path(out), 0, "cpu"), model)
    else:
        dynamics.fit_dynamics(model, *rest, Path(out), seed=0)
        found = model.state_dict()
    save_file({name: part.contiguous() for name, part in found.items()}, Path(out) / f"found-{RANK}.safetensors")


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    Path(options["out"]).mkdir(parents=True, exist_ok=True)
    main(**options)
