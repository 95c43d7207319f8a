"""What a walk goes through: a fork whose tree may be mounted, others who push to its branch, and what each step does.

Decided here: how a step, which is a line of text such as `git commit -a`, is carried out, and what the scene holds at a
moment (`View`). What must be true of it is `tests.support.walkrules`.

Lines `ours-N` and `theirs-N` stand for work: each is written once, ours at the top of a file, theirs at the bottom, so
that git can merge them; a clash writes to the line in the middle. `secret-N` is what an ignored file holds (`*.env`).
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avfs_git import Avfs, Workspace
from avfs_git.errors import AvfsError, InternalError
from tests.support.live_tree import ADA
from tests.support.walkfiles import MARKS, NO_RULES, RULES, Files, fresh, identify, is_secret, mark, read_all, tokens_of

FORK, SIDE = "main", "side"
FILES = ("a", "b", "c", "d/e")
"""What the vault begins with, beside its rules of what is ignored."""
_UNDER_WAY = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")
_ENDS_OF_GIT = (0, 1, 2, 128, 129)
"""How git ends in order: done; nothing to do, or a conflict; refused."""
SECOND_S = 1.05
"""Git's logs have seconds."""


@dataclass(frozen=True)
class View:
    """What the scene holds at a moment.

    Attributes:
        files: In the tree.
        head: The commit of the branch.
        saved: The files of that commit.
        head_at: Where git's HEAD is in the tree, as its file has it.
        under_way: In the middle of what git is there.
    """

    files: Files
    head: str
    saved: Files
    head_at: str
    under_way: tuple[str, ...]
    side: View | None
    """The same of the other fork, where there is one."""

    @property
    def ignores(self) -> bool:
        """Whether the files say that `*.env` is ignored."""
        return self.files.get(".gitignore") == RULES

    @property
    def is_elsewhere(self) -> bool:
        return self.head_at not in ("", f"ref: refs/heads/{FORK}", f"ref: refs/heads/{SIDE}")


@dataclass
class Done:
    """How a step ended.

    Attributes:
        status: `done`, `refused` or `skipped`: the step means nothing where the scene is.
        code: Of the error of avfs, or the exit status of git.
        said: By git, or what avfs returned.
        staged: What git had shown before a commit: a patch from HEAD to what is committed.
    """

    status: str
    code: str = ""
    said: Any = None
    staged: str = ""
    wrong: list[str] = field(default_factory=list)


