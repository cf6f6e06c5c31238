"""Where is what lies on the Hugging Face hub? Downloaded once into the hub's own cache, and pushed there as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

HUB = "hf://"
# What bundles are made of. Nothing else is pushed or downloaded: no pickle, no code.
KEPT = ("*.safetensors", "*.yaml", "*.json", "*.hdf5", "*.md", "*.png", "*SHA256SUMS")
_NAME = re.compile(rf"{HUB}(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w-][\w./-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOGIN = "log in with `hf auth login`, or set the environment variable HF_TOKEN to a token from your hub settings"


def parsed(name: str, error: type[Exception] = ValueError) -> tuple[str, str | None]:
    """Owner/name of "hf://owner/name" or "hf://owner/name@revision", and the revision if one is pinned.

    Raises:
        error: If it is no such name.
    """
    found = _NAME.fullmatch(name)
    if found is None or ".." in name:
        raise error(f"{name!r} is no {HUB}owner/repository or {HUB}owner/repository@revision")
    return found["repository"], found["revision"]


def downloaded(
    name: str,
    kind: str = "model",
    error: type[Exception] = ValueError,
    kept: tuple[str, ...] | None = None,
    holds: str | None = None,
) -> Path:
    """The folder of a repository in the hub's cache; without a network what was downloaded before.

    A commit that is in the cache is not asked for again.

    Args:
        name: "hf://owner/repository", with "@revision" (a branch, a tag or a commit) for another than the newest.
        kind: "model" or "dataset".
        error: What to raise.
        kept: Patterns of the files that are downloaded; all when not given.
        holds: A file that it must have.

    Raises:
        error: If there is no such repository or revision, it lacks `holds`, a file leads out of the folder, or the hub
            cannot be reached and the cache does not have it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, revision = parsed(name, error)
    patterns = None if kept is None else list(kept)
    with _in_words(name, kind, error):
        if revision is not None and _COMMIT.fullmatch(revision):
            try:
                cached = Path(
                    snapshot_download(
                        repository, repo_type=kind, revision=revision, allow_patterns=patterns, local_files_only=True
                    )
                )
            except LocalEntryNotFoundError:
                pass
            else:
                must_stay_inside(cached, error)
                return cached
        names = _listed(repository, revision, kind)
        if names is not None:
            if leaving := [each for each in names if _leaves(each)]:
                raise error(f"{name} has a file {leaving[0]!r}, which leads out of its folder; nothing was downloaded")
            if holds is not None and holds not in names:
                raise error(f"{name} is there, but holds no bundle: it has no {holds}")
        folder = Path(snapshot_download(repository, repo_type=kind, revision=revision, allow_patterns=patterns))
    must_stay_inside(folder, error)
    return folder


def upload(folder: Path, name: str, message: str, private: bool = False, mark: str = "config.yaml") -> str:
    """Make the files of a folder the content of a repository, in one commit; it is created if it is not there.

    Args:
        folder: What to push; files that `KEPT` does not name stay behind.
        name: "hf://owner/repository".
        message: Of the commit.
        private: Whether a repository that is created is for its owner only.
        mark: A file by which an earlier version of the same is known.

    Returns:
        The commit.

    Raises:
        ValueError: If nobody is logged in, the repository holds something else, or the hub refuses.
    """
    from huggingface_hub import HfApi, get_token

    repository, revision = parsed(name)
    if revision is not None:
        raise ValueError(f"{name!r} pins a revision; a push makes a new one, so leave @{revision} away")
    if get_token() is None:
        raise ValueError(f"nobody is logged in to the Hugging Face hub: {_LOGIN}")
    api = HfApi()
    with _in_words(name, "model", ValueError):
        api.create_repo(repository, private=private, exist_ok=True)
        there = [each for each in api.list_repo_files(repository) if each != ".gitattributes"]
        if there and mark not in there:
            raise ValueError(
                f"{name} exists and holds other files ({', '.join(there[:3])}{', ...' if there[3:] else ''}), no "
                "bundle; choose another name"
            )
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
            allow_patterns=list(KEPT),
            delete_patterns="*",  # of an earlier version, which its own commit keeps
        )
    return str(commit.oid)


def must_stay_inside(folder: Path, error: type[Exception]) -> None:
    """Refuse a downloaded folder with a link that leads elsewhere than into the cache's own files.

    Raises:
        error: Names it.
    """
    roots = folder.resolve(), folder.resolve().parent.parent / "blobs"
    for path in folder.rglob("*"):
        if not any(path.resolve().is_relative_to(root) for root in roots):
            raise error(f"{path} leads out of its folder, to {path.resolve()}; remove {folder} and download it again")


def _listed(repository: str, revision: str | None, kind: str) -> list[str] | None:
    """Names of all files, None where the hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        api = HfApi()  # neither of these tries again and again
        there = (api.model_info if kind == "model" else api.dataset_info)(repository, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (OSError, _no_answer()):
        return None
    return [file.rfilename for file in there.siblings or []]


def _no_answer() -> type[Exception]:
    """What the client's own HTTP library raises where nobody answers; which library that is depends on its version."""
    from huggingface_hub import errors

    return errors.HTTPError  # type: ignore[attr-defined,no-any-return]


def _leaves(name: str) -> bool:
    """Whether a file of that name would lie elsewhere than in the folder, on any system."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts


@contextmanager
def _in_words(name: str, kind: str, error: type[Exception]) -> Iterator[None]:
    """Say in one line what the hub's errors mean.

    Raises:
        error: With what can be done.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as problem:
        raise error(f"{name!r} is no {HUB}owner/repository: {problem}") from problem
    except GatedRepoError as problem:
        raise error(f"{name} is gated: ask its owner on its page for access, then {_LOGIN}") from problem
    except RepositoryNotFoundError as problem:
        raise error(
            f"{name}: {constants.ENDPOINT} has no such {kind} repository, or it is not yours to see: {_LOGIN}"
        ) from problem
    except RevisionNotFoundError as problem:
        raise error(
            f"{name}: the repository has no such revision; expected a branch, a tag or a commit of it"
        ) from problem
    except LocalEntryNotFoundError as problem:
        raise error(
            f"{name}: {constants.ENDPOINT} cannot be reached (or HF_HUB_OFFLINE is set), and the whole of it is not in "
            f"the cache {constants.HF_HUB_CACHE}"
        ) from problem
    except HfHubHTTPError as problem:
        advice = f"; {_LOGIN}" if problem.response.status_code in (401, 403) else ""
        raise error(f"{name}: the hub refuses: {' '.join(str(problem).split())[:300]}{advice}") from problem
    except ValueError as problem:  # the client's own, such as on a name that leaves the folder, or ours
        if isinstance(problem, error):
            raise
        raise error(f"{name}: {problem}") from problem
    except _no_answer() as problem:
        raise error(f"{name}: {constants.ENDPOINT} cannot be reached: {problem}") from problem
