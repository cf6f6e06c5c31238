"""A bundle is read as it was written, whatever is in it; what stops it being written leaves it whole or not there."""

import contextlib
import functools
import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_isaac_wm.contexts import Contexts
from cosmos_isaac_wm.dynamics import DYNAMICS, LatentUNetConfig, ProbabilisticPlusConfig, ResNetRolloutConfig
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.readout import Readout, ReadoutConfig
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.scene import Camera, Marker, Scene
from cosmos_isaac_wm.storage import atomic
from cosmos_isaac_wm.storage.bundle import verify
from cosmos_isaac_wm.training.verdict import FIGURES, Verdict
from cosmos_isaac_wm.world_model import WorldModel, model_card

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"

QUIET = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not THOROUGH,
)
NETWORKS = {config: network for network, config in DYNAMICS.values()}
NO_PROCESS = 2**22 - 1
WRITES = [(Path, name) for name in ("mkdir", "touch", "chmod", "write_bytes", "replace", "rename", "rmdir")]
WRITES += [(os, "fsync"), (safetensors.torch, "serialize_file")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Nobody waits for the disk here."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class Killed(BaseException):
    """The process is gone, and tidies nothing up."""


letters = st.characters(exclude_categories=["Cs"])  # halves of letters, which no file holds
odd = ["", "null", "1e3", "a: b", "- 'q\"", "ü\n\n  ß", " \t", "🎲 #1", "\ufeff\u2028\x85\0", "2020-01-01", "="]
words = st.sampled_from(odd) | st.text(letters, max_size=20)
numbers = st.floats(-100, 100)
plain = st.none() | st.booleans() | st.integers() | st.floats() | words
provenances = st.dictionaries(
    words,
    st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=10
    ),
)


def times(count, values):
    return st.tuples(*[values] * count)


markers = st.builds(Marker, words, times(2, numbers), numbers, numbers, symmetry=st.integers(0, 4))


@st.composite
def scenes(draw):
    actions = draw(st.integers(1, 3))
    tracked = draw(st.lists(markers, max_size=3, unique_by=lambda marker: marker.name))
    edges = draw(st.none() | times(2, times(2, numbers)))
    return Scene(
        name=draw(words),
        control_hz=draw(st.floats(0.1, 100)),
        image_size=draw(times(2, st.integers(1, 20))),
        action_low=draw(times(actions, numbers)),
        action_high=draw(times(actions, numbers)),
        markers=tuple(tracked),
        agent=draw(st.sampled_from([None, *(marker.name for marker in tracked)])),
        workspace_low=edges and edges[0],
        workspace_high=edges and edges[1],
        camera=draw(st.none() | st.builds(Camera, times(3, numbers), times(3, numbers), numbers)),
        mirror_actions=draw(st.none() | times(actions, st.sampled_from([-1.0, 1.0]))),
        episode_steps=draw(st.integers(1, 1000)),
    )


def networks(channels, actions):
    """Small ones of every class."""
    ends = {"channels": st.just(channels), "action_dim": st.sampled_from([0, actions])}
    common = ends | {"context_length": st.integers(1, 4), "blocks": st.integers(1, 2)}
    groups, yes_or_no = st.sampled_from([1, 2, 4]), st.booleans()
    own = {"norm": st.sampled_from(["group", "layer"]), "patch": st.integers(1, 2), "dropout": st.floats(0, 0.9)}
    own |= {"width": st.sampled_from([4, 8]), "groups": groups, "blend": yes_or_no, "coordinates": yes_or_no}
    levels = st.lists(st.integers(1, 2), min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(ResNetRolloutConfig, **common, **own),
        st.builds(ProbabilisticPlusConfig, **common, width=st.integers(1, 8), noise_dim=st.integers(1, 3)),
        st.builds(LatentUNetConfig, **common, width=st.just(4), groups=groups, multipliers=levels),
    )


@dataclass
class Described:
    """A world model in numbers and words."""

    scene: Scene
    tokenizer: TinyTokenizerConfig
    readout: ReadoutConfig | None
    dynamics: object
    adapted_from: str | None
    states: int
    kinds: list[str]
    beside: dict  # provenance, metrics, verdict

    def made(self):
        """With weights that are not those of a new network."""
        torch.manual_seed(0)
        scene, shape, windows = self.scene, self.dynamics, len(self.kinds)
        readout = self.readout and Readout(self.readout, scene.workspace_low, scene.workspace_high)
        perception = Perception(scene, TinyTokenizer(self.tokenizer), readout, adapted_from=self.adapted_from)
        dynamics = NETWORKS[type(shape)](shape)
        for tensor in (*perception.parameters(), *dynamics.parameters(), perception.mean, perception.std):
            tensor.data.normal_()
        contexts = Contexts(
            latents=torch.randn(windows, shape.context_length, *perception.latent_shape).half(),
            positions=torch.randn(windows, shape.context_length, len(scene.markers), 2).sqrt(),  # half of them NaN
            states=torch.randn(windows, self.states, dtype=torch.float64).sqrt(),
            episodes=torch.arange(windows) + 2**40,
            starts=torch.arange(windows),
            kinds=self.kinds,
        )
        return WorldModel(perception, dynamics, contexts, **self.beside)


