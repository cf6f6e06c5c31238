"""How policies do in the dream and in the real simulator: `cosmos-wm transfer --policies '[default, random]'`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from cosmos_isaac_wm.envs import DreamEnv, RealEnv
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.evaluation.evaluation import confidence_interval
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.callbacks import EvaluationRow, read_evaluations
from cosmos_isaac_wm.policies.planners import SEARCHES, GradientPlanner, Planner
from cosmos_isaac_wm.policies.sb3 import make_vec_env
from cosmos_isaac_wm.policies.scripted import GoalPusher, RandomPolicy
from cosmos_isaac_wm.policies.transfer import Correlation, Played, Policy, Start, correlate, draw_starts, far, play
from cosmos_isaac_wm.reporting.figures import write_side_by_side
from cosmos_isaac_wm.reporting.report import judge
from cosmos_isaac_wm.sims import SimulatorName
from cosmos_isaac_wm.storage.atomic import replacing
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.train_agent import GOOD
from cosmos_isaac_wm.world_model import WorldModel

PLANNERS = (*SEARCHES, "gradient")
# Figure: (bar, aim)
BARS = {
    "real_success": (0.85, 0.98),
    "over_real_trained": (0.90, 1.0),
    "exploitation_gap": (0.10, 0.02),
    "planner_real_success": (0.70, 0.90),
    "spearman": (0.85, 0.95),
    "time_ratio": (0.5, 0.1),
}
EXPLOITED = 0.10  # dream success above real success by more than this is exploitation of the model


def run(
    policies: list[str] | None = None,
    out: Path = Path("transfer-out"),
    world_model: str = "default",
    real: SimulatorName | None = None,
    episodes: int = 100,
    filmed: str | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Play policies from the same starts and goals in the dream and in the real simulator, and compare.

    Writes `transfer.md` (the table), `transfer.png` (dream against real), `transfer.mp4` (one agent in both worlds)
    and, as they are finished, the episodes of each policy to OUT; what is there is not played again. Needs OpenGL.

    Args:
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
    model = WorldModel.load(world_model)
    own = [world_model] if model.path is not None and (model.path / "agent").is_dir() else []
    if not policies and not own:
        print(f"{world_model} has no agent of its own; --policies names others", file=sys.stderr)
    names = list(dict.fromkeys(policies or [*own, "random", "scripted"]))
    made = {name: _source(name, model) for name in names}  # a wrong name is an error now, not after an hour
    if filmed is not None and filmed not in made:
        raise ValueError(f"--filmed {filmed} is none of the policies {names}")
    out.mkdir(parents=True, exist_ok=True)
    settings = {"world_model": model.fingerprint(), "episodes": episodes, "seed": seed}
    simulator = real or own_simulator(model)
    cli.claim(out / "transfer.json", settings | ({"real": simulator} if simulator != "mujoco" else {}))
    env = RealEnv(model, simulator=simulator)
    starts = draw_starts(env, episodes, seed)
    env.close()
    rows = {name: _measure(name, made[name], model, simulator, starts, out, seed) for name in names}
    figures = numbers(rows, made)
    text = table(rows, figures)
    (out / "transfer.md").write_text(text + "\n")
    print(text)
    draw(out / "transfer.png", rows)
    agents = [name for name in names if isinstance(made[name], Agent)]
    if filmed or agents:
        name = filmed or agents[0]
        film(out / "transfer.mp4", made[name], name, model, simulator, _known_goal(made[name], starts)[0], seed)
    print(f"\ntransfer.md, transfer.png and the episodes in {out.resolve()}")
    return figures


def _source(name: str, model: WorldModel) -> Agent | str:
    """The agent of a name, checked; the name itself for what needs no file.

    Raises:
        ValueError: If there is no such policy, or it is one for another environment.
    """
    if name in (*PLANNERS, "random", "scripted"):
        return name
    agent = Agent.load(name)
    env = _new_env(agent, model, "CosmosDream-v0", 1)
    agent.check(env, model.fingerprint())
    env.close()
    return agent


def _new_env(
    source: Agent | str, model: WorldModel, env_id: str, count: int, simulator: str = "mujoco", render: bool = False
) -> VecEnv:
    """Environments as a policy wants them, rewarding progress, so that returns can be compared."""
    more: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    more |= {"world_model": model, "reward_type": "progress"}
    more |= {"simulator": simulator} if env_id == "CosmosReal-v0" else {}
    if isinstance(source, Agent):
        return make_vec_env(env_id, count, None, source.frame_stack, **source.task_kwargs, **more)
    if env_id == "CosmosDream-v0" and source in PLANNERS:  # which look at one environment
        return DummyVecEnv([lambda: DreamEnv(**more)])
    return make_vec_env(env_id, count, **more)


def _new_policy(source: Agent | str, env: VecEnv, seed: int) -> Policy:
    if isinstance(source, Agent):
        return source
    if source == "random":
        return RandomPolicy(env.action_space, seed)  # type: ignore[arg-type]
    if source == "scripted":
        return GoalPusher()
    single = env.get_attr("unwrapped")[0]
    if source == "gradient":
        return GradientPlanner(single, seed=seed)
    return Planner(single, SEARCHES[source](), seed=seed)


@dataclasses.dataclass
class Row:
    """A policy in both worlds.

    Attributes:
        dream: Its dreamed episodes.
        real: Its real ones.
        steps_per_s: Of a planner in the real simulator: actions that it thought of per second.
    """

    dream: Played
    real: Played
    steps_per_s: float | None = None


def _measure(
    name: str, source: Agent | str, model: WorldModel, simulator: str, starts: Sequence[Start], out: Path, seed: int
) -> Row:
    """Play, or read what was played before."""
    identity = _identity(source)
    distinct = hashlib.sha256(identity.encode()).hexdigest()[:8]
    file = out / f"episodes_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}_{distinct}.json"
    if file.is_file():
        held = json.loads(file.read_text())
        return Row(Played(**held["dream"]), Played(**held["real"]), held["steps_per_s"])
    row = play_both(name, source, model, simulator, starts, seed)
    cli.write_json(file, {"policy": identity, **dataclasses.asdict(row)})
    return row


def play_both(
    name: str, source: Agent | str, model: WorldModel, simulator: str, starts: Sequence[Start], seed: int
) -> Row:
    """Play a policy from the same starts in both worlds; one that knows only a fixed goal gets that goal."""
    starts = _known_goal(source, starts)
    worlds, speed = {}, None
    for world, env_id, count in (("dream", "CosmosDream-v0", len(starts)), ("real", "CosmosReal-v0", 1)):
        env = _new_env(source, model, env_id, count, simulator)
        policy = _new_policy(source, env, seed)
        worlds[world] = play(policy, env, starts, world == "dream", f"{name}, {world}")
        if isinstance(policy, Planner):
            speed = sum(worlds[world].length) / policy.seconds
        env.close()
    return Row(**worlds, steps_per_s=speed)


def _known_goal(source: Agent | str, starts: Sequence[Start]) -> Sequence[Start]:
    """The starts with the goal that an agent was trained for, without those that it would begin too near to.

    Raises:
        ValueError: If none is left.
    """
    goal = source.env_kwargs.get("goal") if isinstance(source, Agent) else None
    if goal is None:
        return starts
    left = [dataclasses.replace(start, goal=np.array(goal)) for start in starts if far(start.subject, goal)]
    if not left:
        raise ValueError(
            f"all of the {len(starts)} starts are too near to the agent's goal {goal}; ask for more episodes"
        )
    return left


def _identity(source: Agent | str) -> str:
    """What a policy is known by: its weights' hash, or its name and, of a planner, its parameters."""
    if isinstance(source, Agent):
        return source.fingerprint()
    if source not in PLANNERS:
        return source
    parts = (GradientPlanner,) if source == "gradient" else (SEARCHES[source], Planner)
    defaults = [f"{key}={value.default}" for part in parts for key, value in signature(part).parameters.items()]
    return f"{source} {' '.join(text for text in defaults if 'empty' not in text)}"


