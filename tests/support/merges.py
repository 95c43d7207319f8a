"""Made-up histories of commits, merged by git and by avfs: the verdict and the tree must be the same."""

from __future__ import annotations

import random
import signal
import subprocess
from pathlib import Path
from typing import Any

from avfs_git.gitstore.formats.commits import Commit, Signature, serialize_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT
from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_EXEC, MODE_FILE, MODE_SYMLINK, edit_tree
from avfs_git.gitstore.merge.choose import make_engine
from avfs_git.gitstore.merge.engine import ConflictStyle, EngineName, MergedTrees
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import Oid, TreePath
from tests.support.gitrepo import GitRepo, init

Files = dict[bytes, tuple[int, bytes]]

NO_OID = "0" * 40
_ASSERTIONS = (
    b"merged.is_null",
    b"(S_IFMT & a->mode) == (S_IFMT & b->mode)",
    b"source_deleted || oldinfo->filemask & old_sidemask",
)

_DIRECTORIES = [b"", b"a/", b"a/in/", b"b/", b"b/in/deep/", b"c/"]
_NAMES = [b"one", b"two", b"three", b"four", b"a", b"in"]


class Histories:
    """Commits of made-up trees in one repository, and both merges of them."""

    def __init__(self, git_dir: Path) -> None:
        self.git: GitRepo = init(git_dir)
        self.store = ObjectStore(git_dir)
        self.clock_s = 1_700_000_000

    def commit(self, files: Files, *parents: Oid) -> Oid:
        """Commit a tree."""
        writer = PackWriter(self.store)
        edits = {TreePath(path): (mode, writer.add(KIND_BLOB, data)) for path, (mode, data) in files.items()}
        tree = edit_tree(writer, writer, None, edits) if edits else writer.add_tree({})
        self.clock_s += 1
        who = Signature("Ada", "ada@example.org", self.clock_s)
        oid = writer.add(KIND_COMMIT, serialize_commit(Commit(tree or EMPTY_TREE, parents, who, who, "x\n")))
        writer.finish()
        return oid

    def merge(self, name: EngineName, ours: Oid, theirs: Oid, **how: Any) -> MergedTrees:
        """Merge by an engine, with the ids of the commits as labels, and store what it made."""
        with PackWriter(self.store) as writer:
            labels = [side.hex().encode() for side in (ours, theirs)]
            merged = make_engine(name, writer, **how).merge(ours, theirs, our_label=labels[0], their_label=labels[1])
            writer.finish()
        return merged

    def ask_git(self, ours: Oid, theirs: Oid, *more: str) -> subprocess.CompletedProcess[bytes]:
        """Have git merge; what it leaves is in the repository."""
        argv = ["git", f"--git-dir={self.git.git_dir}", *more, "merge-tree", "--write-tree", ours.hex(), theirs.hex()]
        return subprocess.run(argv, check=False, capture_output=True)

    def assert_same_merge(self, ours: Oid, theirs: Oid, *, style: ConflictStyle = ConflictStyle.MERGE) -> None:
        """Merge with git and by the engine that is git's: verdict and tree are the same, markers, names and all."""
        done = self.ask_git(ours, theirs, "-c", f"merge.conflictStyle={style.value}")
        if self.gave_up(done):
            return
        tree, _, told = done.stdout.decode("utf-8", "replace").partition("\n")
        merged = self.merge(EngineName.GIT, ours, theirs, style=style)
        found = merged.tree or EMPTY_TREE
        if found.hex() != tree:
            different = self.git.text("diff-tree", "-r", "-p", "--no-renames", tree, found.hex())
            raise AssertionError(f"git said:\n{told}\ngit's tree against ours:\n{different}\n{merged.conflicts}")
        assert merged.is_clean == (done.returncode == 0), (told, merged.conflicts)

    def gave_up(self, done: subprocess.CompletedProcess[bytes]) -> bool:
        """Whether git gave a merge up by an assertion of its own, as 2.39 does with some: these cannot be compared."""
        gave_up = done.returncode == -signal.SIGABRT and any(assertion in done.stderr for assertion in _ASSERTIONS)
        assert gave_up or done.returncode in (0, 1), done.stderr
        return gave_up

    def is_slip(self, told: str, ours: Oid, theirs: Oid) -> bool:
        """Whether git lost something in a merge of which it told this."""
        tree, _, more = told.partition("\n")
        return self._is_damaged(tree, more) or self._has_forgotten(tree, ours, theirs)

    def _has_forgotten(self, tree: str, ours: Oid, theirs: Oid) -> bool:
        """Tell whether git slipped in another way: a directory where both sides have a file, and no file beside it."""
        kept, other = (
            set(self.git.text("ls-tree", "-r", "--name-only", side.hex()).splitlines()) for side in (ours, theirs)
        )
        listed = self.git.text("ls-tree", "-r", "--name-only", tree).splitlines()
        above = {path[:at] for path in listed for at, character in enumerate(path) if character == "/"}
        return any(not any(path.startswith(lost + "~") for path in listed) for lost in kept & other & above)

    def _is_damaged(self, tree: str, told: str) -> bool:
        """Whether git slipped: a submodule that is nothing, or a file of a side that is in no tree any more.

        The latter happens to what a renamed directory takes below a path that was a file.
        """
        listed = self.git.text("ls-tree", "-r", tree)
        files = {line.partition("\t")[2] for line in listed.splitlines()}
        stages = [line.partition("\t") for line in told.partition("\n\n")[0].splitlines()]
        return f" commit {NO_OID}\t" in listed or any(
            tab and about[-1] in "23" and path not in files for about, tab, path in stages
        )