@st.composite
def world_models(draw):
    scene, channels = draw(scenes()), draw(st.sampled_from([1, 2, 16]))
    read = st.integers(1, 2), st.just(4), st.booleans()
    reads = st.builds(ReadoutConfig, st.just(channels), st.just(len(scene.markers)), *read)
    figures = st.fixed_dictionaries({name: st.floats(0, 100) for name in FIGURES})
    verdicts = st.none() | st.builds(Verdict, figures, st.sampled_from(["px", "mm", "latent"]), st.booleans())
    beside = {"provenance": provenances, "metrics": st.dictionaries(words, st.floats()), "verdict": verdicts}
    return Described(
        scene,
        TinyTokenizerConfig(channels, draw(st.sampled_from([1, 4])), (2, 3), draw(st.integers(0, 1))),
        draw(st.none() | reads) if scene.markers and scene.workspace_low else None,
        draw(networks(channels, scene.action_dim)),
        draw(st.none() | words),
        draw(st.integers(0, 2)),
        draw(st.lists(words, min_size=1, max_size=3)),
        draw(st.fixed_dictionaries(beside)),
    )


def same(one, other):
    """Equal values of equal types; what is no number is the same as itself."""
    if isinstance(one, dict | list | tuple) and type(one) is type(other) and len(one) == len(other):
        if isinstance(one, dict):
            return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
        return all(map(same, one, other))
    return type(one) is type(other) and (
        one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
    )


def assert_same(found, model):
    assert type(found.dynamics) is type(model.dynamics)
    assert found.dynamics.config == model.dynamics.config
    assert found.contexts.kinds == model.contexts.kinds
    tensors = [{**own.state_dict(), **vars(own.contexts), "kinds": torch.empty(0)} for own in (found, model)]
    torch.testing.assert_close(*tensors, rtol=0, atol=0, equal_nan=True)
    assert found.perception.config() == model.perception.config()
    assert (found.scene, found.verdict) == (model.scene, model.verdict)
    assert same(found.provenance, model.provenance)
    assert same(found.metrics, model.metrics)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(QUIET, max_examples=400 if THOROUGH else 10)
@given(described=world_models(), name=st.sampled_from(["model", "mödel, ein", " - 'b': ~", "🎲"]))
def test_a_bundle_is_read_as_it_was_written(described, name):
    model = described.made()
    with tempfile.TemporaryDirectory() as home:
        folder = model.save(Path(home) / name)
        loaded = WorldModel.load(folder, "cpu")
        assert_same(loaded, model)
        assert verify(folder) == len(files(folder)) - 1
        assert_same(WorldModel.load(loaded.save(Path(home) / "again"), "cpu"), model)
        assert sorted(os.listdir(home)) == sorted([name, "again"])


@contextlib.contextmanager
def failing(at, error):
    """Let the so many-th thing that is done to a file fail half way, or the process be killed there."""
    left = at

    def instead(original):
        @functools.wraps(original)
        def call(*arguments, **named):
            nonlocal left
            left -= 1
            if left != -1:
                return original(*arguments, **named)
            if original.__name__ == "write_bytes":
                original(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if original.__name__ == "serialize_file":
                Path(arguments[1]).write_bytes(b"half")
            if error is Killed:
                patch.setattr(shutil, "rmtree", lambda *_, **__: None)
                patch.setattr(Path, "unlink", lambda *_, **__: None)
            raise error("no more")

        return call

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(error):
        for owner, name in WRITES:
            patch.setattr(owner, name, instead(getattr(owner, name)))
        if error is Killed:
            patch.setattr(os, "getpid", lambda: NO_PROCESS)
        yield patch


SMALL = Described(
    Scene("small", 10.0, (8, 8), (-1.0,), (1.0,)),
    TinyTokenizerConfig(2, 4, (2, 3), 0),
    None,
    ProbabilisticPlusConfig(2, 1, 1, 2, 1, 1),
    None,
    0,
    ["push"],
    {"metrics": {"error": 1.5}},
)
stops = st.sampled_from([OSError, MemoryError, KeyboardInterrupt, Killed])


@settings(QUIET, max_examples=400 if THOROUGH else 10)
@given(at=st.integers(0, 80), error=stops, made=st.booleans())
def test_a_bundle_that_could_not_be_written_is_not_there_and_can_be_written_again(at, error, made):
    model = SMALL.made()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "bundle"
        if made:
            folder.mkdir()
        with failing(at, error):
            model.save(folder)
        assert error is Killed or os.listdir(home) in ([], ["bundle"])
        if not (folder.exists() and os.listdir(folder)):
            model.save(folder)
        assert_same(WorldModel.load(folder, "cpu"), model)
        assert verify(folder) == len(files(folder)) - 1
        assert os.listdir(home) == ["bundle"]


@settings(QUIET, max_examples=400 if THOROUGH else 10)
@given(at=st.integers(0, 35), error=stops)
def test_figures_that_could_not_be_written_are_the_old_or_the_new_ones(at, error):
    model = SMALL.made()
    with tempfile.TemporaryDirectory() as home:
        folder = model.save(Path(home) / "bundle")
        old, model.metrics = model.metrics, {"error": 2.5}
        with failing(at, error):
            model.save_metrics()
        loaded = WorldModel.load(folder, "cpu")
        assert loaded.metrics in (old, model.metrics)
        assert (folder / "README.md").read_text(encoding="utf-8") == model_card(loaded)
        assert verify(folder) == len(files(folder)) - 1
        model.save_metrics()
        assert_same(WorldModel.load(folder, "cpu"), model)
        assert os.listdir(home) == ["bundle"]


def test_a_bundle_is_still_there_where_names_cannot_be_exchanged_and_its_successor_cannot_take_its_place(tmp_path):
    model = SMALL.made()
    folder, rename = model.save(tmp_path / "bundle"), Path.rename

    def once_refused(path, target):
        if target == folder:
            patch.setattr(Path, "rename", rename)
            raise OSError("no more")
        return rename(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "_exchanged", lambda one, other: False)  # as on other systems, and on some disks
        patch.setattr(Path, "rename", once_refused)
        with pytest.raises(OSError, match="no more"):
            model.save_metrics()
    assert_same(WorldModel.load(folder, "cpu"), model)