def numbers(rows: Mapping[str, Row], sources: Mapping[str, Agent | str]) -> dict[str, float]:
    """The figures of the table, and the headline ones.

    Agents that differ in nothing but their seed count as one, the mean over its seeds. Of several such the one that is
    best in the dream gives the headline; of the planners it is the best in reality. The time ratio is known where runs
    in the dream were also evaluated in reality (`train-agent --eval_real 32`), and became good there, every one.
    """
    figures: dict[str, float] = {}
    for name, row in rows.items():
        figures |= {f"{name}_dream_success": row.dream.rate, f"{name}_real_success": row.real.rate}
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, source in sources.items():
        if isinstance(source, Agent) and source.trained.get("chosen") == "best":
            kind = [source.algorithm, source.policy_kwargs, source.env_kwargs, source.frame_stack]
            key = json.dumps([*kind, source.trained.get("budget")])
            dreamt = [source.trained.get(part) for part in ("world_model", "n_envs", "hyperparameters")]
            real = source.trained.get("env") == "CosmosReal-v0"
            groups[("real", key) if real else ("dream", key, json.dumps(dreamt))].append(name)

    def mean(group: Sequence[str], world: str) -> float:
        return float(np.mean([getattr(rows[name], world).rate for name in group]))

    def seconds_to_good(group: Sequence[str]) -> float:
        found = [rows for name in group if (rows := _watched(sources[name]))]
        return float(np.mean([_seconds_to_good(rows) for rows in found])) if found else np.nan

    dreamers = {key: group for key, group in groups.items() if key[0] == "dream"}
    if dreamers:
        best = max(dreamers, key=lambda key: mean(dreamers[key], "dream"))
        group = dreamers[best]
        figures["real_success"] = mean(group, "real")
        figures["real_success_seeds"] = float(len(group))
        figures["exploitation_gap"] = mean(group, "dream") - figures["real_success"]
        trained_in_real = groups.get(("real", best[1]))
        if trained_in_real:
            figures["over_real_trained"] = figures["real_success"] / max(mean(trained_in_real, "real"), 1e-9)
            ratio = seconds_to_good(group) / seconds_to_good(trained_in_real)
            figures |= {"time_ratio": ratio} if np.isfinite(ratio) else {}
    planned = [row.real.rate for name, row in rows.items() if sources[name] in PLANNERS]
    if planned:
        figures["planner_real_success"] = max(planned)
    if "scripted" in rows:
        figures["scripted_real_success"] = rows["scripted"].real.rate
    correlation = _correlation(rows)
    if correlation is not None:
        figures |= {"pearson": correlation.pearson, "spearman": correlation.spearman, "policies": float(len(rows))}
        for name in ("pearson", "spearman"):
            low, high = getattr(correlation, f"{name}_interval")
            figures |= {f"{name}_low": low, f"{name}_high": high}
    return figures


