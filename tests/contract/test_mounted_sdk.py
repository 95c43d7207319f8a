"""The SDK is the same whether a workspace is mounted or not: each script gives equal answers, and leaves equal trees.

Each script runs on two vaults that were made of one source: in one the workspace is mounted, and its session does the
work.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import pytest

from avfs_git.errors import AvfsError
from avfs_git.model import Identity
from avfs_git.sdk import Avfs, Workspace
from tests.support.trees import describe_tree
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow]

ADA = Identity("Ada Author", "ada@example.org")
_UNEQUAL = {
    "id",
    "head",
    "base",
    "old",
    "target_commit",
    "parents",
    "saved",
    "created_at_ns",
    "mtime_ns",
    "sidecar",
    "forked_at",
}
"""Fields that hold a time, or an id of something that has one."""
_IDS = re.compile(r"\b(?:[0-9a-f]{40}|[0-9a-f]{12})\b")
_BIG = bytes(range(256)) * 8192 + b"end"

Step = Callable[[Workspace, Path], object]


def make_source(directory: Path) -> Path:
    """Make what both vaults begin with."""
    (directory / "src" / "deep").mkdir(parents=True)
    (directory / "README").write_bytes(b"read me\n")
    (directory / "src" / "main.py").write_bytes(b"print('hello')\n")
    (directory / "src" / "deep" / "data.bin").write_bytes(_BIG)
    (directory / "link").symlink_to("src/main.py")
    (directory / "tool").write_bytes(b"#!/bin/sh\n")
    (directory / "tool").chmod(0o755)
    (directory / ".gitignore").write_bytes(b"*.o\nbuild/\n")
    (directory / "build").mkdir()
    (directory / "build" / "out.o").write_bytes(b"object")
    (directory / "empty").mkdir()
    return directory


def plain(value: object) -> object:
    """Turn an answer into something that is equal where only times and ids differ."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in _UNEQUAL
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _IDS.sub("ID", value) if isinstance(value, str) else value


def outcome(step: Step, work: Workspace, scratch: Path) -> object:
    """Do a step; tell what came of it, an error included."""
    try:
        return plain(step(work, scratch))
    except AvfsError as error:
        details = {key: value for key, value in error.details.items() if key not in ("pid", "holder")}
        return (
            type(error),
            error.code,
            error.exit_code,
            _IDS.sub("ID", error.message),
            error.hint,
            str(plain(str(details))),
        )


def _tar() -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in (("in/one", b"1"), ("in/two", _BIG)):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(data), 1_600_000_000, 0o640
            archive.addfile(member, io.BytesIO(data))
    made.seek(0)
    return made


def _exported_tar(work: Workspace, _: Path) -> object:
    made = io.BytesIO()
    result = work.export_tar("/src", made)
    made.seek(0)
    with tarfile.open(fileobj=made) as archive:
        return result, [(member.name, member.mode, member.size) for member in archive]


def _host_tree(directory: Path) -> list[tuple[str, str, bytes]]:
    found = []
    for path in sorted(directory.rglob("*")):
        kind = stat.filemode(path.lstat().st_mode)
        found.append((str(path.relative_to(directory)), kind, path.read_bytes() if path.is_file() else b""))
    return found


def _exported(work: Workspace, scratch: Path) -> object:
    work.export_path("/", scratch / "made" / "below")
    work.export_path("src/main.py", scratch / "made")
    return _host_tree(scratch / "made")


def _imported(work: Workspace, scratch: Path) -> object:
    (scratch / "given" / "sub").mkdir(parents=True)
    (scratch / "given" / "sub" / "file").write_bytes(b"given")
    (scratch / "given" / "out").symlink_to("/etc/passwd")
    os.setxattr(scratch / "given" / "sub" / "file", "user.note", b"kept")
    return dataclasses.replace(work.import_path(scratch / "given", "/taken"), source=""), work.import_path(
        scratch / "given" / "sub" / "file", "/src"
    ).files


def _pieces() -> Iterator[bytes]:
    yield from (b"one ", b"two ", _BIG)


