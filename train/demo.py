"""Replay held-out episodes in the dream, play the shipped agent in both worlds, and show it: `cosmos-wm demo`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_isaac_wm.envs import RealEnv
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.evaluation.evaluation import draw_episodes, evaluate
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.transfer import draw_starts
from cosmos_isaac_wm.reporting.figures import film, typical
from cosmos_isaac_wm.reporting.replay import CSV_NAME, track_rows, write_csv, write_outputs
from cosmos_isaac_wm.reporting.report import error_table, write_html
from cosmos_isaac_wm.sims.mujoco import OpenGLError
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.transfer import film as film_both
from cosmos_isaac_wm.train.transfer import play_both
from cosmos_isaac_wm.world_model import WorldModel


def run(
    out: Path = Path("demo-out"),
    world_model: str = "default",
    episodes: int | None = None,
    agent_episodes: int = 20,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, float]:
    """Replay a bundle's held-out episodes and write report, video and log (short: an interrupted run starts over).

    Args:
        out: Folder to write to; files of an earlier demo are replaced.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        episodes: How many of the shipped test episodes to replay; all when not given.
        agent_episodes: How many episodes the shipped agent plays in both worlds; none without OpenGL for the real one.
        seed: Seed of the choice of episodes, the floor's noise and the bootstrap.
        device: "auto", "cpu" or "cuda".
    """
    model = WorldModel.load(world_model, device)
    dataset = model.held_out()
    evaluation = evaluate(model, dataset, draw_episodes(dataset, "test", episodes, seed), seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / CSV_NAME, (row for track in evaluation.tracks for row in track_rows(model.scene, track)))
    write_outputs(out, evaluation, film(model, dataset, evaluation, typical(evaluation)))
    chosen = "" if episodes is None else f" --episodes {episodes}"
    command = f"cosmos-wm demo --world-model {world_model} --seed {seed}{chosen} --agent-episodes {agent_episodes}"
    (out / "agent.mp4").unlink(missing_ok=True)  # of an earlier demo, perhaps of another bundle's agent
    agent = play_agent(model, out, agent_episodes, seed)
    report = write_html(out, evaluation, model, dataset, command, agent)
    print(f"\n{error_table(evaluation)}\n\nreport: {report.resolve()}\nbeside it:")
    for path in sorted(path for path in out.iterdir() if path != report):
        print(f"  {path.name}")
    played = {} if agent is None else {f"agent_{world}_success": agent[world][0] for world in ("dream", "real")}
    return evaluation.numbers() | played


def play_agent(model: WorldModel, out: Path, episodes: int, seed: int) -> dict[str, Any] | None:
    """Play the agent that is shipped with a bundle in the dream and a simulator, and film it; None if it cannot be."""
    if not episodes or model.path is None or not (model.path / "agent").is_dir():
        return None
    try:
        agent = Agent.load(model.path / "agent")
        if agent.trained.get("env") != "CosmosDream-v0":
            raise ValueError("it was not trained in the dream")
        env = RealEnv(model)
        starts = draw_starts(env, episodes, seed)
        env.close()
    except (OpenGLError, ImportError, ValueError) as error:
        print(f"the agent was not played in the real simulator: {error}", file=sys.stderr)
        return None
    row = play_both("agent", agent, model, own_simulator(model), starts, seed)
    film_both(out / "agent.mp4", agent, f"{agent.algorithm} agent", model, own_simulator(model), starts[0], seed)
    return {
        "algorithm": agent.algorithm.upper(),
        "steps": agent.trained["steps"],
        "episodes": episodes,
        "goal_cm": 100 * model.scene.goal_radius,
        **{
            world: (played.rate, *played.rate_interval())
            for world, played in (("dream", row.dream), ("real", row.real))
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm demo` command."""
    return cli.run(run, "demo", argv)


if __name__ == "__main__":
    sys.exit(main())
