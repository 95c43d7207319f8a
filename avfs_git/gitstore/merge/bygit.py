"""The merge engine that is git's own: `git merge-tree --write-tree`, exact by definition.

Decided here: how git is given what it merges, and how its answer becomes that of any engine. Git works in a scratch
repository that borrows the objects of the vault, so that nothing is written there: a merge that is only asked for
leaves nothing behind, and a crash leaves a directory for temporary files. What is not stored yet is put into the
scratch repository, and so is a commit above each side, whose random name stands in git's markers until it is replaced
by the label that people know. Attributes are those of our side, as in a checkout of it.

Where both sides changed the same lines and one is favored, the lines are decided on as `bylibgit2` does: the oldest
gits that merge this way take no such option. Chosen by `choose`; tested beside `bylibgit2` by one contract suite.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from avfs_git.errors import GitFailed, ObjectMissing
from avfs_git.gitstore import gitcommand
from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.commits import Commit, Signature, serialize_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE, edit_tree
from avfs_git.gitstore.gitversion import installed_git
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.merge.engine import ConflictStyle, Labels, MergedTrees, Stage, StoringSink, Style, TreeConflict
from avfs_git.gitstore.merge.files import FileMerger, how_to_merge
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.rules.attributes import ATTRIBUTES_NAME, TreeAttributes
from avfs_git.gitstore.scratch import put_loose, scratch_repository
from avfs_git.model import ConflictKind, MergeStrategy
from avfs_git.paths import ROOT, Oid, TreePath, list_above, oid_of

_SINCE = (2, 38)
_KINDS = {
    b"CONFLICT (contents)": ConflictKind.CONTENT,
    b"CONFLICT (binary)": ConflictKind.BINARY,
    b"CONFLICT (file/directory)": ConflictKind.DIRECTORY_FILE,
    b"CONFLICT (distinct modes)": ConflictKind.TYPE,
    b"CONFLICT (modify/delete)": ConflictKind.MODIFY_DELETE,
    b"CONFLICT (rename/rename)": ConflictKind.RENAME_RENAME,
    b"CONFLICT (rename involved in collision)": ConflictKind.RENAME_ADD,
    b"CONFLICT (rename/delete)": ConflictKind.RENAME_DELETE,
    b"CONFLICT (directory rename suggested)": ConflictKind.LOCATION,
    b"CONFLICT (file in way of directory rename)": ConflictKind.DIRECTORY_RENAME,
    b"CONFLICT(directory rename collision)": ConflictKind.DIRECTORY_RENAME,
    b"CONFLICT(directory rename unclear split)": ConflictKind.DIRECTORY_RENAME,
}
"""What git calls each kind of conflict, which no version translates; those of submodules begin all alike."""
_SUBMODULE = b"CONFLICT (submodule"
_CONFLICT = b"CONFLICT"
_DECIDED_BY_LINES = (ConflictKind.CONTENT, ConflictKind.ADD_ADD, ConflictKind.BINARY)
_Changes = Mapping[TreePath, tuple[Entry | None, Entry | None]]


class GitEngine:
    """Merges commits and trees of one repository, each by a process."""

    def __init__(self, sink: StoringSink, *, favor: MergeStrategy, style: Style, attributes: bytes) -> None:
        """Prepare merges; the arguments are those of `choose.make_engine`."""
        self._sink = sink
        self._favor = favor
        self._style = style
        self._more = attributes

    def merge(
        self, ours: Oid, theirs: Oid, *, our_label: bytes, their_label: bytes, bases: Sequence[Oid] | None = None
    ) -> MergedTrees:
        """Merge two commits; git finds their common ancestors itself. See `MergeEngine`."""
        with _asking(self._sink) as question:
            for oid in (ours, theirs):
                question.lend_history(oid)
            trees = [self._sink.read_commit(oid).tree for oid in (ours, theirs)]
            # What git compares the sides with may be a merge of several; what it reads is told well enough by the
            # first.
            found = find_merge_bases(self._sink, ours, theirs) if bases is None else bases
            before = self._sink.read_commit(found[0]).tree if found else None
            tops = [question.commit(tree, oid) for tree, oid in zip(trees, (ours, theirs), strict=True)]
            return self._ask(
                question, before, trees[0], trees[1], tops, {tops[0].hex(): our_label, tops[1].hex(): their_label}
            )

    def merge_trees(self, base: Oid | None, ours: Oid | None, theirs: Oid | None, *, labels: Labels) -> MergedTrees:
        """Merge three trees, by commits of them that are made up; see `MergeEngine`."""
        with _asking(self._sink, abbreviated=40) as question:
            bottom = question.commit(base)
            tops = [question.commit(tree, bottom) for tree in (ours, theirs)]
            names = {oid.hex(): label for oid, label in zip((bottom, *tops), labels, strict=True)}
            return self._ask(question, base, ours, theirs, tops, names)

    def _ask(
        self,
        question: _Question,
        base: Oid | None,
        ours: Oid | None,
        theirs: Oid | None,
        tops: Sequence[Oid],
        names: Mapping[str, bytes],
    ) -> MergedTrees:
        """Have git merge two commits that are in the scratch repository."""
        attributes = TreeAttributes(self._sink, ours, self._more)
        changes = [find_differences(self._sink, base, tree) for tree in (ours, theirs)]
        both = changes[0].keys() & changes[1].keys()
        question.write_attributes(attributes, self._more, changes[0].keys() | changes[1].keys())
        question.lend_contents(changes, both)
        answer = question.ask(tops, self._style if isinstance(self._style, ConflictStyle) else self._style())
        tree, conflicts = _parse(answer)
        stages = [stage for one in conflicts for stage in (one.base, one.ours, one.theirs) if stage is not None]
        made = question.bring([(MODE_TREE, ours), (MODE_TREE, tree), *((stage.mode, stage.oid) for stage in stages)])
        edits = {path: now for path, (_, now) in find_differences(made, ours, tree).items()}
        if conflicts:
            edits, conflicts = self._name(made, edits, conflicts, names)
        merged = []
        for found in conflicts:
            told = [self._take_stage(made, stage, names) for stage in (found.base, found.ours, found.theirs)]
            conflict = TreeConflict(found.kind, found.path, *told)
            decided = self._decide(made, attributes, conflict, edits.get(TreePath(conflict.path)))
            if decided is None:
                merged.append(conflict)
            else:
                edits[TreePath(conflict.path)] = decided
        for entry in edits.values():
            if entry is not None and self._is_new(made, *entry):
                self._sink.add(KIND_BLOB, made.read_blob(entry[1]), keep=True)
        result = edit_tree(self._sink, self._sink, ours, edits)
        drivers: dict[TreePath, bytes] = {}
        for path in both:
            how_to_merge(attributes, path, drivers)
        return MergedTrees(result, tuple(merged), find_differences(self._sink, ours, result), drivers)

    def _is_new(self, made: DryWriter, mode: int, oid: Oid) -> bool:
        """Tell whether git made a content; a content that is missing here is left alone."""
        return mode != MODE_GITLINK and not self._sink.exists(oid) and made.exists(oid)

    def _name(
        self,
        made: DryWriter,
        edits: Mapping[TreePath, Entry | None],
        conflicts: Sequence[TreeConflict],
        names: Mapping[str, bytes],
    ) -> tuple[dict[TreePath, Entry | None], list[TreeConflict]]:
        """Put the labels that people know in place of the names of the commits that were made up."""
        in_contents = {name.encode(): label for name, label in names.items()}
        in_paths = {name: label.replace(b"/", b"_") for name, label in in_contents.items()}
        named: dict[TreePath, Entry | None] = {}
        renamed: dict[bytes, bytes] = {}
        for path, entry in edits.items():
            new = wanted = _replace(path, in_paths)
            number = 0
            while new != path and (new in edits or new in named):
                new = wanted + b"_%d" % number
                number += 1
            renamed[path] = new
            named[TreePath(new)] = entry
            if entry is not None and self._is_new(made, *entry):
                content = made.read_blob(entry[1])
                changed = _replace(content, in_contents)
                if changed != content:
                    named[TreePath(new)] = (entry[0], made.add(KIND_BLOB, changed, keep=True))
        told = [replace(one, path=renamed.get(one.path) or _replace(one.path, in_paths)) for one in conflicts]
        return named, told

    def _take_stage(self, made: DryWriter, stage: Stage | None, names: Mapping[str, bytes]) -> Stage | None:
        """Take what git has made of one side of a conflict before it met the other."""
        if stage is None or not self._is_new(made, stage.mode, stage.oid):
            return stage
        content = _replace(made.read_blob(stage.oid), {name.encode(): label for name, label in names.items()})
        return replace(stage, oid=self._sink.add(KIND_BLOB, content, keep=True))

    def _decide(
        self, made: DryWriter, attributes: TreeAttributes, conflict: TreeConflict, left: Entry | None
    ) -> Entry | None:
        """Resolve a conflict about lines where one side is favored."""
        ours, theirs = conflict.ours, conflict.theirs
        if self._favor is MergeStrategy.NORMAL or ours is None or theirs is None:
            return None
        favored = {MergeStrategy.OURS: ours, MergeStrategy.THEIRS: theirs}.get(self._favor)
        if conflict.kind is ConflictKind.SYMLINK and favored is not None:
            return favored.mode, favored.oid
        if conflict.kind not in _DECIDED_BY_LINES:
            return None
        read = self._sink.read_blob
        base = read(conflict.base.oid) if conflict.base is not None and stat.S_ISREG(conflict.base.mode) else None
        driver, _ = how_to_merge(attributes, TreePath(conflict.path))
        merger = FileMerger(favor=self._favor)
        content = merger.merge(base, read(ours.oid), read(theirs.oid), Labels(b"", b"", b""), driver=driver)
        if not content.is_clean:
            return None
        return (left[0] if left is not None else ours.mode), made.add(KIND_BLOB, content.content, keep=True)


@contextmanager
def _asking(sink: StoringSink, *, abbreviated: int = 7) -> Iterator[_Question]:
    """Make a scratch repository for the time of a block."""
    if installed_git() < _SINCE:
        raise GitFailed("merge-tree", "'merge.engine' is 'git', which needs git 2.38 or newer; 'libgit2' needs none")
    config = b"\tabbrev = %d\n" % abbreviated
    with scratch_repository("merge", is_bare=False, is_trusting=True, config=config) as git_dir:
        yield _Question(sink, git_dir)


class _Question:
    """A scratch repository in which git is asked about one merge."""

    def __init__(self, sink: StoringSink, git_dir: Path) -> None:
        self._sink = sink
        self._store = sink.store
        self._git_dir = git_dir
        self._files = git_dir.parent / "files"
        self._files.mkdir()
        with suppress(FileNotFoundError):
            shutil.copyfile(self._store.git_dir / "shallow", git_dir / "shallow")

    def commit(self, tree: Oid | None, *parents: Oid) -> Oid:
        """Make up a commit with an id that cannot be guessed."""
        when_s = max(
            (self._sink.read_links(parent).when_s for parent in parents if self._sink.exists(parent)), default=0
        )
        who = Signature("avfs", "avfs@localhost", when_s)
        if tree is None:
            tree = put_loose(self._git_dir, KIND_TREE, b"")
        self._lend_tree(tree)
        made = Commit(tree, parents, who, who, f"{os.urandom(20).hex()}\n")
        return put_loose(self._git_dir, KIND_COMMIT, serialize_commit(made))

    def lend_history(self, commit: Oid) -> None:
        """Put commits that are not stored yet where git finds them."""
        pending = [commit]
        while pending:
            oid = pending.pop()
            if not self._store.exists(oid):
                put_loose(self._git_dir, *self._sink.read(oid))
                found = self._sink.read_commit(oid)
                self._lend_tree(found.tree)
                pending += found.parents

    def _lend_tree(self, tree: Oid) -> None:
        pending = [tree]
        while pending:
            oid = pending.pop()
            if not self._store.exists(oid) and self._sink.exists(oid):
                put_loose(self._git_dir, *self._sink.read(oid))
                pending += [child for mode, child in self._sink.read_tree(oid).values() if mode == MODE_TREE]

    def lend_contents(self, changes: Sequence[_Changes], both: Iterable[TreePath]) -> None:
        """Put contents that git may read where it finds them: what both sides changed, and what may have been moved."""
        wanted: set[Oid] = set()
        for side in changes:
            for path, entries in side.items():
                if path in both or None in entries:
                    wanted.update(entry[1] for entry in entries if entry is not None and entry[0] != MODE_GITLINK)
        missing = [oid for oid in sorted(wanted) if not self._store.exists(oid)]
        # git mostly does without missing contents, and says so if not.
        if missing:
            with suppress(ObjectMissing):
                self._store.expect(missing)
        for oid in missing:
            with suppress(ObjectMissing):
                put_loose(self._git_dir, KIND_BLOB, self._sink.read_blob(oid))

    def write_attributes(self, attributes: TreeAttributes, more: bytes, paths: Iterable[TreePath]) -> None:
        """Write the attributes of our side as far as they are about some paths."""
        (self._git_dir / "info" / "attributes").write_bytes(more)
        for directory in {ROOT} | list_above(paths):
            content = attributes.read_file(directory)
            if content:
                place = self._files / os.fsdecode(directory)
                place.mkdir(parents=True, exist_ok=True)
                (place / os.fsdecode(ATTRIBUTES_NAME)).write_bytes(content)

    def ask(self, tops: Sequence[Oid], style: ConflictStyle) -> bytes:
        """Have git merge."""
        with (self._git_dir / "config").open("ab") as file:
            file.write(b"[merge]\n\tconflictStyle = %b\n" % style.value.encode())
        result = gitcommand.run(
            self._git_dir,
            "merge-tree",
            ["--write-tree", "-z"],
            [oid.hex() for oid in tops],
            work_tree=self._files,
            borrowed=self._store.objects_dir,
        )
        if result.status not in (0, 1):
            lines = result.messages.strip().splitlines()
            raise GitFailed("merge-tree", lines[-1][:300] if lines else f"status {result.status}")
        return result.output

    def bring(self, wanted: Iterable[tuple[int, Oid | None]]) -> DryWriter:
        """Read trees and contents that git made, and what was lent, into memory."""
        memory = DryWriter(self._store)
        with ObjectStore(self._git_dir) as made:
            pending = list(wanted)
            while pending:
                mode, oid = pending.pop()
                if oid is None or mode == MODE_GITLINK or memory.exists(oid) or not made.exists(oid):
                    continue
                memory.add(*made.read(oid), keep=True)
                if mode == MODE_TREE:
                    pending += memory.read_tree(oid).values()
        return memory


def _parse(answer: bytes) -> tuple[Oid, list[TreeConflict]]:
    """Read what `git merge-tree -z` says."""
    head, *words = answer.split(b"\0")
    stages: dict[bytes, list[Stage | None]] = {}
    at = 0
    while at < len(words) and words[at]:
        about, _, path = words[at].partition(b"\t")
        mode, oid, stage = about.split()
        stages.setdefault(path, [None] * 3)[int(stage) - 1] = Stage(path, int(mode, 8), oid_of(oid))
        at += 1
    at += 1
    kinds: dict[bytes, ConflictKind] = {}
    while at < len(words) and words[at].isdigit():  # advice about submodules may follow
        count = int(words[at])
        paths, told = words[at + 1 : at + 1 + count], words[at + 1 + count]
        at += count + 3
        if told.startswith(_CONFLICT):
            kind = ConflictKind.SUBMODULE if told.startswith(_SUBMODULE) else _KINDS.get(told, ConflictKind.CONTENT)
            # What is said of a name has no stages where no file of that name is in the way.
            for path in stages.keys() & paths or paths[:1]:
                if kinds.get(path, ConflictKind.CONTENT) is ConflictKind.CONTENT:  # anything else says more
                    kinds[path] = kind
    conflicts = []
    for path in sorted(stages.keys() | kinds.keys()):
        base, ours, theirs = stages.get(path, (None, None, None))
        kind = kinds.get(path, ConflictKind.CONTENT)
        if kind is ConflictKind.CONTENT and ours is not None and theirs is not None:
            if stat.S_ISLNK(ours.mode):
                kind = ConflictKind.SYMLINK
            elif ours.oid == theirs.oid:
                kind = ConflictKind.MODE
            elif base is None:
                kind = ConflictKind.ADD_ADD
        conflicts.append(TreeConflict(kind, path, base, ours, theirs))
    return oid_of(head), conflicts


def _replace(text: bytes, words: Mapping[bytes, bytes]) -> bytes:
    for word, other in words.items():
        if word in text:
            text = text.replace(word, other)
    return text
