"""Judges a dream of gym-pusht: 32 steps open loop on the test episodes, positions as the readout sees them.

python docs/experiments/judge_pusht.py runs/pusht data/pusht
"""

import sys

import numpy as np

from cosmos_isaac_wm import EpisodeDataset, WorldModel
from cosmos_isaac_wm.evaluation.open_loop import dream
from cosmos_isaac_wm.evaluation.perception_metrics import locate

STEPS, FIRST = 32, 4


def rmse(off: np.ndarray) -> float:
    """Root mean square of distances, in millimetres."""
    return 1000 * float(np.sqrt(np.mean(np.sum(off**2, axis=-1))))


if __name__ == "__main__":
    model, data = WorldModel.load(sys.argv[1]), EpisodeDataset(sys.argv[2])
    names, dreamed, still = model.scene.marker_names, [], []
    for episode in data.episodes(data.held_out("test", FIRST + STEPS)):
        places = episode.marker_positions(names)
        truth = places[FIRST : FIRST + STEPS]
        dreamed.append(locate(model, dream(model, [episode], STEPS)[0]) - truth)
        still.append(places[FIRST - 1] - truth)
    for index, name in enumerate(names):
        own, nothing = (rmse(np.stack(off)[:, :, index]) for off in (dreamed, still))
        print(f"{name}: {own:.1f} mm, a still picture {nothing:.1f} mm, ratio {own / nothing:.3f}")
