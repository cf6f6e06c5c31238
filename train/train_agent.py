"""How is an agent trained? `cosmos-wm train-agent --out runs/ppo` trains it in the dream, with Stable-Baselines3."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from cosmos_isaac_wm.envs.tasks import new_task
from cosmos_isaac_wm.envs.trust import Trust
from cosmos_isaac_wm.policies.agent import ALGORITHMS, Agent
from cosmos_isaac_wm.policies.callbacks import Evaluation, ProgressBar, Stopwatch, TimeLimit
from cosmos_isaac_wm.policies.checkpoints import Checkpoints, Saving
from cosmos_isaac_wm.policies.evaluations import draw_evaluations, evaluation_figures, read_evaluations
from cosmos_isaac_wm.policies.kept_agents import KeptAgents, forget_after
from cosmos_isaac_wm.policies.learner import new_learner, new_logger, policy_of
from cosmos_isaac_wm.policies.sb3 import make_original_env, make_vec_env
from cosmos_isaac_wm.storage.bundle import find_bundle
from cosmos_isaac_wm.storage.lock import claim, holding
from cosmos_isaac_wm.storage.structured import read
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel

_JUDGED_APART = 1_000_000  # between the seeds of training environments and those of evaluations


@dataclass(frozen=True)
class TrainAgent:
    """Train an agent in the dream, or in the real simulator; a killed run goes on from its last checkpoint.

    Writes `agent/` (the policy of the best evaluation, as `Agent.load` reads it), `agents/` (that of each evaluation),
    `checkpoints/`, `progress.csv`, `evaluations.csv` and `learning_curve.png` to OUT, and TensorBoard logs if that is
    installed. Every algorithm has a tuned YAML file with its name among the shipped configs, which fills the defaults.

    Attributes:
        out: Folder of the run.
        algorithm: "ppo", "sac", "td3" or "sac_her" (SAC with hindsight experience replay).
        env: What to train in; "CosmosReal-v0" of a twin is the environment itself.
        real: What the environment of a twin is called, "module:Name-v0", where Gymnasium does not know it by itself.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository"; in the real simulator its eyes.
        obs_type: "pose", "latent", "latent16" or "rgb"; the last three do not show the goal, so fix one. In the twin of
            a foreign environment "env", its own observation, or one of these three. When not given, the first.
        reward_type: "dense", "sparse" or "progress"; a twin has the environment's own rewards.
        goal: Fixed goal (x, y) in metres; drawn for every episode when not given.
        goal_radius: Metres, nearer than which the object is at its goal, in training and evaluations; the scene's, 0.04
            of the table, when not given. `cosmos-wm transfer` judges by the scene's.
        trust: What follows from how far a dream may be off: nothing ("report"), its end ("truncate", beyond
            `max_error`), or less reward ("penalise", by `trust_weight` times that).
        max_error: Metres, or standard deviations of a twin's observation; as of `DreamEnv` when not given.
        trust_weight: Reward per metre or standard deviation.
        frame_stack: Latents or pictures that are stacked into one observation.
        timesteps: Environment steps in all.
        minutes: Train no longer than this, evaluations not counted; then evaluate once more, and keep that agent, too.
        n_envs: Environments side by side; processes in the real simulator.
        policy_kwargs: Of Stable-Baselines3's policy, for instance {"net_arch": [256, 256]}.
        hyperparameters: Of Stable-Baselines3's algorithm; "--hyperparameters.NAME VALUE" changes one of them.
        eval_every: Steps between evaluations in the dream (in the real simulator when that is trained in).
        eval_episodes: Episodes of each.
        eval_real: Episodes of an evaluation in the real simulator at the same times, which training does not use.
        checkpoint_every: Steps between checkpoints.
        despite_verdict: Train even in a dream that by its own validation is no better than a still picture, or ignores
            actions.
        device: Of the policy: small ones are faster on a processor.
        seed: Of everything.
    """

    out: Path
    algorithm: Literal["ppo", "sac", "td3", "sac_her"] = "ppo"
    env: Literal["CosmosDream-v0", "CosmosReal-v0"] = "CosmosDream-v0"
    real: str | None = None
    world_model: str = "default"
    obs_type: Literal["env", "pose", "latent", "latent16", "rgb"] | None = None
    reward_type: Literal["dense", "sparse", "progress"] = "progress"
    goal: list[float] | None = None
    goal_radius: float | None = None
    trust: Trust = "report"
    max_error: float | None = None
    trust_weight: float = 1.0
    frame_stack: int = 1
    timesteps: int = 400_000
    minutes: float | None = None
    n_envs: int = 64
    policy_kwargs: dict[str, Any] | None = None
    hyperparameters: dict[str, Any] | None = None
    eval_every: int = 50_000
    eval_episodes: int = 64
    eval_real: int = 0
    checkpoint_every: int = 100_000
    despite_verdict: bool = False
    device: str = "cpu"
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Train, evaluate every so often, and draw how it went; its figures."""
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes:g}")
        model = WorldModel.load(self.world_model)
        if self.obs_type is None:
            return replace(self, obs_type="pose" if model.scene.environment is None else "env").run()
        if model.scene.environment is None:
            self._check()
        elif self.goal is not None or self.goal_radius is not None:
            raise ValueError("--goal and --goal_radius are of a table; a twin has the goals of its environment")
        elif self.algorithm == "sac_her" and not new_task(model.perception, obs_type=self.obs_type).has_compute_reward:
            raise ValueError(
                "hindsight needs rewards that follow from goals: the twin of a goal environment that is installed, and "
                "obs_type 'env'"
            )
        elif self.obs_type != "env" and (self.env == "CosmosReal-v0" or self.eval_real):
            raise ValueError(f"the environment itself shows no {self.obs_type!r}: its agents see obs_type 'env'")
        if self.trust != "report" and self.env == "CosmosReal-v0":
            raise ValueError(f"trust={self.trust!r} is of dreams, and {self.env} is none")
        if self.trust == "penalise" and self.algorithm == "sac_her":
            raise ValueError(
                "hindsight computes rewards anew, without any penalty: use trust='truncate', or another algorithm"
            )
        self._trust(model)
        with holding(self.out):
            return self._trained(model)

    def _trained(self, model: WorldModel) -> dict[str, float]:
        """Train, or what is left of it."""
        claim(self.out / "training.json", self._settings(model), free="timesteps, minutes, evaluations and device")
        checkpoints = Checkpoints(self.out / "checkpoints", with_buffer=self.algorithm != "ppo")
        done = checkpoints.done
        if done:
            cli.going_on(f"step {done:,} of {self.timesteps:,} in {self.out / 'checkpoints'}")
        now = self.seed + done  # a resumed run shall not meet its first starts and noise again
        training = self._new_env(model, self.env, self.n_envs, now)
        learner = self._learner(training, checkpoints, now)
        kept = KeptAgents(self.out, learner, self._agent(learner, model))
        already = max((row.seconds for row in read_evaluations(self.out / "evaluations.csv", done)), default=0.0)
        stopwatch = Stopwatch(already)
        limit, evaluations = TimeLimit(stopwatch, self.minutes), self._evaluations(model, stopwatch, kept)
        if done < self.timesteps and not limit.reached:
            # Saved between rollouts: what a checkpoint is from has been evaluated before, whenever the run is killed.
            saving = Saving(checkpoints, self.checkpoint_every)
            beside = [ProgressBar(self.timesteps), limit, *evaluations, saving]
            learner.learn(self.timesteps - done, beside, reset_num_timesteps=not done)
            if limit.reached:
                for evaluation in evaluations:
                    evaluation.finish()
            checkpoints.save(learner)
        seconds = stopwatch.seconds
        training.close()
        for evaluation in evaluations:
            evaluation.close()
        kept.finish()
        figures = {"steps": float(learner.num_timesteps), "seconds": seconds}
        if learner.num_timesteps > done:
            figures["steps_per_s"] = (learner.num_timesteps - done) / (seconds - already)
        return self._shown(figures)

    def _check(self) -> None:
        """Refuse what cannot be learned on the table."""
        if self.obs_type != "pose" and self.goal is None:
            raise ValueError(
                f"obs_type {self.obs_type!r} does not show the goal: fix one, for instance --goal '[0.1, 0.1]'"
            )
        if self.algorithm == "sac_her" and (self.obs_type != "pose" or self.reward_type == "progress"):
            raise ValueError(
                f"hindsight needs rewards that follow from goals: obs_type 'pose' and reward_type 'sparse' or 'dense', "
                f"got {self.obs_type!r} and {self.reward_type!r}"
            )

    def _trust(self, model: WorldModel) -> None:
        """Refuse a dream that would teach nothing, unless told otherwise."""
        verdict = model.verdict
        if self.env == "CosmosDream-v0" and verdict is not None and verdict.faults and not self.despite_verdict:
            raise ValueError(
                f"{self.world_model}: {verdict.words()}. An agent would learn nothing of the world in it: fit it for "
                "longer, or on better latents, or train all the same with --despite_verdict"
            )

    def _settings(self, model: WorldModel) -> dict[str, Any]:
        """What a run that is gone on with must have been begun with."""
        names = ["algorithm", "env", "world_model", "obs_type", "reward_type", "goal", "frame_stack", "n_envs"]
        names += ["policy_kwargs", "hyperparameters", "seed"]
        own = {name: getattr(self, name) for name in names} | {"world_model": model.fingerprint()}
        return own | self._goal_kwargs | self._trust_kwargs

    def _env_kwargs(self, model: WorldModel) -> dict[str, Any]:
        """The task's options."""
        if model.scene.environment is not None:
            return {"obs_type": self.obs_type}
        table = {"obs_type": self.obs_type, "reward_type": self.reward_type, "goal": self.goal}
        return table | self._goal_kwargs

    @property
    def _goal_kwargs(self) -> dict[str, Any]:
        """The option of goals of another size than the scene's; none of others."""
        return {} if self.goal_radius is None else {"goal_radius": self.goal_radius}

    @property
    def _trust_kwargs(self) -> dict[str, Any]:
        """The options of dreams that are not simply believed; none of others."""
        asked = {"trust": self.trust, "max_error": self.max_error, "trust_weight": self.trust_weight}
        return {} if asked == {"trust": "report", "max_error": None, "trust_weight": 1.0} else asked

    def _new_env(self, model: WorldModel, env_id: str, count: int, seed: int) -> VecEnv:
        """Environments to learn or to be judged in; real ones are processes, and read the bundle themselves."""
        if model.scene.environment is not None and env_id == "CosmosReal-v0":
            return make_original_env(model.scene, self.real, count, seed)
        source = model if env_id == "CosmosDream-v0" else str(find_bundle(self.world_model))
        kwargs = self._env_kwargs(model)
        if env_id == "CosmosDream-v0":
            kwargs |= self._trust_kwargs
        return make_vec_env(env_id, count, seed, self.frame_stack, world_model=source, **kwargs)

    def _learner(self, training: VecEnv, checkpoints: Checkpoints, seed: int) -> BaseAlgorithm:
        """A new learner, or one that goes on from the last checkpoint; it logs into the run's folder."""
        policy_kwargs, hyperparameters = self.policy_kwargs or {}, self.hyperparameters or {}
        assert self.obs_type is not None
        learner = new_learner(
            self.algorithm, training, self.obs_type, policy_kwargs, hyperparameters, self.device, seed
        )
        if checkpoints.done:
            checkpoints.resume(learner)
            forget_after(self.out, checkpoints.done)
        learner.set_logger(new_logger(self.out, checkpoints.done))
        return learner

    def _agent(self, learner: BaseAlgorithm, model: WorldModel) -> Agent:
        """The learner's policy with what is known of its training beforehand."""
        trained: dict[str, Any] = {"env": self.env, "world_model": model.fingerprint(), "seed": self.seed}
        trained |= {"budget": self.timesteps, "steps": 0, "chosen": ""}
        trained |= {"n_envs": self.n_envs, "hyperparameters": self.hyperparameters or {}}
        assert self.obs_type is not None
        name, kwargs = policy_of(self.obs_type, self.policy_kwargs or {}, learner.observation_space)
        if getattr(learner, "use_sde", False):
            kwargs = {**kwargs, "use_sde": True}
        task = self._env_kwargs(model)
        return Agent(learner.policy, self.algorithm, name, kwargs, task, self.frame_stack, trained)

    @property
    def _judges(self) -> dict[str, tuple[int, Path]]:
        """The environments of evaluations, with the number of episodes and the table of each."""
        judges: dict[str, tuple[int, Path]] = {self.env: (self.eval_episodes, self.out / "evaluations.csv")}
        if self.eval_real and self.env != "CosmosReal-v0":
            judges["CosmosReal-v0"] = (self.eval_real, self.out / "evaluations_real.csv")
        return judges

    def _evaluations(self, model: WorldModel, stopwatch: Stopwatch, kept: KeptAgents) -> list[Evaluation]:
        """One for each of the judges; by the first, that of the environment trained in, agents are kept."""
        seed, evaluations = self.seed + _JUDGED_APART, list[Evaluation]()
        for name, (episodes, table) in self._judges.items():
            together = min(episodes, self.n_envs) if name == "CosmosDream-v0" else 1
            env, then = self._new_env(model, name, together, seed), kept.evaluated if name == self.env else None
            evaluations.append(Evaluation(env, table, episodes, self.eval_every, seed, stopwatch, then))
        return evaluations

    def _shown(self, figures: dict[str, float]) -> dict[str, float]:
        """The figures with those of the evaluations, which are printed and drawn."""
        tables = {name: read_evaluations(table) for name, (_, table) in self._judges.items()}
        for name, rows in tables.items():
            figures |= evaluation_figures(rows, "" if name == self.env else "real_")
        draw_evaluations(self.out / "learning_curve.png", tables)
        lines = (f"{key:<24} {value:,.4g}" for key, value in figures.items())
        print("\n".join(lines) + f"\n\nagent in {self.out / 'agent'}")
        return figures


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm train-agent` command."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--algorithm")
    peek.add_argument("--config", type=Path)
    known = peek.parse_known_args(argv)[0]
    algorithm = known.algorithm
    if algorithm is None and known.config is not None and known.config.is_file():
        with suppress(ValueError):  # what is wrong with the file is said when it is read for good
            algorithm = read(known.config, dict[str, Any]).get("algorithm")
    # The algorithm's own YAML file fills the defaults.
    return cli.run(TrainAgent, "train-agent", argv, f"{algorithm if algorithm in ALGORITHMS else 'ppo'}.yaml")


if __name__ == "__main__":
    sys.exit(main())
