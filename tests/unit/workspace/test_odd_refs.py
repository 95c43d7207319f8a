"""Refs of avfs's own that are not as avfs makes them, and a `packed-refs` that lacks some: told, and nothing goes."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from avfs_git.model import Problem, Warning
from avfs_git.sdk import Avfs, Vault, Workspace

pytestmark = pytest.mark.usefixtures("unsynced")


def _damaged(vault: Vault) -> list[Problem]:
    return [found for found in vault.doctor().problems if found.code == "ref.damaged"]


def _run_git(vault: Vault, *arguments: str) -> None:
    subprocess.run(["git", "--git-dir", str(vault.path), *arguments], check=True)


@pytest.mark.parametrize("target", ["refs/heads/main", "refs/heads/nowhere", "itself"])
@pytest.mark.parametrize("kind", ["keep", "known", "sidecar"])
def test_a_symbolic_ref_of_avfs_is_mended(vault: Vault, work: Workspace, kind: str, target: str) -> None:
    """It would be taken for one that another process keeps moving."""
    work.write(".gitignore", b"b\n")
    work.write("b", b"")
    work.checkpoint()
    work.write("a", b"")
    work.checkpoint()
    work.undo()
    ref = next((vault.path / "refs" / "avfs" / kind).iterdir())
    name = str(ref.relative_to(vault.path))
    ref.write_text(f"ref: {name if target == 'itself' else target}\n")

    assert [(found.fixable, name in found.description) for found in _damaged(vault)] == [(True, True)]
    assert all(found.fixed for found in vault.doctor(repair=True).problems if found.code == "ref.damaged")
    assert vault.doctor().healthy
    work.write("c", b"")
    work.checkpoint()
    vault.gc()


@pytest.mark.parametrize("name", ["refs/avfs", "refs/avfs/keep", "refs/avfs/known", "refs/avfs/keep/ID/x"])
def test_a_ref_in_the_way_of_others_is_told(vault: Vault, work: Workspace, name: str) -> None:
    """Git deletes it, and all is well."""
    work.write("a", b"")
    work.checkpoint()
    head = (vault.path / "refs" / "heads" / "main").read_bytes()
    place = vault.path / name.replace("ID", "1" * 40)
    if place.exists():
        subprocess.run(["rm", "-r", str(place)], check=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(head)

    (told,) = _damaged(vault)
    command = told.remedy.split("`")[1]
    subprocess.run(shlex.split(command), cwd=vault.path, check=True)
    assert vault.doctor().healthy
    work.write("b", b"")
    work.checkpoint()
    vault.gc()


@pytest.mark.parametrize("change", ["no order", "twice", "a name"])
def test_lines_of_packed_refs_that_mean_nothing_certain_are_told(vault: Vault, work: Workspace, change: str) -> None:
    """A look-up in a large file goes by its order, and git by its own rules for names."""
    work.write("a", b"")
    work.checkpoint()
    vault.fork("side")
    _run_git(vault, "pack-refs", "--all")
    packed = vault.path / "packed-refs"
    header, *lines = packed.read_text().splitlines(keepends=True)
    line = next(line for line in lines if line.endswith("refs/heads/side\n"))
    changed = {
        "no order": lines[::-1],
        "twice": [*lines, line],
        "a name": [*lines, line.replace("side", "si..de")],
    }
    packed.write_text("".join([header, *changed[change]]))

    (told,) = _damaged(vault)
    assert "'packed-refs' is damaged" in told.description


def test_a_damaged_packed_refs_puts_no_workspace_away(vault: Vault, work: Workspace) -> None:
    """The branch may be on a line that cannot be read, and a backup of the file brings it back."""
    work.write("a", b"")
    work.checkpoint()
    vault.fork("side").write("b", b"not saved")
    _run_git(vault, "pack-refs", "--all")
    packed = vault.path / "packed-refs"
    whole = packed.read_bytes()
    packed.write_bytes(whole[: whole.index(b"refs/heads/side") + 8])

    vault.doctor(repair=True)
    packed.write_bytes(whole)
    assert vault.doctor().healthy
    assert vault.workspace("side").read("b") == b"not saved"


@pytest.mark.slow
def test_a_directory_in_place_of_a_lock_is_told(vault: Vault, work: Workspace) -> None:
    """Nothing can lock that ref."""
    work.write("a", b"")
    work.checkpoint()
    lock = vault.path / "refs" / "heads" / "main.lock"
    lock.mkdir()
    os.utime(lock, (0, 0))

    assert [(found.code, found.fixable) for found in vault.doctor().problems] == [("lock.left", False)]


@pytest.mark.parametrize("damage", ["a blob", "garbage"])
def test_a_command_is_done_also_where_its_note_cannot_be_added(vault: Vault, work: Workspace, damage: str) -> None:
    """The commit comes first: a warning says that it has no note, and the doctor why."""
    work.write("a", b"text\n")
    work.checkpoint()
    blob = subprocess.run(
        ["git", "--git-dir", str(vault.path), "rev-parse", "main:a"], check=True, capture_output=True
    ).stdout
    notes = vault.path / "refs" / "notes" / "avfs"
    notes.parent.mkdir(parents=True, exist_ok=True)
    notes.write_bytes(blob if damage == "a blob" else b"garbage\n")

    done = work.exec(shell="echo 1 > file")
    assert (done.exit_code, [warning.code for warning in done.warnings]) == (0, ["aftermath.failed"])
    assert done.commit is not None
    assert work.read("file") == b"1\n"
    (told,) = _damaged(vault)
    assert "refs/notes/avfs" in told.description


@pytest.mark.parametrize("content", ["garbage\n", f"{'1' * 40}\n", ""])
def test_a_damaged_label_is_named_where_labels_are_listed(tmp_path: Path, content: str) -> None:
    """The others are listed all the same, and its commit without it."""
    told: list[Warning] = []
    with Avfs(tmp_path / "home", on_warnings=told.extend) as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        for label in ("one", "two"):
            work.write("a", label.encode())
            work.checkpoint(label)
        (vault.path / "refs" / "avfs" / "checkpoints" / "main" / "one").write_text(content)

        listed = [point.labels for point in work.list_checkpoints()]

        assert listed == [("two",), ()]
        assert [(warning.code, "'one'" in warning.message) for warning in told] == [("label.damaged", True)]
        assert len(_damaged(vault)) == 1
