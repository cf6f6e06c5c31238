"""How faithful is a bundle? Many held-out episodes dreamed open loop, their statistics, and how sure those are.

    cosmos-wm evaluate --split test --json FILE

One episode's part of it (dreaming, detecting, comparing) is in open_loop.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from tqdm import tqdm

from ..data.dataset import EpisodeDataset
from ..data.episodes import DatasetError, Episode
from ..precision import Precision
from ..scene import Scene
from ..world_model import WorldModel
from .baselines import simulator_unless_told
from .ground_truth import Floats, Reference, reference
from .open_loop import OpenLoop, divergences, dream, first_dreamed, measure, rmse

SHORT_HORIZONS = (16, 32)
JUMP = 2.0  # a dreamed step this many times as long as the longest real one is a jump
_CHUNK_EPISODES, _CHUNK_BYTES = 16, 2**28  # episodes dreamed together, and the frames they may occupy


@dataclass(frozen=True)
class Evaluation:
    """Open-loop results of a set of episodes.

    Attributes:
        scene: The bundle's.
        horizon: Greatest number of dreamed steps.
        tracks: One per episode, in order of their numbers.
        seed: Of noise and bootstrap.
        first: Index of the first dreamed frame.
    """

    scene: Scene
    horizon: int
    tracks: tuple[OpenLoop, ...]
    seed: int = 0
    first: int | None = None

    @property
    def kinds(self) -> list[str]:
        """Kinds of episodes, sorted."""
        return sorted({track.kind for track in self.tracks})

    def of_kind(self, kind: str) -> list[OpenLoop]:
        """The tracks of one kind."""
        return [track for track in self.tracks if track.kind == kind]

    def errors(self, kind: str, marker: int = 0) -> Floats:
        """Errors per episode and step, px at 512, (E, horizon), NaN where hidden or beyond an episode's end."""
        return self._padded([track.errors_px(marker) for track in self.of_kind(kind)])

    def baseline_errors(self, kind: str, baseline: str) -> Floats:
        """Like `errors`, for one of `Reference.baseline_errors`; a row per episode and draw, maybe none."""
        return self._padded(
            [row for track in self.of_kind(kind) for row in track.reference.baseline_errors.get(baseline, ())]
        )

    def hidden_frames(self, kind: str) -> int:
        """Real frames in which the manipulated object could not be seen; they are not part of the errors."""
        return sum(int(np.isnan(track.errors_px()).sum()) for track in self.of_kind(kind))

    def notes(self) -> list[str]:
        """What could not be measured or was left out, and why."""
        if not self.scene.markers:
            return ["the scene has no markers, so no positions were compared"]
        notes = []
        for kind in self.kinds:
            if hidden := self.hidden_frames(kind):
                notes.append(f"{kind}: {hidden} real frames show no {self.scene.marker_names[0]} and are not compared")
            if not len(self.baseline_errors(kind, "floor")):
                notes.append(
                    f"{kind}: no predictability floor; the dataset names no simulator that is at hand, or has no states"
                )
        return notes

    def numbers(self) -> dict[str, float]:
        """Every figure by name, flat. What could not be measured has no entry."""
        found = {"horizon": float(self.horizon)}
        for kind in self.kinds:
            found |= {f"{kind}_{key}": value for key, value in self._kind_numbers(kind).items()}
        found |= self._perception_numbers()
        dreamed, real = np.array([track.divergence for track in self.tracks]).T
        if np.isfinite(dreamed * real).any() and np.nansum(real) > 0:
            found["action_sensitivity"] = float(np.nansum(dreamed) / np.nansum(real))
        return {key: value for key, value in found.items() if np.isfinite(value)}

    def _kind_numbers(self, kind: str) -> dict[str, float]:
        tracks = self.of_kind(kind)
        found = {"episodes": float(len(tracks))}
        if not self.scene.markers:
            return found
        name, agent = self.scene.marker_names[0], self.scene.agent_index
        errors = self.errors(kind)
        if not np.isfinite(errors).any():
            return found
        found |= {
            f"{name}_rmse_px512": rmse(errors),
            f"{name}_median_px512": float(np.nanmedian(errors)),
            f"{name}_mean_px512": float(np.nanmean(errors)),
            f"{name}_max_px512": float(np.nanmax(errors)),
            "detection_rate": float(np.mean(np.concatenate([track.detected[:, 0] for track in tracks]))),
        }
        for figure, statistic in (("rmse", rmse), ("median", lambda rows: float(np.nanmedian(rows)))):
            low, high = confidence_interval(errors, statistic, self.seed)
            found |= {f"{name}_{figure}_px512_ci_low": low, f"{name}_{figure}_px512_ci_high": high}
        found[f"{name}_median_px512_at_last_step"] = float(
            np.nanmedian(errors[:, np.isfinite(errors).any(axis=0)][:, -1])
        )
        still = self.baseline_errors(kind, "static")
        for steps in (n for n in SHORT_HORIZONS if n <= self.horizon):
            found[f"{name}_rmse_px512_at_{steps}"] = rmse(errors[:, :steps])
            found[f"static_rmse_px512_at_{steps}"] = rmse(still[:, :steps])
        found |= _stability(tracks)
        turned = self._padded([track.turned_deg for track in tracks])
        found |= {f"{name}_heading_deg_at_{n}": _mean(turned[:, :n]) for n in SHORT_HORIZONS if n <= self.horizon}
        found[f"{name}_heading_deg"] = _mean(turned)
        found |= {f"heading_deg_at_{n}": _mean(turned[:, n - 1]) for n in SHORT_HORIZONS if n <= self.horizon}
        found["heading_length_at_last_step"] = _mean(np.array([sure for track in tracks for sure in track.sure[-1:]]))
        for baseline in ("static", "constant_velocity", "floor", "knowable"):
            found[f"{baseline}_rmse_px512"] = rmse(self.baseline_errors(kind, baseline))
        for floor in ("floor", "knowable"):
            if found[f"{floor}_rmse_px512"] > 0:
                found[f"over_{floor}"] = found[f"{name}_rmse_px512"] / found[f"{floor}_rmse_px512"]
        if agent is not None:
            found[f"{self.scene.agent}_rmse_px512"] = rmse(self.errors(kind, agent))
            found[f"{self.scene.agent}_floor_rmse_px512"] = rmse(self.baseline_errors(kind, "agent_floor"))
        return found

    def _perception_numbers(self) -> dict[str, float]:
        names = {name for track in self.tracks for name in track.figures}
        means = {
            name: _mean(np.concatenate([track.figures.get(name, np.empty(0)) for track in self.tracks]))
            for name in sorted(names)
        }
        squared = means.pop("frame_squared_error", 0.0)
        return means | ({"tokenizer_psnr_db": float(10 * np.log10(255**2 / squared))} if squared else {})

    def _padded(self, rows: Sequence[Floats]) -> Floats:
        padded = np.full((len(rows), self.horizon), np.nan)
        for target, row in zip(padded, rows, strict=True):
            target[: len(row)] = row
        return padded


