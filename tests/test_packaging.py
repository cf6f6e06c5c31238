import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAPPED = {folder: f"cosmos_isaac_wm.{folder}" for folder in ("envs", "policies", "train")}
SOURCES = ["cosmos_isaac_wm", *MAPPED]


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def shipped() -> dict[str, Path]:
    """Every file that a user needs, by its path in the installed package."""
    found = {}
    for folder in SOURCES:
        base = Path(folder) if folder not in MAPPED else Path("cosmos_isaac_wm") / folder
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[(base / path.relative_to(ROOT / folder)).as_posix()] = path
    return found


def test_setup_lists_every_package_there_is(setup):
    listed = setup["options"]["packages"].split()
    folders = {Path(name).parent.as_posix().replace("/", ".") for name in shipped() if name.endswith("/__init__.py")}
    assert sorted(listed) == sorted(folders)
    mapping = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    assert mapping == {"cosmos_isaac_wm": "cosmos_isaac_wm", **{name: folder for folder, name in MAPPED.items()}}


def test_every_folder_of_code_is_a_package():
    for name, path in shipped().items():
        if path.suffix == ".py":
            assert (path.parent / "__init__.py").is_file(), name


def test_the_wheel_contains_every_file_and_nothing_beside_the_package(tmp_path):
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", tmp_path]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(shipped()) - names == set()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"cosmos_isaac_wm"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_type_checkers_view_covers_the_whole_package():
    view = ROOT / ".typing" / "cosmos_isaac_wm"
    expected = {path.name: path for path in (ROOT / "cosmos_isaac_wm").iterdir() if path.name != "__pycache__"} | {
        folder: ROOT / folder for folder in MAPPED
    }
    links = {path.name: path for path in view.iterdir()}
    missing, stale = sorted(expected.keys() - links.keys()), sorted(links.keys() - expected.keys())
    assert not missing, (
        f"cd .typing/cosmos_isaac_wm && ln -s {' '.join(f'../../cosmos_isaac_wm/{m}' for m in missing)} ."
    )
    assert not stale, f"cd .typing/cosmos_isaac_wm && rm {' '.join(stale)}"
    for name, link in links.items():
        assert link.is_symlink()
        assert not link.readlink().is_absolute()
        assert link.resolve() == expected[name].resolve()


def test_every_requirement_is_pinned_in_the_constraints(setup):
    def normal(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {normal(name) for name in pins}
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins.values())  # no local versions such as +cpu
    wanted = setup["options"]["install_requires"] + "".join(setup["options.extras_require"].values())
    names = {normal(re.match(r"[\w.-]+", line)[0]) for line in wanted.split("\n") if line.strip()}
    assert names - {"cosmos-isaac-wm"} <= pinned


def test_no_tracked_file_names_a_place_of_one_machine():
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"], capture_output=True
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    machine = re.compile(r"(?<![\w.}])/(?:" + "|".join(["work", "home", "root", "Users", "mnt"]) + r")/\w")
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            try:
                text = path.read_text()
            except UnicodeDecodeError:
                continue
            assert not (found := machine.search(text)), f"{name}: {found and found[0]}"
