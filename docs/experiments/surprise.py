"""Are recordings of the world that a bundle knows? How much other frictions, masses, lamps surprise its dynamics.

python docs/experiments/surprise.py [BUNDLE]

Fourteen episodes of sixty steps of every kind and world; after each real frame one step is dreamed, and read, and held
against what is read in the next real frame. Prints how often an episode of another world surprises more (AUROC).
"""

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from cosmos_isaac_wm import WorldModel
from cosmos_isaac_wm.policies.scripted import ExploringPusher
from cosmos_isaac_wm.sims.mujoco import MujocoTable

EPISODES, STEPS, FIRST_SEED, MOVES = 14, 60, 5000, 3e-3
SHIFTS = ("none", "friction x 0.5", "friction x 2", "mass x 2", "delay", "lamp")


def record(kind: str, seed: int, shift: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames and actions of an episode in another world."""
    table = MujocoTable(kind)
    if shift.startswith("friction"):
        table.model.geom_friction[:, 0] *= float(shift.split()[-1])
    elif shift == "mass x 2":
        cube = table.model.body("cube").id
        table.model.body_mass[cube] *= 2
        table.model.body_inertia[cube] *= 2
    elif shift == "lamp":
        table.model.light_pos[:, 0] += 0.8
    table.reset(seed)
    pusher, before = ExploringPusher(seed), np.zeros(2, np.float32)
    frames, actions = [table.render()], []
    for _ in range(STEPS):
        action = pusher(table.positions()) if kind == "push" else np.zeros(2, np.float32)
        table.step(before if shift == "delay" else action)
        actions.append(action)
        frames.append(table.render())
        before = action
    return np.stack(frames), np.stack(actions)


def surprise(model: WorldModel, frames: NDArray[np.uint8], actions: NDArray[np.float32]) -> tuple[float, float]:
    """Mean distance, in metres, of a step's dream from what is seen: of the object where it moves, and of the agent."""
    latents, length = model.encode(frames), model.dynamics.context_length
    scaled = model.perception.scale_actions(torch.from_numpy(actions))
    contexts = torch.stack([latents[t - length + 1 : t + 1] for t in range(length - 1, len(latents) - 1)])
    with torch.no_grad():
        dreamed = model.locate(model.dynamics(contexts, scaled[length - 1 :]).latent).positions
        seen = model.locate(latents[length - 1 :]).positions
    off = (dreamed - seen[1:]).norm(dim=-1)
    moves = seen.diff(dim=0)[:, 0].norm(dim=-1) > MOVES
    return float(off[moves, 0].mean()), float(off[:, 1].mean())


if __name__ == "__main__":
    model = WorldModel.load(sys.argv[1] if len(sys.argv) > 1 else "default", "cpu")
    for kind in ("push", "slide"):
        usual = None
        for shift in SHIFTS if kind == "push" else [each for each in SHIFTS if each != "delay"]:
            rows = np.array([surprise(model, *record(kind, FIRST_SEED + i, shift)) for i in range(EPISODES)])
            if usual is None:
                usual = rows
                continue
            shares = []
            for own, other in zip(rows.T, usual.T, strict=True):
                own, other = own[np.isfinite(own)], other[np.isfinite(other)]
                shares.append(mannwhitneyu(own, other).statistic / (len(own) * len(other)))
            print(f"{kind}, {shift}: object {shares[0]:.2f}, agent {shares[1]:.2f}", flush=True)
