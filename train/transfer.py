"""Is what was learned in the dream true? `cosmos-wm transfer --policies '[default, random]'` plays in both worlds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_isaac_wm.envs import RealEnv
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.transfer import (
    BothWorlds,
    Played,
    Source,
    Start,
    Worlds,
    draw,
    draw_starts,
    film,
    play_both,
    table,
    transfer_figures,
)
from cosmos_isaac_wm.policies.transfer.sources import identity, known_goal
from cosmos_isaac_wm.sims import SimulatorName
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Transfer:
    """Play policies from the same starts and goals in the dream and in the real simulator, and compare.

    Writes `transfer.md` (the table), `transfer.png` (dream against real), `transfer.mp4` (one agent in both worlds)
    and, as they are finished, the episodes of each policy to OUT; what is there is not played again. Needs OpenGL.

    Attributes:
        policies: Folders of agents, as `cosmos-wm train-agent` leaves them, the name of a shipped one, "random",
            "scripted", or a planner: "cem", "icem", "mppi", "gradient". When not given, the bundle's own agent, random
            and scripted.
        out: Folder for everything.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        real: The real simulator, "mujoco", or "isaac-lab" inside of its environment (docs/isaac.md); the one that the
            bundle's data came from when not given.
        episodes: Of each policy in each world.
        filmed: The policy in the video; the first agent when not given.
        seed: Of starts and goals, random actions and planners.
    """

    policies: list[str] | None = None
    out: Path = Path("transfer-out")
    world_model: str = "default"
    real: SimulatorName | None = None
    episodes: int = 100
    filmed: str | None = None
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Play every policy that was not played before, and show how they do; its figures."""
        model = WorldModel.load(self.world_model)
        worlds = Worlds(model, self.real or own_simulator(model))
        sources = {name: worlds.find(name) for name in self._names(model)}  # a wrong name is an error now
        if self.filmed is not None and self.filmed not in sources:
            raise ValueError(f"--filmed {self.filmed} is none of the policies {[*sources]}")
        self.out.mkdir(parents=True, exist_ok=True)
        settings = {"world_model": model.fingerprint(), "episodes": self.episodes, "seed": self.seed}
        apart = {"real": worlds.simulator} if worlds.simulator != "mujoco" else {}
        cli.claim(self.out / "transfer.json", settings | apart)
        env = RealEnv(model, simulator=worlds.simulator)
        starts = draw_starts(env, self.episodes, self.seed)
        env.close()
        rows = {name: self._played(name, source, worlds, starts) for name, source in sources.items()}
        figures = transfer_figures(rows, sources)
        text = table(rows, figures)
        (self.out / "transfer.md").write_text(text + "\n")
        print(text)
        draw(self.out / "transfer.png", rows)
        self._film(sources, worlds, starts)
        print(f"\ntransfer.md, transfer.png and the episodes in {self.out.resolve()}")
        return figures

    def _names(self, model: WorldModel) -> list[str]:
        """Of the policies, each once."""
        own = [self.world_model] if model.path is not None and (model.path / "agent").is_dir() else []
        if not self.policies and not own:
            print(f"{self.world_model} has no agent of its own; --policies names others", file=sys.stderr)
        return list(dict.fromkeys(self.policies or [*own, "random", "scripted"]))

    def _played(self, name: str, source: Source, worlds: Worlds, starts: Sequence[Start]) -> BothWorlds:
        """Play a policy, or read what was played before."""
        known = identity(source)
        distinct = hashlib.sha256(known.encode()).hexdigest()[:8]
        file = self.out / f"episodes_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}_{distinct}.json"
        if file.is_file():
            held = json.loads(file.read_text())
            return BothWorlds(Played(**held["dream"]), Played(**held["real"]), held["steps_per_s"])
        row = play_both(name, source, worlds, starts, self.seed)
        cli.write_json(file, {"policy": known, **dataclasses.asdict(row)})
        return row

    def _film(self, sources: Mapping[str, Source], worlds: Worlds, starts: Sequence[Start]) -> None:
        """Film the policy that was asked for, or the first agent, if there is one."""
        agents = [name for name, source in sources.items() if isinstance(source, Agent)]
        for name in ([self.filmed] if self.filmed else agents)[:1]:
            start = known_goal(sources[name], starts)[0]
            film(self.out / "transfer.mp4", name, sources[name], worlds, start, self.seed)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm transfer` command."""
    return cli.run(Transfer, "transfer", argv)


if __name__ == "__main__":
    sys.exit(main())
