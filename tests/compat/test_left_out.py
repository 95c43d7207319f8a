"""What git was told to leave alone in a clone: forks and imports commit nothing else than `git add -A` there would."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from avfs_git.paths import oid_of
from avfs_git.sdk import Avfs
from avfs_git.vfs.scan.statcache import StatCache, StatCacheUpdate
from avfs_git.workspace.forks import clones
from avfs_git.workspace.vault.format import SEEN
from avfs_git.workspace.vault.origin import peek_state
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.oracle import git

pytestmark = pytest.mark.needs("user-xattrs")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Avfs]:
    """A home without anything of a user's own."""
    with Avfs(tmp_path / "avfs") as avfs:
        yield avfs


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with one commit."""
    place = tmp_path / "clone"
    place.mkdir()
    git("init", "-q", "-b", "main", cwd=place)
    for name in ("f", "conf", "a/f", "b/f", "b/deep/g"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{name}\n")
        os.utime(place / name, (1_500_000_000, 1_500_000_000))  # the index is believed
    git("add", ".", cwd=place)
    git("commit", "-qm", "first", cwd=place)
    return place


def fork_directory(home: Avfs, clone: Path, name: str, fork: str, environment: dict[str, str] | None = None) -> bytes:
    """Fork a clone; list what the fork begins with, without mounting it."""
    if name not in [vault.name for vault in home.list_vaults()]:
        home.create_vault(name).close()
    with closing(OpenVault(home.home / "vaults" / f"{name}.git", remote_environment=environment)) as vault:
        clones.fork_present(vault, fork, clone)
        state = peek_state(vault, fork)
        assert state is not None
        assert state.base is not None
        return git("ls-tree", "-r", state.base, cwd=vault.git_dir)


def expect_as_added(home: Avfs, clone: Path, name: str) -> set[str]:
    """Import a clone and fork it twice; each begins with what git would commit.

    Give the codes of the warnings of the import.
    """
    with home.create_vault(f"{name}-import", source=clone) as vault:
        codes = {warning.code for warning in vault.warnings}
        held = [git("ls-tree", "-r", "main", cwd=vault.path)]
    held += [fork_directory(home, clone, name, "one"), fork_directory(home, clone, name, "two")]
    git("add", "-A", cwd=clone)
    tree = git("write-tree", cwd=clone).decode().strip()
    assert held == [git("ls-tree", "-r", tree, cwd=clone)] * 3
    return codes


@pytest.mark.parametrize("mode", ["--cone", "--no-cone"])
def test_a_sparse_checkout(home: Avfs, clone: Path, mode: str) -> None:
    """Directories and files that it leaves out are not deleted, also beside a deletion and a new file."""
    git("sparse-checkout", "set", mode, "a", cwd=clone)
    assert not (clone / "b").exists()
    assert not expect_as_added(home, clone, "left")

    (clone / "a" / "f").unlink()
    (clone / "a" / "new").write_text("new\n")
    assert not expect_as_added(home, clone, "changed")


def test_rules_that_a_sparse_checkout_leaves_out(home: Avfs, clone: Path) -> None:
    """They hold, as for git: what they ignore is a secret in no commit, at this fork and at the next."""
    (clone / ".gitignore").write_text(".env\n")
    (clone / "a/.gitignore").write_text("*.o\n")
    git("add", ".", cwd=clone)
    git("commit", "-qm", "rules", cwd=clone)
    git("sparse-checkout", "set", "--no-cone", "/*", "!.gitignore", cwd=clone)
    assert not (clone / ".gitignore").exists()
    for name in (".env", "a/x.o", "new"):
        (clone / name).write_text("1")
    expect_as_added(home, clone, "rules")
    (clone / "a/y.o").write_text("1")
    assert b".o\n" not in fork_directory(home, clone, "rules", "three")


def test_what_an_earlier_edition_remembered_is_not_believed(home: Avfs, clone: Path, tmp_path: Path) -> None:
    """It took a secret for a new file, whose ignore rule is left out of the working tree."""
    (clone / ".env").write_text("a secret\n")
    assert b".env" in fork_directory(home, clone, "v", "one")  # nothing ignores it yet
    (tmp_path / "rules").write_text(".env\n")
    rules = git("hash-object", "-w", tmp_path / "rules", cwd=clone).decode().strip()
    git("update-index", "--add", "--cacheinfo", f"100644,{rules},.gitignore", cwd=clone)
    git("commit", "-qm", "rules", cwd=clone)
    git("sparse-checkout", "set", "--no-cone", "/*", "!.gitignore", cwd=clone)

    with closing(OpenVault(home.home / "vaults" / "v.git")) as vault:
        tracked, exclude = git("rev-parse", "HEAD^{tree}", cwd=clone).strip(), vault.read_exclude()
        decides = b"%b\0%d\0%b11" % (tracked, len(exclude), exclude) + (clone / ".git" / "index").read_bytes()
        text = f"a directory as it was forked\n\n{hashlib.sha256(decides).hexdigest()}"
        seen = git("commit-tree", "-m", text, f"{SEEN}^{{tree}}", cwd=vault.git_dir).decode().strip()
        git("update-ref", SEEN, seen, cwd=vault.git_dir)
        cache = StatCache.load(vault.layout.seen)
        assert cache is not None
        cache.commit_update(StatCacheUpdate(), tree=cache.tree, sidecar=cache.sidecar, commit=oid_of(seen))

    held = fork_directory(home, clone, "v", "two")
    assert b".env" not in held
    assert b".gitignore" in held


def test_a_directory_that_is_gone_and_left_out_in_part(home: Avfs, clone: Path) -> None:
    """What the sparse checkout holds of it is deleted, the rest is not."""
    git("sparse-checkout", "set", "--no-cone", "/a/", "/b/f", cwd=clone)
    (clone / "b" / "f").unlink()
    (clone / "b").rmdir()

    assert not expect_as_added(home, clone, "part")


def test_a_sparse_index(home: Avfs, clone: Path) -> None:
    """It does not name the files that are left out: they are in the fork."""
    git("sparse-checkout", "set", "--cone", "--sparse-index", "a", cwd=clone)
    (clone / "a" / "f").write_text("changed\n")

    assert not expect_as_added(home, clone, "sparse")


def test_a_split_index(home: Avfs, clone: Path) -> None:
    """Its marks count as those of any other."""
    git("update-index", "--split-index", cwd=clone)
    git("update-index", "--skip-worktree", "conf", cwd=clone)
    (clone / "conf").write_text("a secret\n")

    assert expect_as_added(home, clone, "split") == {"fork.marked_unchanged"}


def test_an_index_that_names_no_trees(home: Avfs, clone: Path) -> None:
    """As after `rm .git/index; git add -A`: what is tracked is in every fork, also beside an empty directory."""
    (clone / ".git" / "index").unlink()
    git("add", "-A", cwd=clone)
    (clone / "empty").mkdir()
    (clone / ".gitignore").write_text("*.o\n")  # that is new, so the second fork, too, looks at the index

    assert not expect_as_added(home, clone, "bare")


@pytest.mark.parametrize("mark", ["--skip-worktree", "--assume-unchanged"])
def test_a_file_that_git_does_not_look_at(home: Avfs, clone: Path, mark: str) -> None:
    """What a user's index mark keeps out of commits stays out of forks, and is named; deleted, it stays tracked."""
    git("update-index", mark, "conf", "f", cwd=clone)
    (clone / "conf").write_text("a secret\n")
    (clone / "f").unlink()

    assert expect_as_added(home, clone, "marked") == {"fork.marked_unchanged"}


