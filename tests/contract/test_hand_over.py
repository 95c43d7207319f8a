"""What one backend wrote, the next one opens: the same view, and in the end the same trees."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from avfs_git.sdk import Avfs
from tests.support.backends import Stepper, needs, open_head, stepping
from tests.support.live_tree import ADA, FORK
from tests.support.steps import Step, make_lower, take_in_directory
from tests.support.trees import Described, describe_dir, describe_tree

pytestmark = pytest.mark.slow

_WAYS = ("tree", "channel", "portable", "overlay")
_PAIRS = [
    pytest.param(*pair, marks=[mark for backend in pair for mark in needs(backend)])
    for pair in product(_WAYS, repeat=2)
]

FIRST = (
    Step("write_file", b"a/a", b"new content\n"),
    Step("unlink", b"a/b/a"),
    Step("remove_tree", b"b/d e"),
    Step("mkdir", b"b/d e"),  # opaque: what was there must not come back
    Step("create", b"b/d e/x"),
    Step("write_at", b"b/d e/x", b"text", 20),
    Step("rename", b"b/a", b"c/moved"),
    Step("rename", b"c/\xff\xfe", b"a/b/\xff\xfe"),
    Step("rename", b"a/b/c", b"c/empty/c"),  # a directory of the base
    Step("mkdir", b"new"),
    Step("rename", b"new", b"c/new"),
    Step("symlink", b"c/new/link", b"../moved"),
    Step("chmod", b"c/moved", number=0o600),
    Step("chmod", b"a", number=0o711),
    Step("truncate", b"d e", number=3),
    Step("set_xattr", b"c/new"),
    Step("set_xattr", b"d e"),
    Step("remove_xattr", b"a/a"),
    Step("link", b"a/a", b"a/hard"),
    Step("utime", b"b/b", number=7),
    Step("unlink", b"\xff\xfe"),
    Step("mkdir", b"\xff\xfe"),  # a directory in place of a symbolic link
)
SECOND = (
    Step("append", b"a/hard", b"through the other name\n"),
    Step("create", b"a/b/a"),  # over a whiteout
    Step("write_file", b"b/d e/b", b"not the base's"),
    Step("unlink", b"b/d e/x"),
    Step("exchange", b"c/moved", b"a/b/\xff\xfe"),
    Step("rename", b"c/empty/c", b"a/b/c"),  # back to where it came from
    Step("rename", b"b", b"c/new/b"),
    Step("mkdir", b"b"),
    Step("remove_tree", b"c/new/b/d e"),
    Step("rmdir", b"\xff\xfe"),
    Step("write_file", b"\xff\xfe", b"a file at last"),
    Step("rename", b"\xff\xfe", b"a/a"),  # over one of two names
    Step("rename", b"d e", b"b/d e"),
    Step("truncate", b"b/d e", number=70_000),
    Step("chmod", b"b/d e", number=0o755),
    Step("noreplace", b"a/hard", b"b/d e"),
    Step("noreplace", b"a/hard", b"b/hard"),
    Step("remove_tree", b"c/empty"),
)


def _take(stepper: Stepper, path: Path, steps: Sequence[Step]) -> list[str | None]:
    """Take steps; what overlayfs leaves to the program (EXDEV) is done as mv(1) does it."""
    answers = []
    for step in steps:
        answer = stepper.take(step)
        if answer == "EXDEV":
            subprocess.run([b"mv", "-T", step.path, step.other], check=True, cwd=path)
            answer = None
        answers.append(answer)
    return answers


def _view(described: dict[bytes, Described]) -> dict[bytes, Described]:
    """Leave out what a backend need not keep: overlayfs may show one file with two names as two."""
    return {path: entry[:4] for path, entry in described.items()}


class _Reference:
    """A plain directory in which the same steps are taken."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        make_lower(directory)
        self.path = directory

    def take(self, steps: Sequence[Step]) -> tuple[list[str | None], dict[bytes, Described]]:
        """Take steps; tell what they answered and what is there then."""
        stepper = Stepper(lambda step: take_in_directory(self.path, step), lambda: describe_dir(self.path))
        return _take(stepper, self.path, steps), _view(stepper.describe())


@pytest.mark.parametrize(("writer", "reader"), _PAIRS)
def test_the_next_backend_goes_on_where_the_last_one_ended(
    writer: str, reader: str, mount_dir: Path, tmp_path: Path
) -> None:
    """A workspace is written through one backend, then shown, written and checkpointed through another.

    Nothing tells which backend was used.
    """
    reference = _Reference(tmp_path / "reference")
    home, path = mount_dir / "home", mount_dir / "tree"
    with Avfs(home, identity=ADA) as avfs, avfs.create_vault("v", source=reference.path) as vault:
        vault.fork(FORK).close()

    expected = reference.take(FIRST)
    with stepping(writer, home, path) as stepper:
        assert (_take(stepper, path, FIRST), _view(stepper.describe())) == expected
    with stepping(reader, home, path) as stepper:
        assert _view(stepper.describe()) == expected[1]
        expected = reference.take(SECOND)
        assert (_take(stepper, path, SECOND), _view(stepper.describe())) == expected
    with Avfs(home, identity=ADA) as avfs:
        wanted = avfs.create_vault("wanted", source=reference.path).workspace().log()[0].checkpoint
        saved = avfs.open_vault("v").workspace(FORK).checkpoint().checkpoint

        assert saved is not None
        assert saved.tree == wanted.tree
        assert _view(describe_tree(open_head(home / "vaults" / "v.git", saved.id))) == expected[1]