def make_files(rng: random.Random) -> Files:
    """Make up a tree whose files have lines of their own, so that it is clear which lines are which."""
    files: Files = {}
    for number in range(rng.randint(2, 14)):
        path = rng.choice(_DIRECTORIES) + rng.choice(_NAMES)
        put(files, path, (MODE_FILE, content(rng, number)))
    return files


def content(rng: random.Random, number: int) -> bytes:
    """Make up a file."""
    return b"".join(b"file %d line %d %d\n" % (number, line, rng.randrange(1000)) for line in range(rng.randint(3, 14)))


def put(files: Files, path: bytes, entry: tuple[int, bytes]) -> None:
    """Put a file somewhere, in place of what is in the way."""
    for other in list(files):
        if other.startswith(path + b"/") or path.startswith(other + b"/"):
            del files[other]
    files[path] = entry


def change(rng: random.Random, files: Files) -> Files:
    """Make up what one side did."""
    files = dict(files)
    for _ in range(rng.randint(1, 5)):
        if not files:
            break
        path = rng.choice(sorted(files))
        mode, data = files[path]
        what = rng.randrange(20)
        if what < 6 and mode != MODE_SYMLINK:
            lines = data.splitlines(keepends=True)
            place = rng.randrange(len(lines) + 1)
            lines[place : place + rng.randrange(2)] = [b"changed %d\n" % rng.randrange(10_000)]
            files[path] = (mode, b"".join(lines))
        elif what < 8:
            put(files, rng.choice(_DIRECTORIES) + rng.choice(_NAMES), (MODE_FILE, content(rng, rng.randrange(20, 99))))
        elif what < 10:
            del files[path]
        elif what < 13:
            entry = files.pop(path)
            put(files, rng.choice([*_DIRECTORIES, b"moved/"]) + rng.choice([*_NAMES, path.rpartition(b"/")[2]]), entry)
        elif what < 17:
            directory = path.rpartition(b"/")[0]
            if directory:
                target = rng.choice([b"moved", b"c", b"b/in", b"else/where"])
                moving = {old: files.pop(old) for old in list(files) if old.startswith(directory + b"/")}
                for old, entry in moving.items():
                    put(files, target + old[len(directory) :], entry)
        elif what < 18:
            files[path] = (MODE_EXEC if mode == MODE_FILE else MODE_FILE, data)
        elif what < 19:
            files[path] = (MODE_SYMLINK, b"target%d" % rng.randrange(3))
        else:
            put(files, path + b"/below", (MODE_FILE, content(rng, 50)))
    return files


def cross(
    rng: random.Random, histories: Histories, ours: tuple[Oid, Files], theirs: tuple[Oid, Files]
) -> tuple[Oid, Files]:
    """Commit what somebody made of a merge by hand: ours, some of theirs, and more."""
    files = dict(ours[1])
    for path in sorted(files.keys() | theirs[1].keys()):
        if rng.random() < 0.4:
            if path in theirs[1]:
                put(files, path, theirs[1][path])
            else:
                files.pop(path, None)
    if rng.random() < 0.6:
        files = change(rng, files)
    return histories.commit(files, ours[0], theirs[0]), files
