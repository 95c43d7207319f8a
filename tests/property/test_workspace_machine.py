"""A workspace against a plain directory and C git: random work, checkpoints, forks, restores, undo, crashes of caches.

The oracle is a plain directory in which the same steps are taken, and an index of C git's over it, without what was
beside history before. What a restore brings back is compared with what was saved, entry for entry.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import time
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from avfs_git.errors import NothingToUndo, PathNotFound
from avfs_git.model import Identity
from avfs_git.paths import TreePath
from avfs_git.sdk import Avfs, Vault, Workspace
from avfs_git.workspace.capture.sidecardiff import diff_sidecars, list_added_files
from avfs_git.workspace.forks.fold import fold_some
from tests.support import capabilities, sweep
from tests.support.oracle import GitOracle, git, materialize
from tests.support.steps import Step, make_lower, take_in_directory, take_in_tree
from tests.support.trees import Described, describe_dir, describe_tree

NAMES = [
    b"a", b"b", b"A", b"x.log", b"build", b"nest", b"d e", b"\xff\xfe", b"new\nline", b"back\\slash", b"%5C", b"meta", b"=a",
    b".gitignore", b".gitignore", b".git", b".git", b".GIT", b"git~1", b".gitmodules", b"GITMOD~1", b".Git ",
]  # fmt: skip
CONTENTS = [b"", b"x", b"some content\n", b"\0binary\r\n", b"gitdir: ../elsewhere\n", b"y" * 40]
IGNORES = [
    b"", b"*.log\n", b"build/\n", b"*.log\n!x.log\n", b"/a\n", b"!*.log\n!build/\n", b"*\n", b"*\n!*/\n!a\n!.gitignore\n",
    b"nest\nb\n",
    b"build/*\n!build/a\n", b".gitignore\n", b"a/**/b\n", b"# none\n\\#x\n[ab]\n",
]  # fmt: skip
TARGETS = [b"a", b"../b", b"nowhere", b"x.log"]

_names = st.sampled_from(NAMES)
_picks = st.integers(0, 30)
"""Of what is there, one; picking from what is there keeps most steps from failing."""

View = dict[bytes, Described]


@dataclass
class Saved:
    """A commit with what the workspace showed when it was made."""

    tree: str
    view: View
    restored: frozenset[bytes]
    """Paths that an undo brought back: the sidecar has the times that they had, the workspace newer ones."""


@dataclass
class Done:
    """An operation that can be taken back."""

    before: str | None
    after: str | None
    """Heads."""
    moves_files: bool = False
    label: str | None = None


@dataclass
class Branch:
    """What the test knows of one fork."""

    name: str
    head: str | None
    done: list[Done]
    undone: list[Done]
    labels: dict[str, str]


def content_of(view: View) -> View:
    """Leave out times and which names are links of one file: what a restore has to give back."""
    return {path: (*entry[:4], None, None) for path, entry in view.items()}


def with_times(view: View, without: frozenset[bytes] = frozenset()) -> View:
    """Leave out which names are links of one file, and the times of some paths."""
    return {path: (*entry[:4], None, None if path in without else entry[5]) for path, entry in view.items()}


def expect_same(found: View, expected: View) -> None:
    """Name the entries that differ."""
    differing = {path: (found.get(path), expected.get(path)) for path in found.keys() | expected.keys()}
    differing = {path: pair for path, pair in differing.items() if pair[0] != pair[1]}
    assert not differing, f"found and expected: {differing}"


def is_root_git(path: bytes) -> bool:
    """The `.git` at the root is the live tree's own link to the vault, and in no checkpoint."""
    return path == b".git" or path.startswith(b".git/")