def _stability(tracks: Sequence[OpenLoop]) -> dict[str, float]:
    """How steady the dreams are, whether right or wrong.

    Returns:
        `stable_share`: of the dreams in which the object is never lost and never jumps (moves in one step by more than
        `JUMP` times the longest real step of all these episodes). `jitter_over_real`: mean square of the dreamed
        tracks' second differences, where motion turns into trembling, as a multiple of the real tracks'.
    """
    starts = [track.reference.start_px[None, 0] for track in tracks]
    real = [np.concatenate([start, track.reference.true_px[:, 0]]) for start, track in zip(starts, tracks, strict=True)]
    dreamed = [np.concatenate([start, track.dream_px[:, 0]]) for start, track in zip(starts, tracks, strict=True)]
    longest = max(float(np.nanmax(_lengths(track, 1), initial=0.0)) for track in real)
    steady = [
        bool(track.detected[:, 0].all()) and not (_lengths(pixels, 1) > JUMP * longest).any()
        for track, pixels in zip(tracks, dreamed, strict=True)
    ]
    tremble, usual = (_mean(np.concatenate([_lengths(track, 2) ** 2 for track in which])) for which in (dreamed, real))
    return {"stable_share": float(np.mean(steady)), "jitter_over_real": tremble / usual if usual else np.nan}