SCRIPTS: dict[str, list[Step]] = {
    "files": [
        lambda w, _: w.write("new/deep/file", b"content"),
        lambda w, _: w.write("README", b"other\n"),
        lambda w, _: w.write("README", b"more\n", append=True),
        lambda w, _: w.read("README"),
        lambda w, _: w.write("README", b"never", expect=""),
        lambda w, _: w.write("README", b"yes", expect=str(w.stat("README", with_oid=True).oid)),
        lambda w, _: w.write("script", b"#!", executable=True),
        lambda w, _: w.write("nowhere/x", b"", parents=False),
        lambda w, _: w.write("src", b"a directory"),
        lambda w, _: w.write("../escape", b""),
        lambda w, _: w.read("nope"),
        lambda w, _: w.read("src"),
        lambda w, _: w.read("link"),
        lambda w, _: w.read("src/deep/data.bin") == _BIG,
        lambda w, _: b"".join(w.open_read("src/deep/data.bin")) == _BIG,
        lambda w, _: w.write("large", _BIG * 2),
        lambda w, _: w.read("large") == _BIG * 2,
        lambda w, _: w.write_from("streamed", _pieces()),
        lambda w, _: w.write_from("streamed", _pieces(), append=True),
        lambda w, _: [len(piece) for piece in w.open_read("streamed")],
    ],
    "names": [
        lambda w, _: w.make_dir("d"),
        lambda w, _: w.make_dir("d"),
        lambda w, _: w.make_dir("p/q/r", parents=True),
        lambda w, _: w.move("README", "d"),
        lambda w, _: w.move("src", "source"),
        lambda w, _: w.copy("source", "copied"),
        lambda w, _: w.copy("source", "copied", recursive=True),
        lambda w, _: w.remove("source"),
        lambda w, _: w.remove("source", recursive=True),
        lambda w, _: w.remove("source"),
        lambda w, _: w.remove("source", missing_ok=True),
        lambda w, _: w.remove("tool", expect="0" * 40),
        lambda w, _: w.symlink("dangling", b"no/where"),
        lambda w, _: w.read_link("dangling"),
        lambda w, _: w.link("tool", "tool2"),
        lambda w, _: w.chmod("tool2", 0o700),
        lambda w, _: w.stat("tool"),
        lambda w, _: w.touch("copied/main.py", mtime_ns=1_234_567_890_123_456_789).mtime_ns,
        lambda w, _: w.touch("made-by-touch"),
        lambda w, _: w.list_dir("/"),
        lambda w, _: w.tree("/"),
        lambda w, _: w.tree("/", depth=1),
        lambda w, _: w.exists("copied"),
        lambda w, _: w.exists("d/nope"),
        lambda w, _: w.stat("link", follow=True),
        lambda w, _: w.write(b"\xff\xfe name\n", b"not UTF-8"),
        lambda w, _: w.list_dir("d"),
    ],
    "checkpoints": [
        lambda w, _: w.status(),
        lambda w, _: w.write("a", b"1"),
        lambda w, _: w.write("build/new.o", b"ignored"),
        lambda w, _: w.status(),
        lambda w, _: w.diff(),
        lambda w, _: w.checkpoint("one", description="the first"),
        lambda w, _: w.checkpoint("one"),
        lambda w, _: w.checkpoint(),
        lambda w, _: w.checkpoint(""),
        lambda w, _: w.checkout_path("/", at="one"),
        lambda w, _: w.symlink("nul", b"a\0b"),
        lambda w, _: w.touch("never", mtime_ns=10**30),
        lambda w, _: w.write("a", b"2"),
        lambda w, _: w.remove("src", recursive=True),
        lambda w, _: w.remove("build", recursive=True),
        lambda w, _: w.diff("one", patches=False),
        lambda w, _: w.restore("one", dry_run=True),
        lambda w, _: w.restore("nowhere"),
        lambda w, _: w.restore("one", paths=["src"]),
        lambda w, _: w.restore("one", paths=["never-there"]),
        lambda w, _: w.restore("one"),
        lambda w, _: w.restore("one"),
        lambda w, _: w.read("a"),
        lambda w, _: w.undo(),
        lambda w, _: w.read("a"),
        lambda w, _: w.redo(),
        lambda w, _: w.undo(),
        lambda w, _: w.undo(),
        lambda w, _: [operation.kind for operation in w.operations()],
        lambda w, _: w.status(),
    ],
    "versions": [
        lambda w, _: [(w.write("f", b"%d" % n), w.checkpoint(f"v{n}")) for n in range(3)],
        lambda w, _: w.path_versions("f"),
        lambda w, _: w.checkout_path("f", version=1),
        lambda w, _: w.read("f"),
        lambda w, _: w.checkout_path("f", at="v1"),
        lambda w, _: w.revert_path("f"),
        lambda w, _: w.read("f"),
        lambda w, _: w.revert_path("README"),
        lambda w, _: w.restore("v0", into="other").fork,
        lambda w, _: w.vault.workspace("other").read("f"),
        lambda w, _: (w.write("g", b"uncommitted"), w.vault.fork("third", source=w.fork).read("g")),
        lambda w, _: w.log(),
        lambda w, _: w.list_checkpoints(),
        lambda w, _: w.delete_checkpoint("v1"),
        lambda w, _: w.vault.undo(),
        lambda w, _: w.vault.undo(),
        lambda w, _: w.vault.redo(),
    ],
    "merging": [
        lambda w, _: w.checkpoint("start"),
        lambda w, _: [w.vault.fork(name, source="work").fork for name in ("side", "rival", "alone")],
        lambda w, _: w.vault.workspace("side").write("README", b"theirs\n"),
        lambda w, _: w.vault.workspace("side").write("build/side.o", b"ignored"),
        lambda w, _: w.vault.workspace("side").remove("src/deep", recursive=True),
        lambda w, _: w.vault.workspace("rival").write("README", b"rival\n"),
        lambda w, _: w.write("mine", b"uncommitted\n"),
        lambda w, _: w.merge("side", dry_run=True),
        lambda w, _: w.merge("side"),
        lambda w, _: w.tree("/"),
        lambda w, _: w.undo(),
        lambda w, _: w.redo(),
        lambda w, _: w.merge("rival"),
        lambda w, _: w.merge("rival", on_conflict="workspace"),
        lambda w, _: w.status(),
        lambda w, _: w.checkpoint(),
        lambda w, _: w.undo(),
        lambda w, _: w.continue_merge(),
        lambda w, _: w.abort_merge(),
        lambda w, _: w.undo(),
        lambda w, _: w.status(),
        lambda w, _: w.redo(),
        lambda w, _: w.read("README"),
        lambda w, _: w.merge("rival", on_conflict="workspace"),
        lambda w, _: w.write("large", _BIG * 2),
        lambda w, _: w.resolve("README", content=_BIG),
        lambda w, _: w.continue_merge(),
        lambda w, _: w.status(),
        # The other way round: what is mounted is the source, with something uncommitted.
        lambda w, _: w.write("more", b"more\n"),
        lambda w, _: w.vault.workspace("alone").merge("work"),
        lambda w, _: w.vault.workspace("alone").read("more"),
        lambda w, _: w.vault.workspace("side").write("picked", b"picked\n"),
        lambda w, _: w.vault.workspace("side").checkpoint("pick"),
        lambda w, _: w.cherry_pick(["side@pick"]),
        lambda w, _: (
            w.write("again", b"1"),
            w.checkpoint("n1").outcome,
            w.write("again", b"2"),
            w.checkpoint("n2").outcome,
        ),
        lambda w, _: w.squash("HEAD~2", "HEAD"),
        lambda w, _: w.vault.workspace("alone").write("base", b"base\n"),
        lambda w, _: w.rebase("alone"),
        lambda w, _: w.rebase("rival"),
        lambda w, _: w.rebase("rival", on_conflict="workspace"),
        lambda w, _: w.resolve("README", "theirs"),
        lambda w, _: w.continue_rewrite(),
        lambda w, _: w.status(),
        lambda w, _: w.abort_merge(),
        lambda w, _: w.cherry_pick(["rival"], on_conflict="workspace"),
        lambda w, _: w.status(),
        lambda w, _: w.abort_merge(),
        lambda w, _: w.merge_many(["side", "rival", "alone"]),
        lambda w, _: w.tree("/"),
        lambda w, _: w.status(),
    ],
    "transfers": [
        _imported,
        _exported,
        _exported_tar,
        lambda w, _: w.import_tar(_tar(), "unpacked"),
        lambda w, _: w.import_tar(io.BytesIO(b"no archive"), "x"),
        lambda w, scratch: w.export_path("nope", scratch / "x"),
        lambda w, scratch: w.export_path("src", scratch / "y", recursive=False),
        lambda w, scratch: w.import_path(scratch / "not there").files,
        lambda w, _: w.tree("/"),
    ],
}


