"""How does a killed training of an agent go on? From its newest whole checkpoint."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr

from ..storage.atomic import replacing
from ..storage.checkpoint import must_be_whole
from ..storage.structured import one_line
from .moment import draw_as_then, return_to_moment, save_moment
from .replay import end_episodes, load_buffer, save_buffer


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Where they lie.
        with_buffer: Whether one needs a replay buffer to be whole.

    Attributes:
        done: Environment steps of the newest whole one when this object was made; 0 where there was none.
    """

    def __init__(self, folder: Path, with_buffer: bool):
        self._folder = folder
        if with_buffer and (pickles := _by_steps(folder, "agent_replay_buffer_*_steps.pkl")):
            raise ValueError(
                f"{pickles[-1]} is a replay buffer that an earlier version pickled, and unpickling can run anything: "
                f"delete {folder} to begin the training anew, or finish it with the version that began it"
            )
        found = _by_steps(folder, "agent_*_steps.zip")
        whole = [path for path in found if not with_buffer or _buffer_of(path).is_file()]
        whole = [path for path in whole if _moment_of(path).is_file()]
        self._newest = whole[-1] if whole else None
        self.done = int(whole[-1].stem.split("_")[1]) if whole else 0

    def save(self, learner: BaseAlgorithm) -> None:
        """Write a checkpoint; of the replay buffers and moments, which are large, only the newest two stay."""
        file = self._folder / f"agent_{learner.num_timesteps}_steps.zip"
        if isinstance(learner, OffPolicyAlgorithm):
            assert learner.replay_buffer is not None
            save_buffer(_buffer_of(file), learner.replay_buffer)
        save_moment(_moment_of(file), learner)
        with replacing(file) as temporary:  # last: what has it is whole
            learner.save(temporary)
        for kind in ("replay_buffer", "moment"):
            for old in _by_steps(self._folder, f"agent_{kind}_*_steps.safetensors")[:-2]:
                old.unlink()

    def resume(self, learner: BaseAlgorithm) -> None:
        """Load the newest whole checkpoint, if there is one.

        Raises:
            ValueError: If it is damaged.
        """
        file = self._newest
        if file is None:
            return
        try:
            must_be_whole(file)
            _, parameters, variables = load_from_zip_file(file, load_data=False, device=learner.device)
            learner.set_parameters(parameters)
            for name, value in (variables or {}).items():
                recursive_setattr(learner, f"{name}.data", value.data)
            if isinstance(learner, OffPolicyAlgorithm):
                assert learner.replay_buffer is not None
                load_buffer(_buffer_of(file), learner.replay_buffer)
            goes_on = return_to_moment(_moment_of(file), learner)
            if not goes_on and isinstance(learner, OffPolicyAlgorithm):
                end_episodes(learner.replay_buffer)
        except Exception as error:
            raise ValueError(
                f"{file} cannot be continued ({one_line(error)}); delete it to go on from the one before"
            ) from error

    def draw_as_then(self, learner: BaseAlgorithm) -> None:
        """Let random numbers go on from where those of the newest whole checkpoint were."""
        if self._newest is not None:
            draw_as_then(_moment_of(self._newest), learner)


class Saving(BaseCallback):
    """Writes checkpoints between rollouts, when nothing is half done; a resumed training draws as it would have.

    Args:
        checkpoints: Where to.
        every: Environment steps between them.
    """

    def __init__(self, checkpoints: Checkpoints, every: int):
        super().__init__()
        self._checkpoints, self._every = checkpoints, every
        self._saved = self._resumed = checkpoints.done

    def _on_rollout_start(self) -> None:
        if self._resumed:
            self._checkpoints.draw_as_then(self.model)
            self._resumed = 0
        elif self.num_timesteps - self._saved >= self._every:
            self._checkpoints.save(self.model)
            self._saved = self.num_timesteps

    def _on_step(self) -> bool:
        return True


def _moment_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name.replace("agent_", "agent_moment_")).with_suffix(".safetensors")


def _buffer_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name.replace("agent_", "agent_replay_buffer_")).with_suffix(".safetensors")


def _by_steps(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: int(path.stem.split("_")[-2]))
