"""Is what was learned in the dream true? `cosmos-wm transfer --policies '[default, random]'` plays in both worlds."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cosmos_isaac_wm.envs import RealEnv
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.executors import Executor, Here, executor_for, nothing
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.env_recording import new_predict
from cosmos_isaac_wm.policies.recording import check_drawing
from cosmos_isaac_wm.policies.transfer import (
    BothWorlds,
    Played,
    Source,
    Start,
    Worlds,
    draw,
    draw_starts,
    film,
    play_all,
    table,
    transfer_figures,
)
from cosmos_isaac_wm.policies.transfer.claims import FEWEST_KNOWN
from cosmos_isaac_wm.policies.transfer.prediction_powered import FEWEST, must_be_installed
from cosmos_isaac_wm.policies.transfer.sources import CLEAR, identity, known_goal
from cosmos_isaac_wm.policies.transfer.twins import TWINS, Twins, new_world, play_twin, twin_figures, twin_table
from cosmos_isaac_wm.sims.tables import new_tables
from cosmos_isaac_wm.storage.atomic import write, write_json
from cosmos_isaac_wm.storage.lock import claim, holding
from cosmos_isaac_wm.storage.structured import read
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Transfer:
    """Play policies from the same starts and goals in the dream and in the real simulator, and compare.

    Writes `transfer.md` (the table), `transfer.png` (dream against real), `transfer.mp4` (one agent in both worlds)
    and, as they are finished, the episodes of each policy to OUT; what is there is not played again. Needs OpenGL.

    Attributes:
        policies: Folders of agents, as `cosmos-wm train-agent` leaves them, the name of a shipped one, "random",
            "scripted", a planner ("cem", "icem", "mppi", "gradient"), or "module:function", which is called with the
            environment and returns what has `predict`, or is called with observations. When not given, the bundle's own
            agent, random and scripted. A twin has no "scripted", but "smooth".
        out: Folder for everything.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        real: The real simulator, "mujoco", or "isaac-lab" inside of its environment (docs/isaac.md); the one that the
            bundle's data came from when not given. Of the twin of a foreign environment its name, "module:Name-v0",
            where Gymnasium does not know it by itself.
        episodes: Of each policy in each world.
        real_episodes: Of each policy in the real simulator, from the first of the starts; as many as dreamed when not
            given. Few real and many dreamed episodes make one interval of the real success rate (by what nine others
            were off or, with fewer, by prediction-powered inference; extra `ppi`); with 0 the dream alone speaks, and
            says where it is not to be believed.
        clear: Share of the goal's radius within which a dreamed object has to come for success to be clear. Agents aim
            for the rim of the goal, so clear success foretells real success better; every policy is dreamed twice.
        known: Folder (`out`) of an earlier transfer with the same bundle. By how much its policies, nine or more, were
            off in reality tells what the dream claims of these; when not given, the others here tell it.
        max_error: Metres that the object may be off where a dreamed success is believed without a real episode; two
            radii of the goal when not given.
        filmed: The policy in the video; the first agent when not given.
        seed: Of starts and goals, random actions and planners.
        ray: Play on the processors of a Ray cluster instead of here: "auto" for the one that this machine is a node
            of, or HOST:PORT of its head (docs/scale.md). A game takes as many as PyTorch would use here.
    """

    policies: list[str] | None = None
    out: Path = Path("transfer-out")
    world_model: str = "default"
    real: str | None = None
    episodes: int = 100
    real_episodes: int | None = None
    clear: float = CLEAR
    known: Path | None = None
    max_error: float | None = None
    filmed: str | None = None
    seed: int = 0
    ray: str | None = None

    def run(self) -> dict[str, float]:
        """Play every policy that was not played before, and show how they do; its figures."""
        model = WorldModel.load(self.world_model, "auto" if self.ray is None else "cpu")
        self._check_real_episodes(model)
        if model.scene.environment is not None:
            if self.known is not None:
                raise ValueError("--known tells how far success was off, and a twin has returns: leave it out")
            return self._twins(model)
        if not 0 < self.clear <= 1:
            raise ValueError(f"--clear is a share of the goal's radius, above 0 and at most 1, not {self.clear:g}")
        worlds = Worlds(model, self.real or own_simulator(model), self.clear)
        known = self._known(worlds)
        sources = {name: worlds.find(name) for name in self._names(model)}  # a wrong name is an error now
        if self.filmed is not None and self.filmed not in sources:
            raise ValueError(f"--filmed {self.filmed} is none of the policies {[*sources]}")
        with (
            executor_for(self.ray, Here(), _check(worlds), torch.get_num_threads()) as executor,
            holding(self.out),
        ):
            settings = {"world_model": model.fingerprint(), "episodes": self.episodes, "seed": self.seed}
            settings["clear"] = self.clear
            apart: dict[str, object] = {"real": worlds.simulator} if worlds.simulator != "mujoco" else {}
            apart |= {} if self.real_episodes is None else {"real_episodes": self.real_episodes}
            claim(self.out / "transfer.json", settings | apart)
            env = RealEnv(model, simulator=worlds.simulator)
            starts = draw_starts(env, self.episodes, self.seed)
            env.close()
            rows = self._played(sources, worlds, starts, executor)
            return self._shown(rows, sources, known, worlds, starts)

    def _check_real_episodes(self, model: WorldModel) -> None:
        """Refuse now what no interval can be made of."""
        count = self.real_episodes
        if count is None:
            return
        if model.scene.environment is not None:
            raise ValueError("--real_episodes needs the same starts in both worlds, which a twin does not have")
        if count and not FEWEST <= count < self.episodes:
            raise ValueError(f"--real_episodes is 0, or from {FEWEST} to below --episodes {self.episodes}, not {count}")
        if count:
            must_be_installed()

    def _twins(self, model: WorldModel) -> dict[str, float]:
        """Play every policy in the twin of a foreign environment, and in that, and show how they do."""
        names = list(dict.fromkeys(self.policies or ["random", "smooth"]))
        for name in names:  # a wrong one is an error now
            for world in TWINS:
                env = new_world(world, model, self.real)
                new_predict(name, env, self.seed)
                env.close()
        rows: dict[str, Twins] = {}
        with holding(self.out):
            settings = {"world_model": model.fingerprint(), "episodes": self.episodes, "seed": self.seed}
            claim(self.out / "transfer.json", settings)
            for name in names:
                file = self._file(name, Agent.load(name) if Path(name).is_dir() else name)
                if file.exists():
                    cli.going_on(f"the episodes of {name} in {file}")
                else:
                    played = (play_twin(world, name, model, self.real, self.episodes, self.seed) for world in TWINS)
                    write_json(file, dataclasses.asdict(Twins(*played)))
                rows[name] = read(file, Twins)
            text, figures = twin_table(rows, self.episodes), twin_figures(rows)
            write(self.out / "transfer.md", text + "\n")
            print(f"{text}\n\ntransfer.md and the episodes in {self.out.resolve()}")
        return figures

    def _shown(
        self,
        rows: Mapping[str, BothWorlds],
        sources: Mapping[str, Source],
        known: Mapping[str, BothWorlds],
        worlds: Worlds,
        starts: Sequence[Start],
    ) -> dict[str, float]:
        """Table, drawing and film; the figures."""
        figures = transfer_figures(rows, sources, known)
        most = 2 * worlds.model.scene.goal_radius if self.max_error is None else self.max_error
        text = table(rows, figures, most)
        write(self.out / "transfer.md", text + "\n")
        print(text)
        if self.real_episodes != 0:
            draw(self.out / "transfer.png", rows)
            self._film(sources, worlds, starts)
        print(f"\ntransfer.md and everything else in {self.out.resolve()}")
        return figures

    def _known(self, worlds: Worlds) -> dict[str, BothWorlds]:
        """The policies of the earlier transfer that were played in reality as well, by what they are known by."""
        if self.known is None:
            return {}
        made = read(self.known / "transfer.json", dict[str, Any])
        alike = worlds.model.fingerprint(), worlds.simulator, worlds.clear
        if (made.get("world_model"), made.get("real", "mujoco"), made.get("clear")) != alike:
            raise ValueError(
                f"--known {self.known} is of another world model or simulator, or of another --clear; pass --out of a "
                f"transfer with {self.world_model}, {worlds.simulator} and {worlds.clear:g}"
            )
        stored = [read(file, Stored) for file in sorted(self.known.glob("episodes_*.json"))]
        rows = {row.policy: row.both for row in stored if row.real.success}
        if len(rows) < FEWEST_KNOWN:
            raise ValueError(
                f"--known {self.known}: {FEWEST_KNOWN} policies or more have to be played in both worlds, "
                f"not {len(rows)}"
            )
        return rows

    def _names(self, model: WorldModel) -> list[str]:
        """Of the policies, each once."""
        own = [self.world_model] if model.path is not None and (model.path / "agent").is_dir() else []
        if not self.policies and not own:
            print(f"{self.world_model} has no agent of its own; --policies names others", file=sys.stderr)
        return list(dict.fromkeys(self.policies or [*own, "random", "scripted"]))

    def _played(
        self, sources: Mapping[str, Source], worlds: Worlds, starts: Sequence[Start], executor: Executor
    ) -> dict[str, BothWorlds]:
        """Play the policies that were not played before, and read what was."""
        files = {name: self._file(name, source) for name, source in sources.items()}

        def keep(name: str, row: BothWorlds) -> None:
            write_json(files[name], {"policy": identity(sources[name]), **dataclasses.asdict(row)})

        missing = {name: source for name, source in sources.items() if not files[name].exists()}
        if len(missing) < len(sources):
            cli.going_on(f"{len(sources) - len(missing)} of {len(sources)} policies, played before, in {self.out}")
        play_all(missing, worlds, starts, self.seed, executor, keep, self.real_episodes)
        rows = {name: read(file, Stored) for name, file in files.items()}
        for name, row in rows.items():
            counts = _counts(row.dream) | _counts(row.clear)
            if self.real_episodes is None:
                counts |= _counts(row.real)
            if len(counts) != 1 or 0 in counts or len(_counts(row.real)) != 1:
                raise ValueError(f"{files[name]} is damaged: its lists are of lengths {sorted(counts)}; delete it")
        return {name: row.both for name, row in rows.items()}

    def _file(self, name: str, source: Source) -> Path:
        """Where a policy's episodes are kept."""
        distinct = hashlib.sha256(identity(source).encode()).hexdigest()[:8]
        return self.out / f"episodes_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}_{distinct}.json"

    def _film(self, sources: Mapping[str, Source], worlds: Worlds, starts: Sequence[Start]) -> None:
        """Film the policy that was asked for, or the first agent, if there is one."""
        agents = [name for name, source in sources.items() if isinstance(source, Agent)]
        for name in ([self.filmed] if self.filmed else agents)[:1]:
            start = known_goal(sources[name], starts)[0]
            film(self.out / "transfer.mp4", name, sources[name], worlds, start, self.seed)


@dataclass
class Stored(BothWorlds):
    """What the file of a policy's episodes holds."""

    policy: str = ""

    @property
    def both(self) -> BothWorlds:
        """The episodes alone."""
        return BothWorlds(self.dream, self.real, self.steps_per_s, self.clear)


def _counts(played: Played) -> set[int]:
    """How long the lists of episodes are; that of bounds may be empty."""
    return {len(values) for part, values in vars(played).items() if part != "bound" or values}


def _check(worlds: Worlds) -> Callable[[], object]:
    """What a node has to be able to do; Isaac Lab takes a minute to start, its first game shows whether it is there."""
    if worlds.simulator != "mujoco":
        return nothing
    height, width = worlds.model.scene.image_size
    return partial(check_drawing, height, new_tables("mujoco", "push", 1, (height, width)).metadata())


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm transfer` command."""
    return cli.run(Transfer, "transfer", argv)


if __name__ == "__main__":
    sys.exit(main())
