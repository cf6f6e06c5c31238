"""Does it help to collect where dreams are least sure? Two such rounds beside two of any episodes, on a model of few.

    python -m tests.campaigns.doubt --out runs/doubt

For each seed a small model learns from 90 pushes, 72 of them in its train split. Two copies of it then get 45 more,
twice: any, or of 180 planned ones those whose dreams may be farthest off. All are judged on the same new pushes. A
killed campaign is repeated, and goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.campaigns.worlds import run

ARMS = {"any": 1, "doubted": 4}  # candidates for each episode
_SMALL = "--perception default --dynamics.width 32 --fit.updates 1000 --fit.validate_every 500"
_REFRESHED = (
    "--config refresh.yaml --fit.updates 500 --fit.validate_every 250 --ship_episodes 2 --cache ../begun/model.fit"
)
_BEGUN = f"""
    collect --kind push --episodes 90 --out data
    fit-dynamics {_SMALL} --ship_episodes 2 --data data --out model
    evaluate --world_model model --data ../../held_out --split all"""
_SHOWN = ("push_cube_rmse_px512", "push_over_floor", "push_cube_rmse_px512_at_32")


def _grown(seed: int, candidates: int) -> str:
    """The commands of two rounds that grow a model, from beside the folder that it was begun in."""
    model, data, lines = "../begun/model", ["../begun/data"], list[str]()
    for number in (1, 2):
        lines.append(
            f"collect --kind push --episodes 45 --candidates {candidates} --world_model {model} "
            f"--seed {1000 * number + seed} --out data{number}"
        )
        data.append(f"data{number}")
        lines.append(f"fit-dynamics {_REFRESHED} --init {model} --data [{','.join(data)}] --out model{number}")
        model = f"model{number}"
    return "\n".join([*lines, f"evaluate --world_model {model} --data ../../held_out --split all"])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.doubt", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True, help="folder of everything, continued if it is there")
    options = parser.parse_args()
    run("collect --kind push --episodes 60 --out held_out", 77, options.out, "held out")
    print("| seed | collected | " + " | ".join(_SHOWN) + " |")
    print("|---" * (len(_SHOWN) + 2) + "|")
    for seed in options.seeds:
        folder = options.out / str(seed)
        rows = {"nothing more": run(_BEGUN, seed, folder / "begun", "begun")}
        rows |= {arm: run(_grown(seed, count), seed, folder / arm, arm) for arm, count in ARMS.items()}
        for name, row in rows.items():
            print(f"| {seed} | {name} | " + " | ".join(f"{row[key]:.3g}" for key in _SHOWN) + " |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
