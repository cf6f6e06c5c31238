"""What can the shipped bundle do? `cosmos-wm demo` replays held-out episodes, plays its agent, and shows a report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from tqdm import tqdm

from cosmos_isaac_wm.data.dataset import EpisodeDataset
from cosmos_isaac_wm.envs import RealEnv
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.evaluation.evaluation import draw_episodes, evaluate
from cosmos_isaac_wm.evaluation.open_loop import first_dreamed
from cosmos_isaac_wm.evaluation.trust import doubted, trust_figures
from cosmos_isaac_wm.evaluation.twins import twin_figures, twin_lines
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.transfer import Worlds, draw_starts, play_both
from cosmos_isaac_wm.policies.transfer import film as film_both
from cosmos_isaac_wm.policies.transfer.twins import TWINS, play_twin
from cosmos_isaac_wm.reporting.figures import film, typical
from cosmos_isaac_wm.reporting.log import CSV_NAME, track_rows, write_csv
from cosmos_isaac_wm.reporting.report import write_html, write_outputs
from cosmos_isaac_wm.reporting.table import error_table
from cosmos_isaac_wm.reporting.trust import draw_trust
from cosmos_isaac_wm.reporting.twins import replay, write_report
from cosmos_isaac_wm.sims.mujoco import OpenGLError
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Demo:
    """Replay a bundle's held-out episodes and write report, video and log (short: an interrupted run starts over).

    Attributes:
        out: Folder to write to; files of an earlier demo are replaced.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        episodes: How many of the shipped test episodes to replay; all when not given.
        agent_episodes: How many episodes the shipped agent plays in both worlds; none without OpenGL for the real one.
        seed: Seed of the choice of episodes, the floor's noise and the bootstrap.
        device: "auto", "cpu" or "cuda".
    """

    out: Path = Path("demo-out")
    world_model: str = "default"
    episodes: int | None = None
    agent_episodes: int = 20
    seed: int = 0
    device: str = "auto"

    def run(self) -> dict[str, float]:
        """Replay, play and show; the figures of the report."""
        model = WorldModel.load(self.world_model, self.device)
        dataset = model.held_out()
        chosen = draw_episodes(dataset, "test", self.episodes, self.seed, first_dreamed(model) + 1)
        if model.perception.heads is not None:
            return self._show_twin(model, dataset, chosen)
        evaluation = evaluate(model, dataset, chosen, seed=self.seed)
        self.out.mkdir(parents=True, exist_ok=True)
        write_csv(self.out / CSV_NAME, (row for track in evaluation.tracks for row in track_rows(model.scene, track)))
        write_outputs(self.out, evaluation, film(model, dataset, evaluation, typical(evaluation)))
        (self.out / "agent.mp4").unlink(missing_ok=True)  # of an earlier demo, perhaps of another bundle's agent
        agent = self._play_agent(model)
        trust = self._doubt(model, dataset, chosen)
        report = write_html(self.out, evaluation, model, dataset, self._command, agent, trust)
        print(f"\n{error_table(evaluation)}")
        self._list(report)
        played = {} if agent is None else {f"agent_{world}_success": agent[world][0] for world in ("dream", "real")}
        return evaluation.numbers() | trust | played

    def _show_twin(self, model: WorldModel, dataset: EpisodeDataset, chosen: Sequence[int]) -> dict[str, float]:
        """The same of the twin of a foreign environment."""
        figures = twin_figures(model, dataset, chosen)
        replays = [replay(model, dataset[index], index) for index in tqdm(chosen, desc="replay", unit="episode")]
        self.out.mkdir(parents=True, exist_ok=True)
        played = self._play_twin(model)
        trust = self._doubt(model, dataset, chosen)
        report = write_report(self.out, model, dataset, replays, figures, self._command, played, trust)
        print(f"\n{twin_lines(figures)}")
        self._list(report)
        earned = {} if played is None else {f"agent_{world}_return": played[world][0] for world in TWINS}
        return figures | trust | earned

    def _doubt(self, model: WorldModel, dataset: EpisodeDataset, chosen: Sequence[int]) -> dict[str, float]:
        """Show what the dream says of its own error; nothing where it says nothing."""
        (self.out / "trust.png").unlink(missing_ok=True)  # of an earlier demo
        doubts = doubted(model, dataset, chosen)
        if model.error_bound is None or not doubts:
            return {}
        unit = "metres" if model.perception.heads is None else "standard deviations"
        draw_trust(self.out / "trust.png", model.error_bound, doubts, unit)
        return trust_figures(model.error_bound, doubts)

    def _play_twin(self, model: WorldModel) -> dict[str, Any] | None:
        """Play the agent that is shipped with a twin in it and in the environment; None if it cannot be."""
        if not self.agent_episodes or model.path is None or not (model.path / "agent").is_dir():
            return None
        name, agent = str(model.path / "agent"), Agent.load(model.path / "agent")
        try:
            earned = {world: play_twin(world, name, model, None, self.agent_episodes, self.seed) for world in TWINS}
        except (OpenGLError, ImportError, ValueError, gym.error.Error) as error:
            print(f"the agent was not played in the environment: {error}", file=sys.stderr)
            return None
        told = {"algorithm": agent.algorithm.upper(), "steps": agent.trained["steps"], "episodes": self.agent_episodes}
        return told | {world: (each.mean, *each.interval()) for world, each in earned.items()}

    def _list(self, report: Path) -> None:
        """Say where everything is."""
        print(f"\nreport: {report.resolve()}\nbeside it:")
        for path in sorted(path for path in self.out.iterdir() if path != report):
            print(f"  {path.name}")

    @property
    def _command(self) -> str:
        """What to type to see the same again."""
        chosen = "" if self.episodes is None else f" --episodes {self.episodes}"
        options = f"--world-model {self.world_model} --seed {self.seed}{chosen}"
        return f"cosmos-wm demo {options} --agent-episodes {self.agent_episodes}"

    def _play_agent(self, model: WorldModel) -> dict[str, Any] | None:
        """Play the agent that is shipped with the bundle in both worlds, and film it; None if it cannot be."""
        if not self.agent_episodes or model.path is None or not (model.path / "agent").is_dir():
            return None
        try:
            agent = Agent.load(model.path / "agent")
            if agent.trained.get("env") != "CosmosDream-v0":
                raise ValueError("it was not trained in the dream")
            env = RealEnv(model)
            starts = draw_starts(env, self.agent_episodes, self.seed)
            env.close()
        except (OpenGLError, ImportError, ValueError) as error:
            print(f"the agent was not played in the real simulator: {error}", file=sys.stderr)
            return None
        worlds = Worlds(model, own_simulator(model))
        row = play_both("agent", agent, worlds, starts, self.seed)
        film_both(self.out / "agent.mp4", f"{agent.algorithm} agent", agent, worlds, starts[0], self.seed)
        return {
            "algorithm": agent.algorithm.upper(),
            "steps": agent.trained["steps"],
            "episodes": self.agent_episodes,
            "goal_cm": 100 * model.scene.goal_radius,
            "dream": (row.dream.rate, *row.dream.rate_interval()),
            "real": (row.real.rate, *row.real.rate_interval()),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm demo` command."""
    return cli.run(Demo, "demo", argv)


if __name__ == "__main__":
    sys.exit(main())
