"""What do the arrays of a Minari dataset hold? Its actions without the pictures beside them, the picture, headings."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.spaces import Dict as DictSpace
from minari.dataset.minari_storage import MinariStorage
from minari.serialization import serialize_space
from numpy.typing import NDArray

from ..borders import how_to_convert
from ..scene import Environment, Scene
from ..spaces import DESIRED, PIXELS, STATE, Layout, action_vectors, goal_space, is_picture, read_space
from ..storage.structured import read
from .episodes import DatasetError, Episode

METADATA_KEY = "cosmos_isaac_wm"  # under which Minari's metadata holds ours
DIGEST = "blake2b"  # of an episode, among its attributes, and of our metadata
_MOST = 10**9  # episodes or steps
_HASHED = ("actions", "observations", "rewards", "terminations", "truncations")


def read_metadata(data: Path) -> dict[str, Any]:
    """The metadata of a dataset, before Minari sees it: without both spaces Minari makes the environment that it names.

    Args:
        data: The folder with metadata.json.

    Raises:
        DatasetError: If it is missing or damaged, has no spaces, or names data that would be unpickled.
    """
    path = data / "metadata.json"
    metadata = read(path, dict[str, Any], DatasetError)
    if missing := [name for name in ("observation_space", "action_space") if not isinstance(metadata.get(name), str)]:
        raise DatasetError(
            f"{path} has no {' and no '.join(missing)}: an environment would have to be made from what the file names, "
            "which might be anything. Write the dataset again with its spaces (Minari does by itself)"
        )
    if metadata.get("data_format", "hdf5") not in ("hdf5", "arrow"):
        raise DatasetError(f"{path} has data_format {metadata['data_format']!r}; expected 'hdf5' or 'arrow'")
    for name in ("total_episodes", "total_steps"):
        if not isinstance(count := metadata.get(name, 0), int) or not 0 <= count <= _MOST:
            raise DatasetError(f"{path} has {name} {count!r}; expected a number")
    main = data / "main_data.hdf5"
    if main.exists() and not main.is_file():
        raise DatasetError(f"{main} is no regular file")
    return metadata


def spaces_of(scene: Scene) -> tuple[Space[Any], Space[Any], str | None]:
    """Spaces of observations and actions as a dataset of a scene stores them; the key of the pictures, None if alone.

    What a foreign environment observes stands beside its picture, as Gymnasium's `AddRenderObservation` has it.
    """
    picture = Box(0, 255, (*scene.image_size, 3), np.uint8)
    if scene.environment is None:
        return picture, Box(np.array(scene.action_low, np.float32), np.array(scene.action_high, np.float32)), None
    own, actions = map(read_space, (scene.environment.observation_space, scene.environment.action_space))
    if scene.environment.picture == "":
        return picture, actions, None
    key = scene.environment.picture or PIXELS
    beside = dict(own.spaces) if isinstance(own, DictSpace) else {STATE: own}
    return DictSpace({**beside, key: picture}), actions, key


def environment_in(storage: MinariStorage, path: Path) -> dict[str, Any]:
    """What a scene says of the environment that somebody else's dataset is of: `environment`, `name`, `episode_steps`.

    Nothing where the dataset names none, or where what it observes beside its picture is of a kind that heads cannot
    learn; that has a word on stderr.
    """
    spec = storage.metadata.get("env_spec")
    key, _ = image_space(storage.observation_space, path)
    try:
        told = json.loads(spec) if isinstance(spec, str) else {}
        steps, name = told.get("max_episode_steps"), str(told["id"])
        environment = Environment(
            json.dumps(told),
            serialize_space(storage.observation_space),
            serialize_space(storage.action_space),
            key or "",
        )
        layout_of(Scene(name, 1.0, (1, 1), (0.0,), (1.0,), environment=environment))
    except KeyError:
        return {}
    except (ValueError, AttributeError) as error:
        print(f"{path}: no twin of its environment is made, only pictures are dreamed: {error}", file=sys.stderr)
        return {}
    return {"environment": environment, "name": name} | ({"episode_steps": int(steps)} if steps else {})


def layout_of(scene: Scene) -> Layout | None:
    """Of what a foreign environment observes beside its picture; None of any other scene, or where there is nothing.

    What a goal environment desires is no part of it: that is set, and not seen.
    """
    if scene.environment is None or scene.environment.picture == "":
        return None
    own = read_space(scene.environment.observation_space)
    if isinstance(own, DictSpace):
        apart = {scene.environment.picture, None if goal_space(own) is None else DESIRED}
        own = DictSpace({key: space for key, space in own.spaces.items() if key not in apart})
    return Layout(own, scene.name)


def goals_of(scene: Scene) -> Box | None:
    """The space of what a goal environment desires; None of any other scene."""
    return None if scene.environment is None else goal_space(read_space(scene.environment.observation_space))


def desired(episode: Episode, scene: Scene) -> NDArray[np.float32]:
    """What a goal environment desired at every frame, (T + 1, G); G is 0 of any other scene."""
    if goals_of(scene) is None:
        return np.empty((len(episode.frames), 0), np.float32)
    return np.asarray(episode.observations[DESIRED], np.float32)


def observed(episode: Episode, scene: Scene) -> NDArray[np.float32]:
    """What a foreign environment observed beside its picture, flat, (T + 1, D); D is 0 where there is nothing."""
    layout = layout_of(scene)
    if layout is None or scene.environment is None:
        return np.empty((len(episode.frames), 0), np.float32)
    alone = scene.environment.picture is None and layout.leaves[0].keys == ()
    return layout.vectors(episode.observations[STATE] if alone else episode.observations)


def read_actions(storage: MinariStorage, lengths: Sequence[int], dim: int, path: Path) -> list[NDArray[np.float32]]:
    """The actions of every episode as vectors, (T, A) each.

    Args:
        storage: The dataset's.
        lengths: T of each episode.
        dim: A.
        path: Of the dataset, for messages.

    Raises:
        DatasetError: If some cannot be learned from: damaged, of another shape, or not finite.
    """
    file = storage.data_path / "main_data.hdf5"
    try:
        if file.is_file():  # without the pictures beside them
            with h5py.File(file, "r") as groups:
                must_stay_inside(groups, path)
                found = [np.asarray(groups[f"episode_{index}/actions"]) for index in range(len(lengths))]
        else:
            found = [np.asarray(data["actions"]) for data in storage.get_episodes(range(len(lengths)))]
    except DatasetError:
        raise
    except Exception as error:  # whatever HDF5 makes of damage
        raise DatasetError(f"the actions of {path} are damaged, or are no arrays: {error}") from error
    for index, (values, length) in enumerate(zip(found, lengths, strict=True)):
        expected = (length, *(storage.action_space.shape or ()))
        if values.shape != expected and not (dim == 1 and values.shape == (length,)):
            raise DatasetError(f"episode {index} of {path} has actions of shape {values.shape}; expected {expected}")
        if len(bad := np.argwhere(~np.isfinite(values))):
            raise DatasetError(
                f"episode {index} of {path} has an action that is not finite, at step {bad[0][0]}: repair it, or write "
                "the dataset again without it"
            )
        space = storage.action_space
        if isinstance(space, Discrete) and not all(space.contains(choice) for choice in values.astype(np.int64)):
            raise DatasetError(f"episode {index} of {path} has actions outside of {space}")
    return [action_vectors(storage.action_space, values) for values in found]


def digest_of(data: Mapping[str, Any], kind: str, seed: int) -> str:
    """A hash of an episode as Minari stores it: arrays, kind and seed, whatever types numbers are stored as."""
    digest = hashlib.blake2b(f"{kind} {seed}".encode(), digest_size=16)
    infos = {f"infos/{name}": values for name, values in (data["infos"] or {}).items()}
    arrays = {path: values for name in _HASHED for path, values in leaves(name, data[name])}
    for name, values in sorted({**arrays, **infos}.items()):
        array = np.asarray(values)
        wide = {"f": np.float64, "i": np.int64, "u": np.int64}.get(array.dtype.kind, array.dtype)
        array = np.ascontiguousarray(array if array.dtype == np.uint8 else array.astype(wide))
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def leaves(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of nested dicts, by their paths."""
    if isinstance(tree, Mapping):
        for key, inner in tree.items():
            yield from leaves(f"{name}/{key}", inner)
    else:
        yield name, tree


