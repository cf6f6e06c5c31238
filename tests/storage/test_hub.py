import pytest
from huggingface_hub import constants

from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.storage.bundle import find_bundle
from cosmos_isaac_wm.storage.hub import parsed, upload
from cosmos_isaac_wm.world_model import WorldModel
from tests.hub import local_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with local_hub(tmp_path / "cache", monkeypatch) as hub:
        yield hub


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def published(hub, bundle):
    """The toy bundle, already on the hub."""
    hub.create("me/toy")
    hub.commit("me/toy", files_of(bundle))
    return "hf://me/toy"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf://me/toy", ("me/toy", None)),
        ("hf://me/my.toy-1@v1", ("me/my.toy-1", "v1")),
        ("hf://me/toy@refs/pr/1", ("me/toy", "refs/pr/1")),
    ],
)
def test_names_may_pin_a_revision(name, expected):
    assert parsed(name) == expected


@pytest.mark.parametrize("name", ["hf://toy", "hf://me/", "hf://a/b/c", "hf://../b", "hf://me/toy@", "hf://a/b@../x"])
def test_what_is_no_owner_and_name_is_refused(name):
    with pytest.raises(BundleError, match="is no hf://owner/repository"):
        find_bundle(name)


def test_a_bundle_is_downloaded_once_and_loads_without_a_network(published, hub, bundle, monkeypatch):
    assert WorldModel.load(published, "cpu").fingerprint() == WorldModel.load(bundle, "cpu").fingerprint()
    fetched = [each for each in hub.asked if each.startswith("GET /me/toy/resolve")]
    assert fetched
    assert WorldModel.load(published, "cpu").name == published
    assert [each for each in hub.asked if each.startswith("GET /me/toy/resolve")] == fetched
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert WorldModel.load(published, "cpu").scene.name == "toy"
    assert not hub.asked


def test_a_hub_that_is_gone_is_no_trouble_to_what_was_downloaded(published, monkeypatch):
    find_bundle(published)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find_bundle(published).is_dir()


def test_without_a_network_and_without_a_copy_it_says_where_it_looked(published, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BundleError, match=r"cannot be reached .* not in the cache .*cache"):
        find_bundle(published)


def test_a_pinned_revision_stays_what_it_is_when_another_is_pushed(published, hub, bundle):
    first = hub.branches["me/toy"]["main"]
    hub.commit("me/toy", {**files_of(bundle), "README.md": b"newer"})
    pinned = find_bundle(f"{published}@{first}")
    assert pinned.name == first
    assert (find_bundle(published) / "README.md").read_bytes() == b"newer"
    assert (pinned / "README.md").read_bytes() != b"newer"
    hub.asked.clear()
    assert find_bundle(f"{published}@{first}") == pinned
    assert not hub.asked  # a commit never changes


def test_branches_go_by_name_and_an_unknown_revision_is_an_error(published, hub, bundle):
    commit = hub.commit("me/toy", {**files_of(bundle), "README.md": b"wider"}, branch="wide")
    assert find_bundle(f"{published}@wide").name == commit
    with pytest.raises(BundleError, match=r"hf://me/toy@v9: the repository has no such revision"):
        find_bundle(f"{published}@v9")


def test_a_repository_that_is_not_there_may_be_private(hub):
    with pytest.raises(BundleError, match=r"no such model repository, or it is not yours.*hf auth login.*HF_TOKEN"):
        find_bundle("hf://me/nothing")


def test_what_is_no_bundle_is_not_downloaded(hub):
    hub.create("me/poem")
    hub.commit("me/poem", {"poem.md": b"..."})
    with pytest.raises(BundleError, match=r"holds no bundle: it has no config\.yaml"):
        find_bundle("hf://me/poem")
    assert not [each for each in hub.asked if "resolve" in each]


def test_pickles_and_code_stay_on_the_hub(published, hub, bundle):
    hub.commit("me/toy", {**files_of(bundle), "model.pt": b"x", "setup.py": b"x", "agent/policy.pkl": b"x"})
    assert set(files_of(find_bundle(published))) == set(files_of(bundle))