def _watched(source: Agent | str) -> list[EvaluationRow]:
    """The evaluations in the real simulator of the run that an agent's folder is part of; none where it had none."""
    if not isinstance(source, Agent) or source.path is None:
        return []
    run_folder = source.path.resolve().parent
    in_real = source.trained.get("env") == "CosmosReal-v0"
    table = run_folder / ("evaluations.csv" if in_real else "evaluations_real.csv")
    return read_evaluations(table) if (run_folder / "training.json").is_file() else []


def _seconds_to_good(watched: Sequence[EvaluationRow]) -> float:
    """Seconds of training until an agent was first good; NaN if it never was."""
    return next((row.seconds for row in watched if row.success >= GOOD), np.nan)


def _correlation(rows: Mapping[str, Row]) -> Correlation | None:
    try:
        return correlate([row.dream.rate for row in rows.values()], [row.real.rate for row in rows.values()])
    except ValueError:
        return None


def table(rows: Mapping[str, Row], figures: Mapping[str, float]) -> str:
    """The results as Markdown."""
    lines = [
        "| policy | success, dream | success, real | return, dream | return, real | final distance, cm | steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        cells = [name]
        for played in (row.dream, row.real):
            low, high = played.rate_interval()
            cells.append(f"{played.rate:.2f} ({low:.2f} to {high:.2f})")
        cells += [_mean_with_interval(played.episode_return) for played in (row.dream, row.real)]
        pairs = (("{:.1f}", "distance", 100.0), ("{:.0f}", "length", 1.0))
        for form, field, scale in pairs:
            both = (scale * float(np.nanmean(getattr(played, field))) for played in (row.dream, row.real))
            cells.append(" / ".join(form.format(value) for value in both))
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Intervals are 95 %: Wilson's for rates, bootstrap for returns. Distances and steps are means, dream / real.",
        "",
    ]
    for name, row in rows.items():
        gap = row.dream.rate - row.real.rate
        if gap > EXPLOITED:
            lines.append(f"**Exploitation:** {name} succeeds more often in the dream than in reality, by {gap:.2f}.")
        if row.steps_per_s is not None:
            lines.append(f"{name} thinks of {row.steps_per_s:.2f} actions a second.")
    for name, (bar, aim) in BARS.items():
        if name in figures:
            lines.append(f"{name}: {figures[name]:.3f} ({judge(figures[name], bar, aim)})")
    return "\n".join(lines)


def _mean_with_interval(values: Sequence[float]) -> str:
    low, high = confidence_interval(np.array(values), lambda drawn: float(np.mean(drawn)), seed=0)
    return f"{np.mean(values):.2f}" + (f" ({low:.2f} to {high:.2f})" if high > low else "")


def draw(path: Path, rows: Mapping[str, Row]) -> None:
    """Success in the real simulator against success in the dream."""
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.8", zorder=0)
    for name, row in rows.items():
        x, y = row.dream.rate, row.real.rate
        across, along = (np.abs(np.subtract(played.rate_interval(), played.rate)) for played in (row.dream, row.real))
        axes.errorbar(x, y, xerr=across[:, None], yerr=along[:, None], marker="o", capsize=2, label=name)
    axes.set(xlabel="success in the dream", ylabel="success in the real simulator")
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    axes.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def film(
    path: Path, source: Agent | str, name: str, model: WorldModel, simulator: str, start: Start, seed: int
) -> None:
    """The policy from one start, in the dream and in the real simulator, each until its own end."""
    clips: dict[str, list[Any]] = {}
    for world, env_id in (("dream", "CosmosDream-v0"), ("real simulator", "CosmosReal-v0")):
        env = _new_env(source, model, env_id, 1, simulator, render=True)
        frames = clips.setdefault(f"{name}, {world}", [])
        play(_new_policy(source, env, seed), env, [start], world == "dream", "film", partial(_look, env, frames))
        env.close()
    write_side_by_side(path, clips, model.scene.control_hz)


def _look(env: VecEnv, frames: list[Any]) -> None:
    frames.append(env.get_images()[0])


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm transfer` command."""
    return cli.run(run, "transfer", argv)


if __name__ == "__main__":
    sys.exit(main())
