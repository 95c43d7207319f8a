"""What a directory looked like when it was last forked, so that its next fork reads only what has changed since.

Decided here: when that is believed. `workspace.forks.clones` asks before it captures a directory and says afterwards
what was found; `workspace.creation.create` captures with it. The caller holds the objects of the vault
(`gitstore.holding`) all the while.

What a capture found is kept by a commit that the ref `refs/avfs/seen` names, with the state's tree and its sidecar in
it, so that `gc`, git's included, leaves them there. Which entries had which times then stands in `avfs/cache/seen`, a
stat cache of that commit. Both are believed if they name the same commit, and if the same decides on which paths are
tracked and ignored, and on which modes count: the index of the clone, the tree of its commit, the ignore rules outside
of the tree, and the two settings of `gitstore.foreign.filemodes`, which that commit tells; and the ignore files and
repositories in the directory, none of which may have come, gone or changed. What another edition of these rules has
kept is not believed.

The ref is moved first. A crash leaves the file of another commit, which counts for nothing; so does a file that is
missing or damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from avfs_git.errors import AvfsError, NotAVault
from avfs_git.gitstore.foreign.filemodes import AS_SHOWN, FileModes
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.trees import MODE_TREE
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.repofile import open_plain_file
from avfs_git.host.files.modes import make_dir
from avfs_git.paths import Oid, TreePath
from avfs_git.vfs.scan.statcache import DirCache, StatCache
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.vault.format import SEEN
from avfs_git.workspace.vault.vault import OpenVault

_IGNORE, _GIT = b".gitignore", b".git"
_EDITION = b"2\0"
"""Raise it with any change of what may be kept or what a capture ignores: else a wrongly tracked file stays tracked."""


class Lookback:
    """What is known of a directory, for one fork of it.

    Attributes:
        cache: How it looked when it was forked last; None if that is not known, or not believed.
        looks: How the entries look that this capture did not look at, by directory; the caller fills it in.
        is_whole: Whether that and what the capture learns is all there is: a caller that finds otherwise clears it.
    """

    def __init__(
        self, vault: OpenVault, git_dir: Path | None, tracked: Oid | None, modes: FileModes = AS_SHOWN
    ) -> None:
        self._vault = vault
        self._kept: Oid | None = None
        with contextlib.suppress(AvfsError):  # a damaged ref counts for nothing, and cannot be moved
            self._kept = vault.refs.read(SEEN)
        self._rules = _digest_rules(git_dir, tracked, vault.read_exclude(), modes)
        self._commit: Oid | None = None
        self.looks: dict[TreePath, DirCache] = {}
        self.is_whole = True
        self.cache = self._believed()

    def _believed(self) -> StatCache | None:
        if self._kept is None:
            return None
        try:
            if not self._vault.store.read_commit(self._kept).message.endswith(f"\n{self._rules}\n"):
                return None
        except AvfsError:  # it is only a shortcut: if it cannot be read, everything is read again
            return None
        cache = StatCache.load(self._vault.layout.seen)
        return cache if cache is not None and cache.commit == self._kept else None

    def forget_unless_holds(self, captured: Captured) -> None:
        """Stop believing if a capture found that other rules decide on what it did not look at.

        A file that was new at the last fork is in the tree, and would stay there as tracked, also if it is ignored by
        now.
        """
        cache = self.cache
        for path, entries, dropped in captured.update.changed if cache is not None else ():
            assert cache is not None  # noqa: S101 - else there are none
            known = cache.directory(path) or {}
            names = {name for name, _ in entries}
            if _IGNORE in names or {_IGNORE, _GIT} & set(dropped) or (_GIT in names and _GIT not in known):
                self.cache = None
                return

    def keep(self, pack: PackWriter, captured: Captured) -> None:
        """Have a pack hold what keeps the state that was captured, if there is anything to keep."""
        # What is warned of has to be found again the next time.
        if not self.is_whole or captured.warnings or (self.cache is not None and not captured.update.count):
            return
        parts = {b"tree": captured.tree, b"sidecar": captured.sidecar}
        tree = pack.add_tree({name: (MODE_TREE, oid) for name, oid in parts.items() if oid is not None})
        signature = self._vault.signature()
        text = f"a directory as it was forked\n\n{self._rules}\n"
        self._commit = pack.add_commit(Commit(tree, (), signature, signature, text))

    def note(self, captured: Captured) -> None:
        """Remember the state, once the pack is on disk.

        Where that fails, or another process was faster, it is not remembered.
        """
        if self._commit is None:
            return
        cache = self.cache
        if cache is None:
            cache = StatCache(self._vault.layout.seen)
            cache.directories = self.looks
        with contextlib.suppress(AvfsError, OSError):
            self._vault.refs.update([RefChange(SEEN, self._kept, self._commit)])
            make_dir(self._vault.layout.seen.parent, exist_ok=True)
            cache.commit_update(captured.update, tree=captured.tree, sidecar=captured.sidecar, commit=self._commit)


def _digest_rules(git_dir: Path | None, tracked: Oid | None, exclude: bytes, modes: FileModes) -> str:
    """Condense what decides, outside the files themselves, what is tracked, what is ignored and which modes count."""
    hasher = hashlib.sha256(_EDITION)
    hasher.update(b"%b\0%d\0%b" % (tracked.hex().encode() if tracked is not None else b"", len(exclude), exclude))
    hasher.update(b"%d%d" % (modes.shows_exec, modes.shows_links))
    if git_dir is not None:
        with contextlib.suppress(OSError, NotAVault), open_plain_file(git_dir / "index") as file:
            hasher.update(file.read())
    return hasher.hexdigest()