@pytest.mark.parametrize(
    "name", ["../../outside.yaml", "/etc/outside.yaml", "a/../../b.yaml", "a\\..\\b.yaml", "C:b.md"]
)
def test_a_name_that_leaves_the_folder_is_refused_before_anything_is_downloaded(published, hub, bundle, name):
    hub.commit("me/toy", {**files_of(bundle), name: b"x"})
    with pytest.raises(BundleError, match="leads out of its folder; nothing was downloaded"):
        find_bundle(published)
    assert not [each for each in hub.asked if "resolve" in each]


def test_a_hub_that_conceals_such_a_name_at_first_gets_nothing_outside(published, hub, bundle, tmp_path):
    hub.commit("me/toy", {**files_of(bundle), "../../../../outside.yaml": b"x"})
    hub.concealed.add("../../../../outside.yaml")
    with pytest.raises(BundleError, match=r"hf://me/toy: .*outside"):
        find_bundle(published)
    assert not list(tmp_path.rglob("outside.yaml"))
    assert not (tmp_path.parent / "outside.yaml").exists()


def test_a_link_in_the_cache_that_leads_elsewhere_is_refused(published, tmp_path):
    folder = find_bundle(published)
    (tmp_path / "secret.yaml").write_text("x")
    (folder / "extra.yaml").symlink_to(tmp_path / "secret.yaml")
    for name in (published, f"{published}@{folder.name}"):
        with pytest.raises(BundleError, match=r"extra\.yaml leads out of its folder"):
            find_bundle(name)


def test_a_damaged_download_is_noticed(published, hub, bundle):
    files = files_of(bundle)
    hub.commit("me/toy", {**files, "dynamics.safetensors": files["dynamics.safetensors"][:-1] + b"?"})
    with pytest.raises(BundleError, match="is damaged"):
        WorldModel.load(published)


def test_a_folder_is_pushed_in_one_commit_and_loads_from_there(hub, bundle, tmp_path):
    commit = upload(bundle, "hf://me/new", "first")
    assert hub.branches["me/new"]["main"] == commit
    assert len(hub.commits["me/new"]) == 2  # the hub's own, and this
    assert hub.files("me/new")["dynamics.safetensors"] == (bundle / "dynamics.safetensors").read_bytes()
    assert WorldModel.load("hf://me/new", "cpu").fingerprint() == WorldModel.load(bundle, "cpu").fingerprint()


def test_a_second_push_replaces_the_first_which_its_commit_keeps(hub, bundle):
    hub.create("me/toy")
    first = hub.commit("me/toy", {**files_of(bundle), "old.json": b"{}"})
    upload(bundle, "hf://me/toy", "second")
    assert "old.json" not in hub.files("me/toy")
    assert "old.json" in hub.files("me/toy", first)


def test_a_repository_of_something_else_is_not_overwritten(hub, bundle):
    hub.create("me/poem")
    hub.commit("me/poem", {"poem.md": b"..."})
    with pytest.raises(ValueError, match=r"exists and holds other files \(poem\.md\)"):
        upload(bundle, "hf://me/poem", "mine")
    assert list(hub.files("me/poem")) == ["poem.md"]


def test_without_a_token_it_says_how_to_get_one(hub, bundle, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match=r"nobody is logged in.*hf auth login.*HF_TOKEN"):
        upload(bundle, "hf://me/new", "first")
    assert not hub.asked


def test_a_token_that_the_hub_does_not_take_is_an_error_in_one_line(hub, bundle, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError, match="hf auth login") as refusal:
        upload(bundle, "hf://me/new", "first")
    assert "\n" not in str(refusal.value)


def test_a_push_without_a_network_is_an_error(hub, bundle, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="cannot be reached"):
        upload(bundle, "hf://me/new", "first")


def test_a_revision_cannot_be_pushed_to(bundle):
    with pytest.raises(ValueError, match="leave @v1 away"):
        upload(bundle, "hf://me/new@v1", "first")
