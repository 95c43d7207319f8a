"""What a clone hides only because case counts for nothing there (`core.ignoreCase`, as on macOS and Windows).

Decided here: which rules hide the same files in a vault, whose live trees tell case apart. The setting itself is not
taken over: git would lose files there that differ in case from what it tracks (git-config(1)). So each file or
directory that only a rule in another case hides gets a rule of its own, as it is called; what is made later in yet
another case is hidden by none. Called when a vault is made of a clone, and at each fork of it, where the clone has the
setting. Costs a walk through what the clone does not ignore; a crash leaves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from avfs_git.gitstore.rules.ignore import Ignorer
from avfs_git.paths import ROOT, TreePath, join
from avfs_git.patterns import compiled
from avfs_git.vfs.layer.readers import PlainDirectory

_MAGIC = compiled(rb"([\\*?\[]|[ ](?=[ ]*\Z))")


def spell_hidden(source: Path, rules: bytes) -> bytes:
    """Write rules for what the ignore files of a directory, and `rules`, hide there in another case."""
    # No line can end in CR, or hold a line feed.
    paths = [path for path in _list_hidden(source, rules) if path.find(b"\n") < 0 and not path.endswith(b"\r")]
    return b"".join(b"/%b\n" % _MAGIC.sub(rb"\\\1", path) for path in sorted(paths))


def _list_hidden(source: Path, rules: bytes) -> Iterator[TreePath]:
    layer = PlainDirectory(source)
    folding, exact = (Ignorer(layer.read_ignore, rules, folds_case=folds) for folds in (True, False))
    pending = [ROOT]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(os.path.join(os.fsencode(source), directory)) as listed:
                entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listed]
        except OSError:  # what scans the files refuses, or leaves it out
            continue
        for name, is_dir in entries:
            if name == b".git":
                continue
            path = join(directory, name)
            if not folding.is_ignored(path, is_dir=is_dir):
                pending += [path] if is_dir else []
            elif not exact.is_ignored(path, is_dir=is_dir):
                yield path
