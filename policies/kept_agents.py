"""Which agents does a training leave? One of every evaluation, and the best of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from .agent import Agent
from .evaluations import best_of, read_evaluations


class KeptAgents:
    """The agents that a training leaves: `agents/STEPS` of every evaluation, and the best of them as `agent`.

    Args:
        out: Folder of the run.
        learner: Knows how many steps have been trained.
        agent: With the learner's policy; "steps" and "chosen" of `trained` are filled in when it is kept.
    """

    def __init__(self, out: Path, learner: BaseAlgorithm, agent: Agent):
        self._out, self._learner, self._agent = out, learner, agent

    def evaluated(self, best: bool) -> None:
        """Keep the agent as it is, also as the best one if it is that."""
        self._keep("checkpoint", self._out / "agents" / str(self._learner.num_timesteps))
        if best:
            self._keep("best", self._out / "agent")

    def finish(self) -> None:
        """Keep the agent where training was too short for an evaluation."""
        if not (self._out / "agent").is_dir():
            self._keep("best", self._out / "agent")

    def _keep(self, chosen: str, folder: Path) -> None:
        now = {"steps": self._learner.num_timesteps, "chosen": chosen}
        dataclasses.replace(self._agent, trained=self._agent.trained | now).save(folder)


def forget_after(out: Path, done: int) -> None:
    """Make the best agent that of an evaluation up to a checkpoint, if a later one was lost with what followed it.

    Args:
        out: Folder of the run.
        done: Steps of the checkpoint.
    """
    rows = read_evaluations(out / "evaluations.csv")
    known = [row for row in rows if row.timesteps <= done]
    if known and len(known) < len(rows):
        agent = Agent.load(out / "agents" / str(best_of(known).timesteps))
        agent.trained["chosen"] = "best"
        agent.save(out / "agent")