@contextmanager
def workspace(home: Path, source: Path, directory: Path | None, backend: str = "auto") -> Iterator[Workspace]:
    """A workspace of a vault of its own, mounted if a directory is given."""
    with Avfs(home, identity=ADA) as avfs, avfs.create_vault("v", source=source) as vault:
        work = vault.fork("work")
        if directory is None:
            yield work
            return
        with work.mount(directory, backend=backend):
            yield work


def seen_by_programs(directory: Path) -> list[tuple[str, str, object]]:
    """Describe what a directory shows through the kernel."""
    found: list[tuple[str, str, object]] = []
    for here, dirs, files in os.walk(directory):
        for name in (*dirs, *files):
            path = Path(here, name)
            if path == directory / ".git":
                continue
            mode = path.lstat().st_mode
            held: object = None
            if stat.S_ISREG(mode):
                held = path.read_bytes()
            elif stat.S_ISLNK(mode):
                held = path.readlink()
            found.append((str(path.relative_to(directory)), stat.filemode(mode), held))
    return sorted(found, key=lambda entry: entry[0])


@pytest.mark.parametrize(
    "backend",
    [
        "fuse",
        pytest.param("portable", marks=pytest.mark.needs("libfuse")),
        pytest.param("overlay", marks=pytest.mark.needs("root", "overlayfs")),
    ],
)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_mounted_workspace_answers_like_one_that_is_not(
    script: str, backend: str, tmp_path: Path, mount_dir: Path
) -> None:
    """Each step gives the same result or error, and the trees are the same in the end, also through the kernel."""
    source = make_source(tmp_path / "source")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        workspace(tmp_path / "home1", source, None) as alone,
        workspace(tmp_path / "home2", source, mount_dir / "m", backend) as mounted,
    ):
        for number, step in enumerate(SCRIPTS[script]):
            seen_by_programs(mount_dir / "m")  # so that the kernel has everything to forget
            expected = outcome(step, alone, tmp_path / "one")
            found = outcome(step, mounted, tmp_path / "two")
            assert _without(found, tmp_path / "two") == _without(expected, tmp_path / "one"), f"step {number}"
        alone.export_path("/", tmp_path / "exported")
        seen = seen_by_programs(mount_dir / "m")
        mounted.export_path("/", tmp_path / "exported2")
        assert seen_by_programs(tmp_path / "exported2") == seen_by_programs(tmp_path / "exported")
        # An export gives the bits for everybody only as far as they go; what programs see has all of them.
        assert [entry[::2] for entry in seen] == [entry[::2] for entry in seen_by_programs(tmp_path / "exported")]
        status = plain(mounted.status())
        assert status == plain(alone.status())
        assert describe_tree(alone._opened.read_view())
    with Avfs(tmp_path / "home2") as avfs, avfs.open_vault("v") as vault:
        # After the session, which a look that kept the mounted directory open would hold up, from what is on disk.
        wait_for(lambda: vault.sessions() == [])
        assert plain(vault.workspace("work").status()) == status


def _without(value: object, scratch: Path) -> str:
    return repr(value).replace(str(scratch), "SCRATCH")