class WorkspaceMachine(RuleBasedStateMachine):
    """Takes every step in a workspace and in a directory."""

    def __init__(self) -> None:
        super().__init__()
        self.base = sweep.scratch_root()
        self.model = self.base / "model"
        self.homes: list[Avfs] = []
        self.saved: dict[str, Saved] = {}
        self.clock = 1_700_000_000
        self.count = 0
        self.noted = 0
        self.branches: dict[str, Branch] = {}
        self.restored: frozenset[bytes] = frozenset()

    # --- helpers -------------------------------------------------------------------------------------------

    def tick(self) -> int:
        self.clock += 1
        return self.clock * 10**9

    def open_home(self) -> Workspace:
        avfs = Avfs(self.base / "home", identity=Identity("Ada Author", "ada@example.org"), clock_ns=self.tick)
        self.homes.append(avfs)
        self.vault: Vault = avfs.open_vault("v")
        return self.vault.workspace(self.branch.name)

    def view(self, *, times: bool = False) -> View:
        return describe_tree(self.work._opened.read_view(), times=times)

    def head(self) -> str | None:
        found = self.vault._core.read_head(self.branch.name)
        return found.hex() if found else None

    def expect_model(self) -> None:
        """The workspace shows what the directory does; links that avfs does not keep are given up there, too."""
        shown, expected = self.view(), describe_dir(self.model)
        expect_same(content_of(shown), content_of(expected))
        if shown != expected:
            materialize(shown, self.model)

    def note_head(self, *, files: bool, view: View | None = None) -> Saved:
        """Take notice of a new commit."""
        head = self.head()
        assert head is not None
        commit = self.vault._core.store.read_commit(self.vault._core.refs.read(f"refs/heads/{self.branch.name}"))  # type: ignore[arg-type]
        saved = self.saved[head] = Saved(commit.tree.hex(), view or self.view(times=True), self.restored)
        self.branch.done.append(Done(self.branch.head, head, moves_files=files))
        self.branch.undone.clear()
        self.branch.head = head
        return saved

    def settle(self) -> None:
        """What comes first in many operations: whatever is uncommitted is saved as a checkpoint."""
        tree = self.oracle.add_all(self.model)
        head = self.head()
        if head != self.branch.head:
            assert self.note_head(files=False).tree == tree

    def expect_clean(self) -> None:
        status = self.work.status()
        assert status.clean, status

    # --- beginning ------------------------------------------------------------------------------------------

    @initialize(source=st.sampled_from(["", "directory", "repository"]))
    def start(self, source: str) -> None:
        self.model.mkdir(mode=0o755)
        avfs = Avfs(self.base / "home", identity=Identity("Ada Author", "ada@example.org"), clock_ns=self.tick)
        self.homes.append(avfs)
        if source:
            make_lower(self.model)
            (self.model / "build").mkdir()
            (self.model / "build" / "x.log").write_bytes(b"built\n")
            (self.model / "nest" / ".git").mkdir(parents=True)
            (self.model / "nest" / "a").write_bytes(b"in a repository of its own\n")
        place = self.model
        if source == "repository":
            place = self.base / "repository"
            shutil.copytree(self.model, place, symlinks=True)
            git("init", "-q", "-b", "main", place)
            git("add", "a", cwd=place)
            git("commit", "-q", "-m", "some", cwd=place)
        vault = avfs.create_vault("v", source=place if source else None)
        self.vault = vault
        if source == "repository":
            (self.model / ".git").mkdir()
            shutil.rmtree(self.model / ".git")
            materialize({p: e for p, e in describe_dir(place, times=True).items() if not is_root_git(p)}, self.model)
        self.branch = self.branches["main"] = Branch("main", None, [], [], {})
        self.work = vault.workspace("main")
        self.oracle = GitOracle(self.base, vault.path)
        self.oracle.track(None)
        if source:
            head = self.head()
            if source == "repository":
                assert head is not None
                self.oracle.track(git("-C", place, "rev-parse", "HEAD^{tree}").decode().strip())
            assert self.note_head(files=False).tree == self.oracle.add_all(self.model)
            self.branch.done.clear()
            assert describe_dir(self.model, times=True).keys() == self.view().keys()

    # --- working --------------------------------------------------------------------------------------------

    def existing(self, pick: int, *, directories: bool = False) -> bytes:
        names = [
            path
            for path, entry in sorted(describe_dir(self.model).items())
            if not directories or entry[0] == stat.S_IFDIR
        ]
        return names[pick % len(names)]

    def take(self, step: Step) -> None:
        if not step.path or is_root_git(step.path) or is_root_git(step.other):
            return
        expected = take_in_directory(self.model, step)
        with self.work._opened.locked() as locked, locked.changing() as merged:
            assert take_in_tree(merged, step) == expected, step

    @rule(
        verb=st.sampled_from(["create", "mkdir", "unlink", "rmdir", "remove_tree", "set_xattr", "remove_xattr"]),
        pick=_picks,
    )
    def take_existing(self, verb: str, pick: int) -> None:
        self.take(Step(verb, self.existing(pick)))  # type: ignore[arg-type]

    @rule(verb=st.sampled_from(["mkdir", "mkdir", "create"]), pick=_picks, name=_names)
    def make(self, verb: str, pick: int, name: bytes) -> None:
        directory = self.existing(pick, directories=True)
        self.take(Step(verb, directory + b"/" + name if directory else name))  # type: ignore[arg-type]

    @rule(pick=_picks, name=_names, data=st.sampled_from(CONTENTS))
    def write_in(self, pick: int, name: bytes, data: bytes) -> None:
        directory = self.existing(pick, directories=True)
        self.take(Step("write_file", directory + b"/" + name if directory else name, data))

    @rule(
        pick=_picks,
        data=st.sampled_from(CONTENTS),
        verb=st.sampled_from(["write_file", "append", "write_at"]),
        at=st.integers(0, 20),
    )
    def write_existing(self, pick: int, data: bytes, verb: str, at: int) -> None:
        self.take(Step(verb, self.existing(pick), data, at))  # type: ignore[arg-type]

    @rule(pick=_picks, rules=st.sampled_from(IGNORES))
    def ignore(self, pick: int, rules: bytes) -> None:
        directory = self.existing(pick, directories=True)
        self.take(Step("write_file", directory + b"/.gitignore" if directory else b".gitignore", rules))

    @rule(pick=_picks, size=st.sampled_from([0, 3, 6000]))
    def truncate(self, pick: int, size: int) -> None:
        self.take(Step("truncate", self.existing(pick), b"", size))

    @rule(pick=_picks, mode=st.sampled_from([0o600, 0o644, 0o755, 0o444, 0o700, 0o711, 0o640, 0o4755, 0o1777]))
    def chmod(self, pick: int, mode: int) -> None:
        path = self.existing(pick)
        is_dir = stat.S_ISDIR(os.lstat(os.fsencode(self.model) + b"/" + path).st_mode)
        self.take(Step("chmod", path, b"", mode | 0o700 if is_dir else mode))

    @rule(mode=st.sampled_from([0o700, 0o755, 0o750]))
    def chmod_root(self, mode: int) -> None:
        self.work.chmod("/", mode)
        os.chmod(self.model, mode)

    @rule(pick=_picks, name=_names, points_to=st.sampled_from(TARGETS))
    def symlink(self, pick: int, name: bytes, points_to: bytes) -> None:
        directory = self.existing(pick, directories=True)
        self.take(Step("symlink", directory + b"/" + name if directory else name, points_to))

    @rule(
        verb=st.sampled_from(["rename", "rename", "noreplace", "exchange", "link"]),
        old=_picks,
        pick=_picks,
        name=_names,
    )
    def rename(self, verb: str, old: int, pick: int, name: bytes) -> None:
        directory = self.existing(pick, directories=True)
        self.take(Step(verb, self.existing(old), directory + b"/" + name if directory else name))  # type: ignore[arg-type]

    @rule(verb=st.sampled_from(["rename", "exchange"]), old=_picks, new=_picks)
    def rename_existing(self, verb: str, old: int, new: int) -> None:
        other = self.existing(new)
        if other:
            self.take(Step(verb, self.existing(old), other))  # type: ignore[arg-type]

    @rule(pick=_picks, data=st.sampled_from(CONTENTS))
    def replace_directory_by_file(self, pick: int, data: bytes) -> None:
        path = self.existing(pick, directories=True)
        if path:
            self.take(Step("remove_tree", path))
            self.take(Step("write_file", path, data))

    @rule(pick=_picks, name=_names)
    def replace_by_directory(self, pick: int, name: bytes) -> None:
        path = self.existing(pick)
        if path:
            self.take(Step("remove_tree", path))
            self.take(Step("mkdir", path))
            self.take(Step("write_file", path + b"/" + name, b"inside\n"))

    @rule(pick=_picks, seconds=st.integers(1, 10**9))
    def utime(self, pick: int, seconds: int) -> None:
        self.take(Step("utime", self.existing(pick), b"", seconds))

    @rule(pick=_picks)
    def init_repository(self, pick: int) -> None:
        """A repository as git makes it, by hand of a program that goes through neither view."""
        directory = self.existing(pick, directories=True)
        if not directory or os.path.lexists(os.fsencode(self.model) + b"/" + directory + b"/.git"):
            return
        git("init", "-q", "--template=", os.fsencode(self.model) + b"/" + directory)
        inside = describe_dir(os.fsencode(self.model) + b"/" + directory + b"/.git")
        for path, entry in inside.items():
            there = TreePath(directory + (b"/.git/" + path if path else b"/.git"))
            if entry[0] == stat.S_IFDIR:
                self.work.make_dir(there, parents=True)
            else:
                assert isinstance(entry[2], bytes)
                self.work.write(there, entry[2])
            self.work.chmod(there, int(str(entry[1])))

    @rule(pick=_picks, data=st.sampled_from(CONTENTS))
    def write_by_hand(self, pick: int, data: bytes) -> None:
        """Something that writes to the upper layer itself, as a mount does, is seen."""
        upper = os.fsencode(self.work._opened.layout.upper)
        directories = sorted(os.fsencode(here) for here, _, _ in os.walk(upper))
        directory = directories[pick % len(directories)][len(upper) + 1 :]
        self.count += 1
        name = b"by hand %d" % self.count
        path = directory + b"/" + name if directory else name
        with self.work._opened.locked() as locked, locked.changing(), open(upper + b"/" + path, "wb") as file:
            file.write(data)
        with open(os.fsencode(self.model) + b"/" + path, "wb") as file:
            file.write(data)
        os.chmod(os.fsencode(self.model) + b"/" + path, stat.S_IMODE(os.lstat(upper + b"/" + path).st_mode))
        self.work._opened.dirty = None
        self.work._opened.forget()
        self.reopen(cache=True)

    # --- states ------------------------------------------------------------------------------------------------

    @rule(label=st.booleans())
    def checkpoint(self, label: bool) -> None:
        """The tree is the one that git makes; the state is clean; what was recorded is what is there."""
        self.count += 1
        name = f"c{self.count}" if label else None
        result = self.work.checkpoint(name)
        assert result.checkpoint is not None
        tree = self.oracle.add_all(self.model)
        assert result.checkpoint.tree == tree, (result, self.oracle._git("ls-tree", "-r", "-t", "--full-tree", tree))
        if result.outcome == "created":
            self.note_head(files=False)
            self.branch.done[-1].label = name
        else:
            assert self.head() == self.branch.head == result.checkpoint.id
            expect_same(content_of(self.view()), content_of(self.saved[result.checkpoint.id].view))
            if name:
                self.branch.done.append(Done(self.branch.head, self.branch.head, label=name))
                self.branch.undone.clear()
        if name:
            self.branch.labels[name] = result.checkpoint.id
        self.expect_clean()
        assert self.work.checkpoint().outcome == "unchanged"

    @rule()
    def look(self) -> None:
        """Asking for the status changes nothing, and tells even the first caller if a checkpoint would be made."""
        status = self.work.status()
        with (
            Avfs(self.base / "home", identity=Identity("Ada Author", "ada@example.org")) as avfs,
            avfs.open_vault("v") as vault,
        ):
            assert status == vault.workspace(self.branch.name).status()
        if self.branch.head is not None and status.clean:
            expect_same(content_of(self.view()), content_of(self.saved[self.branch.head].view))

    @rule(cache=st.booleans())
    def reopen(self, cache: bool) -> None:
        """Another process finds what this one left, with or without the stat cache."""
        while self.homes:
            self.homes.pop().close()
        self.work = self.open_home()
        if not cache:
            self.work._opened.layout.statcache.unlink(missing_ok=True)
            head = self.branch.head
            self.oracle.track(self.saved[head].tree if head else None)
            self.oracle.beside = (
                self.oracle.list_beside(self.saved[head].view, self.saved[head].tree) if head else set()
            )

    @rule()
    def use_second_process(self) -> None:
        """One that has the workspace open already sees what the other did."""
        if len(self.homes) < 2:
            self.other, self.work = self.work, self.open_home()
        else:
            self.other, self.work = self.work, self.other
        if self.work.fork != self.branch.name:
            self.work = self.work.vault.workspace(self.branch.name)
        self.vault = self.work.vault

    @rule()
    def fold(self) -> None:
        """What is shown stays as it is, times included."""
        before = self.view(times=True)
        self.work.fold()
        self.settle()
        expect_same(with_times(self.view(times=True)), with_times(before))
        self.expect_clean()

    @rule(slices=st.integers(1, 5))
    def fold_slices(self, slices: int) -> None:
        """As maintenance does, which may stop between any two entries: what is shown stays as it is, times included."""
        before = self.view(times=True)
        for _ in range(slices):
            with self.work._opened.locked() as locked:
                fold_some(locked, 0.0)
        expect_same(with_times(self.view(times=True)), with_times(before))

    @rule()
    def collect_garbage(self) -> None:
        """Nothing that can still be asked for is garbage."""
        git("gc", "-q", "--prune=now", cwd=self.vault.path)

    @rule(pick=_picks, into_old=st.booleans())
    def fork(self, pick: int, into_old: bool) -> None:
        """A fork shows what its checkpoint recorded, times to the nanosecond included."""
        self.count += 1
        name = f"fork{self.count}"
        if into_old and self.saved:
            target = list(self.saved)[pick % len(self.saved)]
            self.work.restore(target, into=name)
        else:
            self.vault.fork(name, source=self.branch.name)
            self.settle()
            assert self.branch.head is not None
            target = self.branch.head
        self.branch = self.branches[name] = Branch(name, target, [], [], {})
        self.work = self.vault.workspace(name)
        assert self.head() == target
        saved = self.saved[target]
        expect_same(with_times(self.view(times=True), saved.restored), with_times(saved.view, saved.restored))
        self.restored = frozenset()
        materialize(self.view(times=True), self.model)
        self.oracle.track(saved.tree)
        self.oracle.beside = self.oracle.list_beside(saved.view, saved.tree)
        self.expect_clean()

    @precondition(lambda self: bool(self.saved))
    @rule(pick=_picks)
    def restore(self, pick: int) -> None:
        """Every byte, mode, link, empty directory, ignored file and attribute comes back.

        Untouched files keep their times, and files beside history have theirs back.
        """
        target = list(self.saved)[pick % len(self.saved)]
        before = self.view(times=True)
        started_ns = time.time_ns() - 10**8
        plan = self.work.restore(target, dry_run=True)
        result = self.work.restore(target)
        assert (plan.outcome == "unchanged") == (result.outcome == "unchanged")
        if result.saved is not None:
            assert self.oracle.add_all(self.model) == self.note_saved(result.saved, before)
        saved = self.saved[target]
        after = self.view(times=True)
        expect_same(content_of(after), content_of(saved.view))
        beside = self.oracle.list_beside(after, saved.tree)
        for path, entry in after.items():
            if entry[0] == stat.S_IFREG:
                was = before.get(path)
                if was is not None and was[:4] == entry[:4]:
                    assert was[5] == entry[5], path
                elif was is None or was[2] != entry[2]:
                    assert isinstance(entry[5], int)
                    if path not in beside:
                        assert entry[5] >= started_ns, path
                    elif path not in saved.restored:
                        assert entry[5] == saved.view[path][5], path
        # What is recorded may have the target's times (`workspace.checkpoint.confirm`), where the files that came back
        # have new ones.
        self.restored |= {path for path in after if after[path][5] != saved.view[path][5]}
        if self.head() != self.branch.head:
            assert self.note_head(files=True).tree == saved.tree
        self.oracle.track(saved.tree)
        self.oracle.beside = beside
        materialize(after, self.model)
        if result.outcome != "unchanged" or target == self.head():  # else what is not saved happens to be what it holds
            self.expect_clean()

    def note_saved(self, commit: str, view: View) -> str:
        read = self.vault._core.store.read_commit(bytes.fromhex(commit))  # type: ignore[arg-type]
        self.saved[commit] = Saved(read.tree.hex(), view, self.restored)
        self.branch.done.append(Done(self.branch.head, commit))
        self.branch.undone.clear()
        self.branch.head = commit
        return read.tree.hex()

    @precondition(lambda self: bool(self.saved))
    @rule(pick=_picks, which=_picks)
    def restore_path(self, pick: int, which: int) -> None:
        """One path comes back with what leads to it; everything else stays."""
        target = list(self.saved)[pick % len(self.saved)]
        wanted = self.saved[target].view
        before = self.view(times=True)
        there = sorted((wanted.keys() | before.keys()) - {b""})
        if not there:
            return
        path = there[which % len(there)]
        result = self.work.restore(target, paths=[path])
        if result.saved is not None:
            assert self.oracle.add_all(self.model) == self.note_saved(result.saved, before)
        expected = {p: e for p, e in before.items() if p != path and not p.startswith(path + b"/")}
        if path in wanted:
            parts = path.split(b"/")
            for depth in range(1, len(parts)):
                above = b"/".join(parts[:depth])
                if above not in expected or expected[above][0] != stat.S_IFDIR:
                    expected[above] = wanted[above]
            expected |= {p: e for p, e in wanted.items() if p == path or p.startswith(path + b"/")}
        expect_same(content_of(self.view()), content_of(expected))
        # nothing was done, so that nothing was saved before, and nothing is tracked by it
        if result.outcome == "unchanged":
            assert (result.saved, self.view(times=True), self.head()) == (None, before, self.branch.head)
            return
        self.oracle.track_path(self.saved[target].tree, path)
        self.oracle.beside |= self.oracle.list_beside(wanted, self.saved[target].tree)
        materialize(self.view(), self.model)
        tree = self.oracle.add_all(self.model)
        if self.head() != self.branch.head:
            found = self.note_head(files=True).tree
            assert found == tree
        self.expect_clean()

    @rule()
    def restore_what_never_was(self) -> None:
        """A path that is in neither state is refused and changes nothing."""
        if self.branch.head is not None:
            before = self.view(times=True)
            with pytest.raises(PathNotFound):
                self.work.restore("HEAD", paths=["never/was"])
            expect_same(self.view(times=True), before)
            assert self.head() == self.branch.head  # nothing is saved, and so git tracks nothing more

    @rule()
    def undo(self) -> None:
        """The last operation is taken back: the branch always, files where it moved them.

        What changed since goes first.
        """
        branch = self.branch
        self.vault._dispatch.record_changes(branch.name)
        record = self.vault._core.oplog.find_undoable(branch.name)
        if record is None:
            assert not branch.done
            with pytest.raises(NothingToUndo):
                self.work.undo()
            return
        if record.kind == "fork_create":
            return
        before = self.view(times=True)
        result = self.work.undo()
        assert result.operation.id == record.id
        if record.kind == "files":
            self.turned_files(record.before, before, result.saved)
        else:
            done = branch.done.pop()
            branch.undone.append(done)
            self.turned(done, done.before, before, result.saved)
        self.forget_undone()

    @rule()
    def redo(self) -> None:
        """What was taken back is done again."""
        branch = self.branch
        self.vault._dispatch.record_changes(branch.name)
        self.forget_undone()
        record = self.vault._core.oplog.find_redoable(branch.name)
        if record is None:
            assert not branch.undone
            with pytest.raises(NothingToUndo):
                self.work.redo()
            return
        if record.kind == "fork_create":
            return
        before = self.view(times=True)
        result = self.work.redo()
        assert result.operation.id == record.id
        if record.kind == "files":
            self.turned_files(record.after, before, result.saved)
        else:
            done = branch.undone.pop()
            branch.done.append(done)
            self.turned(done, done.after, before, result.saved)

    def forget_undone(self) -> None:
        """Changes since an undo are an operation of their own: nothing before them can be redone."""
        undone = sum(one.undone and one.kind != "files" for one in self.work.operations(limit=10_000))
        self.branch.undone = self.branch.undone[len(self.branch.undone) - undone :]

    def turned_files(self, commit: str | None, before: View, aside: str | None) -> None:
        """Files are what a commit beside the branch has; the branch stays."""
        assert self.head() == self.branch.head
        assert commit is not None
        self.oracle.beside = self.list_untracked(commit)
        if aside is not None:
            self.saved[aside] = Saved(self.tree_of(aside), before, self.restored)
        now = self.view(times=True)
        self.restored |= now.keys()
        materialize(self.view(), self.model)
        head = self.branch.head
        self.oracle.track(self.tree_of(head) if head is not None else None)
        assert self.work.diff(commit).files == ()

    def note_recorded(self) -> None:
        """What the log has recorded beside history stays beside it; what it has recorded is not tracked for that."""
        last = self.vault._core.oplog.find_last_state(self.branch.name)
        if last is not None and last.id != self.noted and last.kind == "files" and last.after is not None:
            self.noted = last.id
            self.oracle.beside = self.list_untracked(last.after)

    def list_untracked(self, commit: str) -> set[bytes]:
        store = self.vault._core.store
        read = store.read_commit(bytes.fromhex(commit))  # type: ignore[arg-type]
        changes = diff_sidecars(store, None, self.vault._core.sidecar_tree(read))
        return {one.path for change in changes if change.new_oid for one in list_added_files(store, change)}

    def tree_of(self, commit: str) -> str:
        return self.vault._core.store.read_commit(bytes.fromhex(commit)).tree.hex()  # type: ignore[arg-type]

    def turned(self, done: Done, head: str | None, before: View, aside: str | None) -> None:
        assert self.head() == head
        self.branch.head = head
        if aside is not None:
            tree = self.oracle.add_all(self.model)
            read = self.vault._core.store.read_commit(bytes.fromhex(aside))  # type: ignore[arg-type]
            assert read.tree.hex() == tree
            self.saved[aside] = Saved(tree, before, self.restored)
        if done.moves_files:
            assert head is not None
            now, then = self.view(times=True), self.saved[head].view
            expect_same(content_of(now), content_of(then))
            self.restored |= {path for path in now if now[path][5] != then[path][5]}
            self.oracle.track(self.saved[head].tree)
            self.oracle.beside = self.oracle.list_beside(then, self.saved[head].tree)
            materialize(self.view(), self.model)
            self.expect_clean()
        else:
            expect_same(self.view(times=True), before)
            self.oracle.track(self.saved[head].tree if head is not None else None)

    @rule()
    def export(self) -> None:
        """What is exported is what the directory holds, as far as it may leave."""
        out = self.base / "out"
        result = self.work.export_path("/", out)
        exported, expected = describe_dir(out), describe_dir(self.model)
        for warning in result.warnings:  # a link that leads out comes along
            assert warning.path is not None
            assert expected[warning.path][0] == stat.S_IFLNK
        for path, entry in exported.items():
            mode = int(str(expected[path][1]))
            assert (entry[0], entry[2], entry[3]) == (expected[path][0], expected[path][2], expected[path][3]), path
            assert entry[1] == (mode & 0o777 if entry[0] == stat.S_IFREG else mode), path
        assert exported.keys() == expected.keys()
        shutil.rmtree(out)

    # --- always ---------------------------------------------------------------------------------------------------

    @invariant()
    def shows_the_same(self) -> None:
        if hasattr(self, "work"):
            self.expect_model()
            self.note_recorded()

    def teardown(self) -> None:
        try:
            if hasattr(self, "work") and sys.exc_info()[0] is None:
                path = self.vault.path
                self.checkpoint(label=False)
                for target in self.saved:
                    self.vault.fork(f"again-{target}", at=target)
                    shown = describe_tree(self.vault.workspace(f"again-{target}")._opened.read_view())
                    expect_same(content_of(shown), content_of(self.saved[target].view))
                assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=path) == b""
                report = self.vault.doctor()
                assert report.healthy, report
                git("clone", "-q", "--bare", path, self.base / "clone.git")
        finally:
            while self.homes:
                with contextlib.suppress(Exception):
                    self.homes.pop().close()
            shutil.rmtree(self.base)


WorkspaceMachine.TestCase.settings = settings(stateful_step_count=25, max_examples=settings().max_examples // 4)
WorkspaceTest = WorkspaceMachine.TestCase
if not capabilities.has("whiteout") or not capabilities.has("user-xattrs"):
    del WorkspaceTest
