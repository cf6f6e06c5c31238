"""How does a killed training of an agent go on? From its newest whole checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr

from ..storage.atomic import replacing


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
            with replacing(_buffer_of(file)) as temporary:
                learner.save_replay_buffer(temporary)
        with replacing(file) as temporary:
            learner.save(temporary)
        for old in _by_steps(self._folder, "agent_replay_buffer_*_steps.pkl")[:-2]:
            old.unlink()
        return True

    def resume(self, learner: BaseAlgorithm) -> None:
        """Load the newest whole checkpoint, if there is one.

        The replay buffer is Stable-Baselines3's pickle: only continue a run that you made yourself.

        Raises:
            ValueError: If it is damaged.
        """
        file = self._newest
        if file is None:
            return
        try:
            _, parameters, variables = load_from_zip_file(file, load_data=False, device=learner.device)
            learner.set_parameters(parameters)
            for name, value in (variables or {}).items():
                recursive_setattr(learner, f"{name}.data", value.data)
            if isinstance(learner, OffPolicyAlgorithm):
                learner.load_replay_buffer(_buffer_of(file))
        except Exception as error:
            raise ValueError(f"{file} cannot be continued ({error}); delete it to go on from the one before") from error
        learner.num_timesteps = self.done
        print(f"resumed after {self.done:,} steps", file=sys.stderr)


def _buffer_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name.replace("agent_", "agent_replay_buffer_")).with_suffix(".pkl")


def _by_steps(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: int(path.stem.split("_")[-2]))
