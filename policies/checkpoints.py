"""How does a killed training of an agent go on? From its newest whole checkpoint."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr

from ..storage.atomic import replacing
from ..storage.checkpoint import must_be_whole
from .replay import load_buffer, save_buffer


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
        self._newest = whole[-1] if whole else None
        self.done = int(whole[-1].stem.split("_")[1]) if whole else 0

    def save(self, learner: BaseAlgorithm) -> bool:
        """Write a checkpoint; of the replay buffers, which are large, only the newest two stay.

        Returns:
            True, which tells Stable-Baselines3 to go on training.
        """
        file = self._folder / f"agent_{learner.num_timesteps}_steps.zip"
        if isinstance(learner, OffPolicyAlgorithm):
            assert learner.replay_buffer is not None
            save_buffer(_buffer_of(file), learner.replay_buffer)
        with replacing(file) as temporary:
            learner.save(temporary)
        for old in _by_steps(self._folder, "agent_replay_buffer_*_steps.safetensors")[:-2]:
            old.unlink()
        return True

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
        except Exception as error:
            about = " ".join(str(error).split())[:300]
            raise ValueError(f"{file} cannot be continued ({about}); delete it to go on from the one before") from error
        learner.num_timesteps = self.done


def _buffer_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name.replace("agent_", "agent_replay_buffer_")).with_suffix(".safetensors")


def _by_steps(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: int(path.stem.split("_")[-2]))