def test_a_mark_on_an_unchanged_file_says_nothing(home: Avfs, clone: Path) -> None:
    """There is nothing to warn of."""
    git("update-index", "--assume-unchanged", "conf", cwd=clone)

    assert not expect_as_added(home, clone, "marked")


@pytest.mark.parametrize("how", ["standard", "global", "local", "link"])
def test_the_users_own_ignore_rules(tmp_path: Path, clone: Path, how: str) -> None:
    """Rules outside of any repository hold, and those of the repository overrule them.

    Each file may begin with a byte order mark, which git skips.
    """
    rules = tmp_path / "home" / ".config" / "git" / "ignore"
    if how != "standard":
        rules = tmp_path / "rules"
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text("\ufeff.env\n*.log\n")
    (tmp_path / "home").mkdir(exist_ok=True)
    if how == "link":
        (tmp_path / "link").symlink_to(rules)
        rules = tmp_path / "link"
    config = tmp_path / "home" / ".gitconfig"
    if how == "local":
        git("config", "core.excludesFile", rules, cwd=clone)
    elif how != "standard":
        git("config", "--file", config, "core.excludesFile", rules)
    (clone / ".git" / "info" / "exclude").write_text("\ufeff!keep.log\n")
    for name in (".env", "x.log", "keep.log"):
        (clone / name).write_text("x\n")

    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    with Avfs(tmp_path / "own", remote_environment=environment) as home:
        with home.create_vault("v", source=clone) as vault:
            assert git("ls-tree", "--name-only", "main", ".env", "x.log", "keep.log", cwd=vault.path) == b"keep.log\n"
        assert b".env" not in fork_directory(home, clone, "forks", "one", environment)
        with home.create_vault("empty") as vault, vault.workspace() as work:
            work.write(".env", b"a secret\n")
            work.write("f", b"x\n")
            work.checkpoint("all")
            assert git("ls-tree", "--name-only", "main", cwd=vault.path) == (b".env\nf\n" if how == "local" else b"f\n")


