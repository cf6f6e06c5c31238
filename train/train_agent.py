"""Train a Stable-Baselines3 agent in the dream: `cosmos-wm train-agent --out runs/ppo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml
from matplotlib.figure import Figure
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import ConvertCallback, EveryNTimesteps
from stable_baselines3.common.logger import Logger, make_output_format
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr
from stable_baselines3.common.vec_env import VecEnv

from cosmos_isaac_wm.policies.agent import ALGORITHMS, Agent, sb3_policy_kwargs
from cosmos_isaac_wm.policies.callbacks import Evaluation, EvaluationRow, ProgressBar, Stopwatch, read_evaluations
from cosmos_isaac_wm.policies.sb3 import make_vec_env
from cosmos_isaac_wm.storage.atomic import replacing
from cosmos_isaac_wm.storage.bundle import find_bundle
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel

GOOD = 0.85  # success rate whose first evaluation counts as "good"
_JUDGED_APART = 1_000_000  # between the seeds of training environments and those of evaluations


def run(
    out: Path,
    algorithm: Literal["ppo", "sac", "td3", "sac_her"] = "ppo",
    env: Literal["CosmosDream-v0", "CosmosReal-v0"] = "CosmosDream-v0",
    world_model: str = "default",
    obs_type: Literal["pose", "latent", "latent16", "rgb"] = "pose",
    reward_type: Literal["dense", "sparse", "progress"] = "progress",
    goal: list[float] | None = None,
    frame_stack: int = 1,
    timesteps: int = 400_000,
    n_envs: int = 64,
    policy_kwargs: dict[str, Any] | None = None,
    hyperparameters: dict[str, Any] | None = None,
    eval_every: int = 50_000,
    eval_episodes: int = 64,
    eval_real: int = 0,
    checkpoint_every: int = 100_000,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, float]:
    """Train an agent in the dream, or in the real simulator; a killed run goes on from its last checkpoint.

    Writes `agent/` (the policy of the best evaluation, as `Agent.load` reads it), `agents/` (that of each evaluation),
    `checkpoints/`, `progress.csv`, `evaluations.csv` and `learning_curve.png` to OUT, and TensorBoard logs if that is
    installed. Every algorithm has a tuned YAML file with its name among the shipped configs, which fills the defaults.

    Args:
        out: Folder of the run.
        algorithm: "ppo", "sac", "td3" or "sac_her" (SAC with hindsight experience replay).
        env: What to train in.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository"; in the real simulator its eyes.
        obs_type: "pose", "latent", "latent16" or "rgb"; the last three do not show the goal, so fix one.
        reward_type: "dense", "sparse" or "progress".
        goal: Fixed goal (x, y) in metres; drawn for every episode when not given.
        frame_stack: Latents or pictures that are stacked into one observation.
        timesteps: Environment steps in all.
        n_envs: Environments side by side; processes in the real simulator.
        policy_kwargs: Of Stable-Baselines3's policy, for instance {"net_arch": [256, 256]}.
        hyperparameters: Of Stable-Baselines3's algorithm; "--hyperparameters.NAME VALUE" changes one of them.
        eval_every: Steps between evaluations in the dream (in the real simulator when that is trained in).
        eval_episodes: Episodes of each.
        eval_real: Episodes of an evaluation in the real simulator at the same times, which training does not use.
        checkpoint_every: Steps between checkpoints.
        device: Of the policy: small ones are faster on a processor.
        seed: Of everything.
    """
    if obs_type != "pose" and goal is None:
        raise ValueError(f"obs_type {obs_type!r} does not show the goal: fix one, for instance --goal '[0.1, 0.1]'")
    if algorithm == "sac_her" and (obs_type != "pose" or reward_type == "progress"):
        raise ValueError(
            f"hindsight needs rewards that follow from goals: obs_type 'pose' and reward_type 'sparse' or 'dense', got "
            f"{obs_type!r} and {reward_type!r}"
        )
    model = WorldModel.load(world_model)
    settings = {
        "algorithm": algorithm,
        "env": env,
        "world_model": model.fingerprint(),
        "obs_type": obs_type,
        "reward_type": reward_type,
        "goal": goal,
        "frame_stack": frame_stack,
        "n_envs": n_envs,
        "policy_kwargs": policy_kwargs,
        "hyperparameters": hyperparameters,
        "seed": seed,
    }
    out.mkdir(parents=True, exist_ok=True)
    cli.claim(out / "training.json", settings)
    env_kwargs = {"obs_type": obs_type, "reward_type": reward_type, "goal": goal}

    def make(env_id: str, count: int, seed: int) -> VecEnv:
        source = model if env_id == "CosmosDream-v0" else str(find_bundle(world_model))
        return make_vec_env(env_id, count, seed, frame_stack, world_model=source, **env_kwargs)

    checkpoint, done = _last_checkpoint(out / "checkpoints", with_buffer=algorithm != "ppo")
    now = seed + done  # a resumed run shall not meet its first starts and noise again
    training = make(env, n_envs, now)
    learner = _new_learner(algorithm, training, obs_type, policy_kwargs or {}, hyperparameters or {}, device, now)
    if checkpoint is not None:
        _resume(learner, checkpoint, done)
        _forget_after(out, done)
    formats = ["csv", *(["tensorboard"] if find_spec("tensorboard") else [])]
    suffix = f"_from_{done}" if done else ""  # Stable-Baselines3 begins such files anew
    learner.set_logger(Logger(str(out), [make_output_format(name, str(out), suffix) for name in formats]))

    def keep(chosen: str, folder: Path) -> None:
        trained = {"env": env, "world_model": settings["world_model"], "seed": seed, "budget": timesteps}
        trained |= {"steps": learner.num_timesteps, "chosen": chosen}
        trained |= {"n_envs": n_envs, "hyperparameters": hyperparameters or {}}
        name, kwargs = policy_of(obs_type, policy_kwargs or {})
        if getattr(learner, "use_sde", False):
            kwargs = {**kwargs, "use_sde": True}
        Agent(learner.policy, algorithm, name, kwargs, env_kwargs, frame_stack, trained).save(folder)

    def evaluated(best: bool) -> None:
        keep("checkpoint", out / "agents" / str(learner.num_timesteps))
        if best:
            keep("best", out / "agent")

    already = max((row.seconds for row in read_evaluations(out / "evaluations.csv", done)), default=0.0)
    stopwatch = Stopwatch(already)
    judges: list[tuple[str, int, Path, Callable[[bool], None] | None]] = [
        (env, eval_episodes, out / "evaluations.csv", evaluated)
    ]
    if eval_real and env != "CosmosReal-v0":
        judges.append(("CosmosReal-v0", eval_real, out / "evaluations_real.csv", None))
    evaluations = [
        Evaluation(
            make(name, min(count, n_envs) if name == "CosmosDream-v0" else 1, seed + _JUDGED_APART),
            path,
            count,
            eval_every,
            seed + _JUDGED_APART,
            stopwatch,
            then,
        )
        for name, count, path, then in judges
    ]
    saving = EveryNTimesteps(checkpoint_every, ConvertCallback(lambda *_: _save(learner, out / "checkpoints")))
    if done < timesteps:
        learner.learn(timesteps - done, [ProgressBar(timesteps), saving, *evaluations], reset_num_timesteps=not done)
        _save(learner, out / "checkpoints")
    seconds = stopwatch.seconds
    training.close()
    for evaluation in evaluations:
        evaluation.close()
    if not (out / "agent").is_dir():  # too short for an evaluation
        keep("best", out / "agent")
    figures = {"steps": float(learner.num_timesteps), "seconds": seconds}
    if timesteps > done:
        figures["steps_per_s"] = (learner.num_timesteps - done) / (seconds - already)
    tables = {name: read_evaluations(path) for name, _, path, _ in judges}
    for rows, prefix in zip(tables.values(), ("", "real_"), strict=False):
        figures |= _figures(rows, prefix)
    _draw(out / "learning_curve.png", tables)
    print("\n".join(f"{key:<24} {value:,.4g}" for key, value in figures.items()) + f"\n\nagent in {out / 'agent'}")
    return figures


def _figures(rows: Sequence[EvaluationRow], prefix: str) -> dict[str, float]:
    """The best evaluation, and how soon one was good."""
    if not rows:
        return {}
    best = max(rows, key=lambda row: row.mean_return)
    figures = {f"{prefix}success": best.success, f"{prefix}return": best.mean_return}
    good = next((row for row in rows if row.success >= GOOD), None)
    if good is not None:
        figures |= {f"{prefix}steps_to_good": float(good.timesteps), f"{prefix}seconds_to_good": good.seconds}
    return figures


def _new_learner(
    algorithm: str,
    env: VecEnv,
    obs_type: str,
    policy_kwargs: dict[str, Any],
    hyperparameters: dict[str, Any],
    device: str,
    seed: int,
) -> BaseAlgorithm:
    """An untrained learner.

    Raises:
        ValueError: If the algorithm does not know one of the arguments.
    """
    more: dict[str, Any] = {"replay_buffer_class": HerReplayBuffer} if algorithm == "sac_her" else {}
    name, kwargs = policy_of(obs_type, policy_kwargs)
    try:
        return ALGORITHMS[algorithm](
            name, env, policy_kwargs=sb3_policy_kwargs(kwargs), device=device, seed=seed, **more, **hyperparameters
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(f"Stable-Baselines3's {algorithm} refuses these hyperparameters: {error}") from error


def policy_of(obs_type: str, policy_kwargs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Stable-Baselines3's policy for a kind of observation, and its arguments."""
    if obs_type == "pose":
        return "MultiInputPolicy", {"extractor": "pose", **policy_kwargs}
    return (
        ("CnnPolicy", policy_kwargs) if obs_type == "rgb" else ("MlpPolicy", {"extractor": "latent", **policy_kwargs})
    )


