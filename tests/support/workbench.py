"""A live tree and a plain directory with the same files, in which the same is done.

Decided here: how tests of real tools are made: a script runs in both places, has to say the same and to leave the same
behind; and the live tree can be unmounted and mounted again, saved, and forked, which a plain directory survives by
being left alone.

The mount is a session, as `avfs mount` makes it. What a test leaves mounted is below the `mount_dir` of its fixture.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from avfs_git.sdk import Avfs, Session, Vault, Workspace
from tests.support.live_tree import ADA
from tests.support.trees import Described, describe_dir

_FIXED = {
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    **{f"GIT_{who}_DATE": "2026-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")},
    "GIT_EDITOR": "true",
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "npm_config_offline": "true",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_update_notifier": "false",
    "CARGO_NET_OFFLINE": "true",
    "CARGO_TERM_COLOR": "never",
}
_SHELL_LIMIT_S = 300
"""A guard against what hangs, and no measure: a script takes a few seconds."""


class Workbench:
    """A fork that is mounted at `live`, and the same files at `plain`.

    Attributes:
        vault: The vault of the fork.
        live: Where the fork is mounted.
        plain: The plain directory.
        work: The fork's workspace.
        backend: By what it is mounted from the next mount on.
    """

    def __init__(self, vault: Vault, root: Path, plain: Path) -> None:
        self.vault = vault
        self.live = root / "tree"
        self.plain = plain
        self.work: Workspace = vault.workspace("work")
        self.backend = "auto"
        self._session: Session | None = None

    def mount(self) -> None:
        """Mount the fork."""
        self._session = self.work.mount(self.live, backend=self.backend)

    def unmount(self) -> None:
        """Take the mount away, and wait until its processes are gone. Without a mount, this does nothing."""
        session, self._session = self._session, None
        if session is not None:
            session.unmount(lazy=True)
            session.wait()

    def end(self) -> None:
        """Take the mount away even from a failed test, which may still have files of it open."""
        if self._session is not None:
            self._session.unmount(force=True)

    def remount(self) -> None:
        """Unmount and mount again: another process serves it, which has only what is on disk."""
        self.unmount()
        self.mount()

    def go_to_fork(self, name: str) -> None:
        """Save the fork, unmount it, and mount a new fork of it in its place."""
        self.work.checkpoint(f"before {name}")
        self.unmount()
        self.vault.fork(name, source="work").close()
        self.work = self.vault.workspace(name)
        self.mount()

    def run(self, script: str, *, check: bool = True) -> str:
        """Run a script in the live tree; give what it said."""
        return _run(script, self.live, check=check)

    def run_plain(self, script: str, *, check: bool = True) -> str:
        """Run a script in the plain directory; give what it said."""
        return _run(script, self.plain, check=check)

    def same(self, script: str, *, forget: str = r"(?!)", leaves_same: bool = True) -> str:
        """Run a script in both places: it says the same, and leaves the same behind. Give what it said.

        Args:
            script: For bash, in the root of the tree.
            forget: What differs in what is said from run to run, as a regular expression.
            leaves_same: Whether the files are compared, too.
        """
        expected = re.sub(forget, "", _run(script, self.plain, check=False))
        found = re.sub(forget, "", _run(script, self.live, check=False))
        assert found == expected, _difference(expected, found)
        if leaves_same:
            self.check_same_files()
        return found

    def check_same_files(self) -> None:
        """Check that both places hold the same."""
        expected, found = self.described_plain(), self.described()
        assert found == expected, _difference(*(_lines_of(one) for one in (expected, found)))

    def described_plain(self) -> dict[bytes, Described]:
        """Describe what the plain directory holds."""
        return described(self.plain)

    def described(self) -> dict[bytes, Described]:
        """Describe what the live tree holds."""
        return described(self.live)


def described(place: Path) -> dict[bytes, Described]:
    """Describe a tree without the file `.git` that a live tree shows in its root."""
    return {path: about for path, about in describe_dir(place).items() if path not in (b"", b".git")}


def _lines_of(files: dict[bytes, Described]) -> str:
    return "".join(f"{path!r} {str(about)[:300]}\n" for path, about in sorted(files.items()))


def _difference(expected: str, found: str) -> str:
    lines = difflib.unified_diff(expected.splitlines(), found.splitlines(), "plain", "live", n=1, lineterm="")
    return "\n" + "\n".join(lines)


def _run(script: str, place: Path, *, check: bool) -> str:
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}"],
        cwd=place,
        env={**os.environ, **_FIXED},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=_SHELL_LIMIT_S,
        check=False,
    )
    said = done.stdout.decode("utf-8", "backslashreplace").replace(os.fspath(place), "TREE")
    if check and done.returncode:
        raise AssertionError(f"{script}\nended with {done.returncode}\n{said}")
    return f"{said}[{done.returncode}]\n"


@contextmanager
def workbench(root: Path, scratch: Path, fill: Callable[[Path], None]) -> Iterator[Workbench]:
    """Make both places.

    Args:
        root: A directory outside of pytest's own (`mount_dir`), for the home and the mount.
        scratch: A directory for the rest.
        fill: Makes the files, in the plain directory; the live tree has them in its lower layer.
    """
    plain = scratch / "plain"
    plain.mkdir()
    fill(plain)
    with Avfs(root / "home", identity=ADA) as avfs, avfs.create_vault("v", source=plain) as vault:
        vault.fork("work").close()
        made = Workbench(vault, root, plain)
        try:
            made.mount()
            yield made
        finally:
            made.end()
