"""Episodes: reading and writing them (Minari), collecting them, and cutting them into training windows."""

from .episodes import DatasetError, Episode, EpisodeDataset, assign_splits, open_datasets, write_dataset

__all__ = ["DatasetError", "Episode", "EpisodeDataset", "assign_splits", "open_datasets", "write_dataset"]
