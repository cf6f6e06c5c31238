"""Episodes: reading and writing them (Minari), collecting them, and cutting them into training windows."""

from .dataset import EpisodeDataset, open_datasets
from .episodes import DatasetError, Episode
from .splits import assign_splits
from .writing import write_dataset

__all__ = ["DatasetError", "Episode", "EpisodeDataset", "assign_splits", "open_datasets", "write_dataset"]