class Scene:
    """One vault and what goes on in it.

    Attributes:
        script: What was done, as lines of a shell.
    """

    def __init__(self, root: Path, backend: str, fork: str = FORK) -> None:
        self.root, self.backend, self.fork = root, backend, fork
        self.home, self.tree, self.clone = root / "home", root / f"tree-{fork}", root / "clone"
        self.git_dir = self.home / "vaults" / "v.git"
        self.script: list[str] = []
        self.is_mounted = False
        self.arrived: dict[str, int] = {}
        """When others put a token on the branch, in ns."""
        self._blobs: dict[str, bytes] = {}
        self._count = itertools.count(1)
        self._pushed: list[str] = []
        self.side = Scene(root, backend, SIDE) if fork == FORK else None
        if self.side is not None:
            self.side._blobs, self.side._count = self._blobs, self._count

    # --- before and after

    def make(self) -> None:
        """Make the vault, the clone of the others, and the mount."""
        source = self.root / "source"
        for name in FILES:
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(fresh(name))
        (source / ".gitignore").write_bytes(RULES)
        with Avfs(self.home, identity=ADA) as avfs, avfs.create_vault("v", source=source):
            pass
        self._run_git(self.root, "clone", "-q", str(self.git_dir), str(self.clone))
        if self.backend != "none":
            self.mount()

    def mount(self) -> None:
        self.tree.mkdir(exist_ok=True)
        self.call(lambda work: work.mount(self.tree, backend=self.backend))
        self.is_mounted = True

    def unmount(self) -> None:
        def end(work: Workspace) -> None:
            session = work.vault.find_session(self.fork)
            if session is not None:
                session.unmount()

        self.call(end)
        self.is_mounted = False

    def call(self, action: Any) -> Any:
        """Do something with the workspace as a new program does."""
        with (
            Avfs(self.home, identity=ADA) as avfs,
            avfs.open_vault("v") as vault,
            vault.workspace(self.fork) as work,
        ):
            return action(work)

    # --- looking

    def look(self) -> View:
        """Look at everything but git's index, which avfs brings up when git looks at it."""
        head = self._git_of_vault("rev-parse", f"refs/heads/{self.fork}").strip()
        beside = self.git_dir / "worktrees" / self.fork
        at = (beside / "HEAD").read_text().strip() if self.is_mounted else ""
        under_way = tuple(name for name in _UNDER_WAY if self.is_mounted and (beside / name).exists())
        side = self.side.look() if self.side is not None and self._has_side() else None
        return View(self.read_files(), head, self.read_tree(head), at, under_way, side)

    def _has_side(self) -> bool:
        return bool(self._git_of_vault("for-each-ref", f"refs/heads/{SIDE}"))

    def read_files(self) -> Files:
        """Read what the tree shows."""
        if not self.is_mounted:
            return dict(self.call(read_all))
        found: Files = {}
        for here, _, names in os.walk(self.tree):
            for name in names:
                path = Path(here, name)
                if path.name != ".git":
                    is_link = path.is_symlink()
                    content = os.fsencode(path.readlink()) if is_link else path.read_bytes()
                    found[str(path.relative_to(self.tree))] = mark(content, path.lstat().st_mode, is_link=is_link)
        return found

    def _read(self, path: str) -> bytes | None:
        """Read a file; None where none is."""
        content, _, mark = self.read_files().get(path, b"\0link").partition(b"\0")
        return None if mark == b"link" else content

    def read_tree(self, commit: str) -> Files:
        """Read what a commit holds."""
        lines = self._git_of_vault("ls-tree", "-r", commit).splitlines()
        found = {line.partition("\t")[2]: line.split()[::2] for line in lines}
        for oid in {oid for _, oid, *_ in found.values()} - self._blobs.keys():
            self._blobs[oid] = self._git_of_vault("cat-file", "blob", oid).encode()
        return {path: self._blobs[oid] + MARKS[mode] for path, (mode, oid, *_) in found.items()}

    def read_reachable(self) -> frozenset[str]:
        """List all tokens that a ref, a log of git's, an index, the operation log or a file of the vault has."""
        roots = ["--all", "--reflog", "--indexed-objects"]
        texts = [path.read_bytes() for path in (self.git_dir / "avfs").rglob("*") if path.is_file()]
        ids = {match.decode() for text in texts for match in re.findall(rb"\b[0-9a-f]{40}\b", text)}
        checked = self._git_of_vault("cat-file", "--batch-check", data="\n".join(ids)).splitlines()
        roots += [line.split()[0] for line in checked if line.split()[1:2] == ["commit"]]
        listed = self._git_of_vault("rev-list", "--objects", *roots).splitlines()
        found = {line.split()[0] for line in listed}
        for oid in found - self._blobs.keys():
            self._blobs[oid] = self._git_of_vault("cat-file", "-p", oid).encode()
        return tokens_of([*(self._blobs[oid] for oid in found), *texts])

    def git_says(self, *arguments: str) -> str:
        """Run git in the tree, as somebody who looks."""
        return self._run_git(self.tree, *arguments).stdout

    def find_wrong_status(self) -> list[str]:
        """Compare what git says of the tree with its files."""
        if not self.is_mounted:
            return []
        status = self.git_says("status", "--porcelain", "--no-renames", "-uall")
        said = {
            line[3:].strip('"')
            for line in status.splitlines()
            if line[1] != " " or (line[0] in "UAD" and line[1] in "UAD")
        }
        files = self.read_files()
        there = {}
        unmerged = set()
        for line in self.git_says("ls-files", "-s").splitlines():
            about, _, path = line.partition("\t")
            mode, oid, stage = about.split()
            there[path] = mode, oid
            if stage != "0":
                unmerged.add(path)
        differ = {
            path for path in files.keys() | there.keys() if identify(files.get(path)) != there.get(path)
        } | unmerged
        said, differ = ({path for path in paths if path in there or not is_secret(path)} for paths in (said, differ))
        return (
            [] if said == differ else [f"git status names {sorted(said)}, and {sorted(differ)} differ from the index"]
        )

    # --- steps

    def step(self, line: str) -> Done:
        """Carry out one step."""
        words = shlex.split(line)
        self.script.append(f"{len(self.script) + 1:3}. {line}")
        done: Done = getattr(self, f"_do_{words[0]}")(*words[1:])
        self.script[-1] += f"    # {done.status} {done.code} {_brief(done.said)}".rstrip()
        return done

    def _token(self, whose: str) -> str:
        return f"{whose}-{next(self._count):04}"

    def _do_tick(self) -> Done:
        """Let a second begin."""
        time.sleep(SECOND_S)
        return Done("done")

    def _write(self, path: str, data: bytes | None) -> None:
        if not self.is_mounted:
            self.call(lambda work: work.remove(path) if data is None else _write_at(work, path, data))
            return
        place = self.tree / path
        if data is None:
            place.unlink()
            return
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)

    def _do_edit(self, path: str) -> Done:
        content = self._read(path)
        if content is None:
            return Done("skipped")
        first, _, rest = content.partition(b"\n")
        self._write(path, first + b"\n" + self._token("ours").encode() + b"\n" + rest)
        return Done("done")

    def _do_rewrite(self, path: str) -> Done:
        """Replace our last line by one of the same length."""
        content = self._read(path) or b""
        found = re.search(rb"ours-\d+", content)
        if found is None:
            return Done("skipped")
        self._write(path, content.replace(found[0], self._token("ours").encode()))
        return Done("done")

    def _do_clash(self, path: str) -> Done:
        content = self._read(path)
        if content is None:
            return Done("skipped")
        self._write(path, re.sub(rb"(?m)^middle.*$", b"middle " + self._token("ours").encode(), content))
        return Done("done")

    def _do_create(self, path: str) -> Done:
        if path in self.read_files():
            return Done("skipped")
        self._write(path, fresh(path, self._token("ours")))
        return Done("done")

    def _do_delete(self, path: str) -> Done:
        if path not in self.read_files():
            return Done("skipped")
        self._write(path, None)
        return Done("done")

    def _do_rename(self, path: str, to: str) -> Done:
        files = self.read_files()
        if path not in files or to in files:
            return Done("skipped")
        if self.is_mounted:
            (self.tree / to).parent.mkdir(exist_ok=True)
            (self.tree / path).rename(self.tree / to)
        else:
            self.call(lambda work: work.move(path, to))
        return Done("done")

    def _do_secret(self, path: str) -> Done:
        """Write to a file that is ignored, as long as the rules say so."""
        self._write(path, self._token("secret").encode() + b"\n")
        return Done("done")

    def _do_rules(self, how: str) -> Done:
        self._write(".gitignore", RULES if how == "on" else NO_RULES)
        return Done("done")

    def _do_chmod(self, path: str) -> Done:
        content = self.read_files().get(path)
        if content is None or content.endswith(MARKS["120000"]):
            return Done("skipped")
        mode = 0o644 if content.endswith(MARKS["100755"]) else 0o755
        (self.tree / path).chmod(mode) if self.is_mounted else self.call(lambda work: work.chmod(path, mode))
        return Done("done")

    def _do_link(self, path: str) -> Done:
        if path in self.read_files():
            return Done("skipped")
        target = self._token("ours")
        if self.is_mounted:
            (self.tree / path).parent.mkdir(exist_ok=True)
            (self.tree / path).symlink_to(target)
        else:
            self.call(lambda work: _make_parent(work, path))
            self.call(lambda work: work.symlink(path, target))
        return Done("done")

    def _do_at(self, _: str, *words: str) -> Done:
        """Take a step in the other fork, or make it."""
        if self.side is None or not self._has_side():
            return self._avfs_fork(SIDE)
        return self.side.step(" ".join(words))

    def _do_unmount(self) -> Done:
        return self._guard(lambda _: self.unmount()) if self.is_mounted else Done("skipped")

    def _do_mount(self) -> Done:
        return (
            self._guard(lambda _: self.mount()) if not self.is_mounted and self.backend != "none" else Done("skipped")
        )

    def _do_side(self, name: str, path: str) -> Done:
        """Change a file in another fork, and save that."""

        def change(work: Workspace) -> str:
            with work.vault.workspace(name) as side:
                files = read_all(side)
                if files.get(path, b"").endswith(MARKS["120000"]):
                    return "skipped"
                first, _, rest = files.get(path, fresh(path)).partition(b"\0")[0].partition(b"\n")
                _write_at(side, path, first + b"\n" + self._token("ours").encode() + b"\n" + rest)
                return side.checkpoint("").outcome

        def act(work: Workspace) -> Any:
            return change(work) if work.vault.has_fork(name) else None

        return self._guard(act)

    # --- others

    def _do_others(self, what: str, path: str = "") -> Done:
        clone = self.clone
        self._run_git(clone, "fetch", "-q", "origin")
        self._run_git(clone, "reset", "-q", "--hard", f"origin/{FORK}")
        self._run_git(clone, "clean", "-fdq")
        place, head = clone / (path or ".gitignore"), self._run_git(clone, "rev-parse", "HEAD").stdout.strip()
        token = self._token("theirs").encode()
        if what == "drop":
            if head not in self._pushed:
                return Done("skipped")
            self._git_of_vault("update-ref", f"refs/heads/{FORK}", f"{head}~1", head)
            return Done("done")
        if what == "revert":
            own = [oid for oid in self._run_git(clone, "rev-list", "HEAD").stdout.split() if oid in self._pushed]
            if not own:
                return Done("skipped")
            reverted = self._run_git(clone, "revert", "--no-edit", own[0])
            if reverted.returncode:
                self._run_git(clone, "revert", "--abort")
                return Done("skipped")
        elif what == "create":
            if place.exists():
                return Done("skipped")
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(fresh(path, token.decode()))
        elif not place.exists() or place.is_symlink():
            return Done("skipped")
        elif what == "delete":
            place.unlink()
        elif what == "chmod":
            place.chmod(place.stat().st_mode ^ 0o111)
        elif what in ("rules-on", "rules-off"):
            place.write_bytes(RULES if what == "rules-on" else NO_RULES)
        elif what == "edit":
            place.write_bytes(place.read_bytes() + token + b"\n")
        else:
            assert what == "clash"
            place.write_bytes(re.sub(rb"(?m)^middle.*$", b"middle " + token, place.read_bytes()))
        if what != "revert":
            self._run_git(clone, "add", "-A")
            self._run_git(clone, "commit", "-q", "-m", f"others {what} {path}")
        made = self._run_git(clone, "rev-parse", "HEAD").stdout.strip()
        if made == head:
            return Done("skipped")
        pushed = self._run_git(clone, "push", "-q", "origin", f"HEAD:{FORK}")
        if pushed.returncode:  # git refuses that where a tree shows the branch
            self._run_git(clone, "push", "-q", "origin", "+HEAD:refs/heads/incoming")
            self._git_of_vault("update-ref", f"refs/heads/{FORK}", made, head)
        self._pushed.append(made)
        self.arrived[token.decode()] = time.time_ns()
        return Done("done", said="by update-ref" if pushed.returncode else "by push")

    # --- git in the tree

    def _do_git(self, *words: str) -> Done:
        if not self.is_mounted:
            return Done("skipped")
        if words == ("abort",):
            under_way = self.look().under_way
            if not under_way:
                return Done("skipped")
            words = ({"M": "merge", "C": "cherry-pick", "R": "revert"}.get(under_way[0][0], "rebase"), "--abort")
        arguments = list(words)
        staged = self._show_staged(words[1:]) if words[0] == "commit" else ""
        if words[0] == "apply":
            patch = self.root / "patch"
            patch.write_text(self.git_says("show", "--format=", *words[2:]) + "")
            arguments = ["apply", "-3", str(patch)]
        ran = self._run_git(self.tree, *arguments)
        said = (ran.stdout + ran.stderr).strip()
        done = Done("done" if ran.returncode == 0 else "refused", f"{ran.returncode}", said, staged)
        if ran.returncode not in _ENDS_OF_GIT or "BUG" in said or "bad object" in said or "unable to read" in said:
            done.wrong.append(f"git {' '.join(words)} ended with {ran.returncode}: {said}")
        return done

    def _show_staged(self, options: tuple[str, ...]) -> str:
        """Show what a commit is about to take, as git does for who asks before."""
        how: tuple[str, ...] = ("--cached",)
        if "-a" in options or "-i" in options:
            how = ()
        elif "--" in options:
            how = ("HEAD", "--", *options[options.index("--") + 1 :])
        return self.git_says("diff", "-U0", "--no-renames", *(how or ("HEAD",)))

    # --- avfs

    def _do_avfs(self, verb: str, *words: str) -> Done:
        return getattr(self, f"_avfs_{verb}")(*words)  # type: ignore[no-any-return]

    def _guard(self, action: Any) -> Done:
        try:
            said = self.call(action)
        except InternalError as error:
            return Done("refused", error.code, error, wrong=[f"internal error: {error!r}"])
        except AvfsError as error:
            wrong = [f"an error of a kind that nothing here explains: {error!r}"] if error.code in _FAULTS else []
            return Done("refused", error.code, error, wrong=wrong)
        return Done("done", said=said)

    def _avfs_checkpoint(self, label: str | None = None) -> Done:
        return self._guard(lambda work: work.checkpoint(label, description="saved"))

    def _avfs_update(self) -> Done:
        return self._guard(lambda work: work.update())

    def _avfs_undo(self) -> Done:
        return self._guard(lambda work: work.undo())

    def _avfs_redo(self) -> Done:
        return self._guard(lambda work: work.redo())

    def _avfs_restore(self, state: str) -> Done:
        return self._guard(lambda work: work.restore(state))

    def _avfs_squash(self, first: str) -> Done:
        return self._guard(lambda work: work.squash(first))

    def _avfs_fork(self, name: str) -> Done:
        return self._guard(lambda work: work.vault.fork(name, source=FORK).close())

    def _avfs_merge(self, name: str) -> Done:
        return self._guard(lambda work: work.merge(name) if work.vault.has_fork(name) else None)

    def _avfs_rebase(self, name: str) -> Done:
        return self._guard(lambda work: work.rebase(name) if work.vault.has_fork(name) else None)

    def _avfs_pick(self, name: str) -> Done:
        return self._guard(lambda work: work.cherry_pick([name]) if work.vault.has_fork(name) else None)

    def _avfs_status(self) -> Done:
        return self._guard(lambda work: work.status())

    def _avfs_diff(self) -> Done:
        return self._guard(lambda work: work.diff())

    def _avfs_gc(self) -> Done:
        return self._guard(lambda work: work.vault.gc())

    def _avfs_conflict(self) -> Done:
        """Update, with what conflicts put into the files."""
        return self._guard(lambda work: work.update(on_conflict="workspace"))

    def _avfs_resolve(self, side: str) -> Done:
        def resolve(work: Workspace) -> None:
            merging = work.status().merging
            for conflict in merging.unresolved if merging is not None else ():
                work.resolve(conflict.path, side)

        return self._guard(resolve)

    def _avfs_continue(self) -> Done:
        return self._guard(lambda work: work.continue_merge())

    def _avfs_giveup(self) -> Done:
        return self._guard(lambda work: work.abort_merge())

    def _avfs_exec(self, *command: str) -> Done:
        return self._guard(lambda work: work.exec(*command))

    # --- running git

    def _run_git(self, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "GIT_EDITOR": "true"}
        return subprocess.run(
            ["git", *arguments], cwd=cwd, env=env, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def _git_of_vault(self, *arguments: str, data: str = "") -> str:
        argv = ["git", f"--git-dir={self.git_dir}", *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True, input=data).stdout


_FAULTS = (
    "host.failed",
    "vault.object_corrupt",
    "vault.object_missing",
    "workspace.damaged",
    "vault.ref_damaged",
    "vault.failed",
    "workspace.failed",
    "session.outcome_unknown",
    "vault.git_failed",
)


def _brief(said: object) -> str:
    if said is None:
        return ""
    if isinstance(said, list):
        return ", ".join(map(_brief, said)) or "[]"
    outcome = getattr(said, "outcome", None)
    text = (
        str(outcome)
        if outcome is not None
        else str(said)
        if isinstance(said, (str, Exception))
        else type(said).__name__
    )
    operation = getattr(said, "operation", None)
    if operation is not None:
        text += f" {operation.kind}: {operation.description}"
    return " ".join(text.split())[:140]


def _write_at(work: Workspace, path: str, data: bytes) -> None:
    _make_parent(work, path)
    work.write(path, data)


def _make_parent(work: Workspace, path: str) -> None:
    if "/" in path:
        work.make_dir(path.rpartition("/")[0], parents=True)