def test_rules_that_were_added_to_the_vault_stay(home: Avfs, clone: Path) -> None:
    """The next fork of the clone takes over its rules of now, beside what git in a fork was told to ignore."""
    exclude = clone / ".git" / "info" / "exclude"
    exclude.write_text("old\n")
    fork_directory(home, clone, "v", "one")
    rules = home.home / "vaults" / "v.git" / "info" / "exclude"
    rules.write_text(f"\ufeff{rules.read_text()}secrets.env\n")  # as some editors do
    exclude.write_text("now\n")
    (clone / "secrets.env").write_text("a secret\n")

    assert b"secrets.env" not in fork_directory(home, clone, "v", "two")
    held = rules.read_text().splitlines()
    assert [rule for rule in held if not rule.startswith("#")] == ["now", "secrets.env"]
    exclude.write_text("")
    assert b"secrets.env" not in fork_directory(home, clone, "v", "three")


@pytest.mark.parametrize("setting", ["core.fileMode", "core.symlinks"])
@pytest.mark.parametrize("is_of_user", [False, True])
def test_a_disk_that_git_does_not_believe(
    tmp_path: Path, home: Avfs, clone: Path, setting: str, *, is_of_user: bool
) -> None:
    """Modes and links are those of the index, also of files that changed; new files are plain ones."""
    (clone / "run").write_text("run\n")
    (clone / "run").chmod(0o755)
    (clone / "link").symlink_to("f")
    (clone / "kept").symlink_to("conf")
    git("add", "-A", cwd=clone)
    git("commit", "-qm", "kinds", cwd=clone)
    for name, text in (("link", "f"), ("kept", "a/f")):
        (clone / name).unlink()
        (clone / name).write_text(text)
    (clone / "run").chmod(0o644)
    (clone / "f").chmod(0o755)
    (clone / "conf").write_text("changed\n")
    (clone / "conf").chmod(0o700)
    (clone / "new").write_text("new\n")
    (clone / "new").chmod(0o755)
    environment = {"HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": str(tmp_path / "config")}
    git("config", "--unset", "core.fileMode", cwd=clone)
    where = ["--file", environment["GIT_CONFIG_GLOBAL"]] if is_of_user else []
    git("config", *where, setting, "false", cwd=clone)

    fork_directory(home, clone, "v", "before")
    with (
        Avfs(tmp_path / "other", remote_environment=environment) as other,
        other.create_vault("i", source=clone) as vault,
    ):
        imported = git("ls-tree", "-r", "main", cwd=vault.path)
    held = [imported]
    held += [fork_directory(home, clone, "v", name, environment) for name in ("one", "two")]
    git("-c", f"{setting}=false", "add", "-A", cwd=clone)
    tree = git("write-tree", cwd=clone).decode().strip()
    held.append(fork_directory(home, clone, "v", "three", environment))
    assert held == [git("ls-tree", "-r", tree, cwd=clone)] * len(held)