def _lengths(track: Floats, order: int) -> Floats:
    """Lengths of the differences of that order along a track (T, 2)."""
    return np.asarray(np.linalg.norm(np.diff(track, n=order, axis=0), axis=-1))


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def confidence_interval(errors: Floats, statistic: Callable[[Floats], float], seed: int) -> tuple[float, float]:
    """Bootstrap 95 % interval over episodes: steps of one episode are not independent, episodes are.

    Args:
        errors: (E, T), NaN where there is none, or anything else with a row for each episode.
        statistic: Of such rows.
        seed: Of the resampling.

    Returns:
        Its ends, NaN for fewer than two episodes.
    """
    if len(errors) < 2:
        return np.nan, np.nan
    result = stats.bootstrap(
        (np.arange(len(errors)),),
        lambda rows: statistic(errors[rows]),
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def draw_episodes(dataset: EpisodeDataset, split: str, count: int | None, seed: int, least: int = 0) -> list[int]:
    """Numbers of `count` episodes of a split with at least so many frames, drawn with the seed, or of all of them.

    Raises:
        DatasetError: If the split is unknown or empty, or smaller than `count`.
    """
    dataset.indices(split)  # says so if there is no such split
    if not (indices := dataset.long_enough(split, least)):
        raise DatasetError(f"split {split!r} of {dataset.path} has no episode of {least} frames or more")
    if count is None:
        return indices
    if not 1 <= count <= len(indices):
        raise DatasetError(f"asked for {count} episodes of split {split!r}, but {dataset.path} has {len(indices)}")
    return sorted(np.random.default_rng(seed).permutation(indices)[:count].tolist())


def evaluate(
    world_model: WorldModel,
    dataset: EpisodeDataset,
    indices: Sequence[int] | None = None,
    horizon: int | None = None,
    seed: int = 0,
    dtype: Precision = "float32",
    first: int | None = None,
    truths: dict[int, Reference] | None = None,
) -> Evaluation:
    """Dream episodes open loop under their recorded actions and measure everything that can be.

    Args:
        world_model: The bundle.
        dataset: Episodes of its scene.
        indices: Which of them; all when None.
        horizon: Greatest number of dreamed steps; to the episodes' ends when None.
        seed: Of the floor's noise and the bootstrap.
        dtype: Precision of the dynamics network, as of `DreamEngine`.
        first: Index of the first dreamed frame; frame 4, or later where the model looks back on more, when None.
        truths: What is known already of episodes by number, and where to put what is not: to judge several models of
            one scene from the same frame on, with the same horizon and seed.

    Raises:
        DatasetError: If an episode is too short to be dreamed, or none was chosen.
    """
    indices = range(len(dataset)) if indices is None else indices
    if not indices:
        raise DatasetError(f"no episodes of {dataset.path} were chosen; expected at least one")
    scene, length = world_model.scene, first or first_dreamed(world_model)
    tracks: list[OpenLoop] = []
    truths = {} if truths is None else truths
    with tqdm(total=len(indices), desc="dream and compare", unit="episode") as progress:
        for numbers, episodes in _chunks(dataset, indices, length):
            simulators = [simulator_unless_told(dataset.metadata, episode, scene, length - 1) for episode in episodes]
            latents = dream(world_model, episodes, horizon, dtype, length)
            apart = divergences(world_model, episodes, latents, simulators, length)
            for row, (number, episode, simulator) in enumerate(zip(numbers, episodes, simulators, strict=True)):
                if number not in truths:
                    rng = np.random.default_rng((seed, number))
                    truths[number] = reference(scene, episode, length, horizon, simulator, rng)
                tracks.append(measure(world_model, episode, number, latents[row], truths[number], apart[row], length))
                progress.update()
    tracks.sort(key=lambda track: track.number)
    return Evaluation(scene, max(len(track.dream_px) for track in tracks), tuple(tracks), seed, length)


def _chunks(
    dataset: EpisodeDataset, indices: Sequence[int], context_length: int
) -> Iterator[tuple[list[int], list[Episode]]]:
    """Episodes of equal length, as many at a time as memory allows."""
    waiting: dict[int, list[tuple[int, Episode]]] = defaultdict(list)
    for index in indices:
        episode = dataset[index]
        if len(episode) < context_length:
            raise DatasetError(
                f"episode {index} of {dataset.path} has {len(episode) + 1} frames; "
                f"{context_length} of context and at least one more are needed"
            )
        group = waiting[len(episode)]
        group.append((index, episode))
        if len(group) >= min(_CHUNK_EPISODES, max(1, _CHUNK_BYTES // episode.frames.nbytes)):
            yield [number for number, _ in group], [member for _, member in group]
            group.clear()
    for group in waiting.values():
        if group:
            yield [number for number, _ in group], [member for _, member in group]