def episode_must_stay_inside(storage: MinariStorage, index: int, path: Path) -> None:
    """As `must_stay_inside`, of one episode.

    Raises:
        DatasetError: If it does not.
    """
    main, name = storage.data_path / "main_data.hdf5", f"episode_{index}"
    if main.is_file():
        with h5py.File(main, "r") as file:
            if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
                raise DatasetError(f"{path}: {name} leads to another file; copy the data itself")
            must_stay_inside(file[name], path)


def with_digest(metadata: dict[str, Any]) -> dict[str, Any]:
    """Our metadata as it is stored, with a hash of itself."""
    return {**metadata, DIGEST: _hash(metadata)}


def without_digest(stored: Any, path: Path) -> dict[str, Any]:
    """Our metadata as it was, if it is what was stored.

    Raises:
        DatasetError: If it is not.
    """
    if not isinstance(stored, dict):
        raise DatasetError(f"{path} has damaged metadata: {METADATA_KEY} is no mapping")
    metadata = {key: value for key, value in stored.items() if key != DIGEST}
    if stored.get(DIGEST) not in (None, _hash(metadata)):
        raise DatasetError(f"{path} has damaged metadata: {METADATA_KEY} in data/metadata.json is not what was written")
    return metadata


def _hash(metadata: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(metadata, sort_keys=True).encode(), digest_size=16).hexdigest()


def must_stay_inside(group: h5py.Group, path: Path) -> None:
    """Refuse what leads to other files: HDF5 can link to them, and read them as an array.

    Raises:
        DatasetError: If something below the group does.
    """
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise DatasetError(f"{path}: {group.name}/{name} leads to another file; copy the data itself")
        member = group[name]
        if isinstance(member, h5py.Group):
            must_stay_inside(member, path)
        elif member.external or member.is_virtual:
            raise DatasetError(f"{path}: {member.name} lies in another file; copy the data itself")


def heading(poses: NDArray[Any]) -> NDArray[np.float32]:
    """Angle about the vertical, (T,), of poses (x, y, z, qw, qx, qy, qz), (T, 7)."""
    w, x, y, z = np.asarray(poses, dtype=np.float64)[:, 3:].T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2)).astype(np.float32)


def image_space(space: Space[Any], path: Path) -> tuple[str | None, Box]:
    """The picture among the observations: (key or None, its Box)."""
    candidates = dict(space.spaces) if isinstance(space, DictSpace) else {None: space}
    for key, box in candidates.items():
        if is_picture(box):
            return key, box
    advice = next(
        (
            how_to_convert(box.dtype, box.shape)
            for box in candidates.values()
            if isinstance(box, Box) and len(box.shape) == 3
        ),
        "",
    )
    raise DatasetError(
        f"{path} has no pictures: expected a uint8 observation of shape (H, W, 3), found {space}{advice}"
    )