def _last_checkpoint(folder: Path, with_buffer: bool) -> tuple[Path | None, int]:
    """The newest complete checkpoint and its steps; None and 0 where there is none yet."""
    found = _by_steps(folder, "agent_*_steps.zip")
    whole = [path for path in found if not with_buffer or _buffer_of(path).is_file()]
    return (whole[-1], int(whole[-1].stem.split("_")[1])) if whole else (None, 0)


def _buffer_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name.replace("agent_", "agent_replay_buffer_")).with_suffix(".pkl")


def _save(learner: BaseAlgorithm, folder: Path) -> bool:
    """Write a checkpoint; of the replay buffers, which are large, only the newest two stay."""
    file = folder / f"agent_{learner.num_timesteps}_steps.zip"
    if isinstance(learner, OffPolicyAlgorithm):
        with replacing(_buffer_of(file)) as temporary:
            learner.save_replay_buffer(temporary)
    with replacing(file) as temporary:
        learner.save(temporary)
    for old in _by_steps(folder, "agent_replay_buffer_*_steps.pkl")[:-2]:
        old.unlink()
    return True


def _by_steps(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: int(path.stem.split("_")[-2]))


def _resume(learner: BaseAlgorithm, file: Path, done: int) -> None:
    """Load a checkpoint.

    The replay buffer is Stable-Baselines3's pickle: only continue a run that you made yourself.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        _, parameters, variables = load_from_zip_file(file, load_data=False, device=learner.device)
        learner.set_parameters(parameters)
        for name, value in (variables or {}).items():
            recursive_setattr(learner, f"{name}.data", value.data)
        if isinstance(learner, OffPolicyAlgorithm):
            learner.load_replay_buffer(_buffer_of(file))
    except Exception as error:
        raise ValueError(f"{file} cannot be continued ({error}); delete it to go on from the one before") from error
    learner.num_timesteps = done
    print(f"resumed after {done:,} steps", file=sys.stderr)


def _forget_after(out: Path, done: int) -> None:
    """Make the best agent that of an evaluation up to the checkpoint, if a later one was lost with what followed it."""
    rows = read_evaluations(out / "evaluations.csv")
    known = [row for row in rows if row.timesteps <= done]
    if known and len(known) < len(rows):
        best = max(known, key=lambda row: row.mean_return)
        agent = Agent.load(out / "agents" / str(best.timesteps))
        agent.trained["chosen"] = "best"
        agent.save(out / "agent")


def _draw(path: Path, evaluations: Mapping[str, Sequence[EvaluationRow]]) -> None:
    """Success over steps."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, rows in evaluations.items():
        axes.plot([row.timesteps for row in rows], [row.success for row in rows], marker="o", label=f"in {name}")
    axes.set(xlabel="environment steps", ylabel="success rate", ylim=(0, 1.02))
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm train-agent` command."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--algorithm")
    peek.add_argument("--config", type=Path)
    known = peek.parse_known_args(argv)[0]
    algorithm = known.algorithm
    if algorithm is None and known.config is not None and known.config.is_file():
        with suppress(yaml.YAMLError, AttributeError):  # what is wrong with the file is said when it is read for good
            algorithm = yaml.safe_load(known.config.read_text()).get("algorithm")
    # The algorithm's own YAML file fills the defaults.
    return cli.run(run, "train-agent", argv, f"{algorithm if algorithm in ALGORITHMS else 'ppo'}.yaml")


if __name__ == "__main__":
    sys.exit(main())
