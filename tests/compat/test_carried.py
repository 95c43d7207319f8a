"""What a vault takes over from a clone that git obeys outside of commits: filters, line ends, attributes, the author.

Git itself says what is stored of a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from avfs_git.cli.environment import find_identity
from avfs_git.sdk import Avfs
from avfs_git.workspace.creation.carry import carry_over
from tests.support.oracle import git

pytestmark = pytest.mark.needs("git", "user-xattrs")

ROT13 = "tr a-zA-Z n-za-mN-ZA-M"
CRYPT = f'[filter "crypt"]\n\tclean = {ROT13}\n\tsmudge = {ROT13}\n\trequired\n'
ATTRIBUTES = "*.sec filter=crypt\n"
SECRET = b"a secret\n"
STORED = b"n frperg\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in which an attribute names a filter that is not configured."""
    place = tmp_path / "clone"
    git("init", "-q", "-b", "main", place)
    (place / ".gitattributes").write_text(ATTRIBUTES)
    git("add", ".", cwd=place)
    git("commit", "-qm", "one", cwd=place)
    return place


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where the user's configuration is, which is empty."""
    (tmp_path / "settings").touch()
    return {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": str(tmp_path / "settings"), "GIT_CONFIG_NOSYSTEM": "1"}


def _make(tmp_path: Path, clone: Path, environment: Mapping[str, str]) -> Path:
    """Make a vault of a clone."""
    with Avfs(tmp_path / "home", remote_environment=environment) as home:
        return home.create_vault("v", source=clone).path


def _store(
    vault: Path, environment: Mapping[str, str] = {}, *, name: str = "new.sec", content: bytes = SECRET
) -> bytes:
    """Have git store a file in a linked working tree of a vault; tell what it has stored."""
    tree = vault.parent / "tree"
    if not tree.exists():
        git("worktree", "add", "-q", "-b", "test", tree, "main", cwd=vault, **environment)
    (tree / name).write_bytes(content)
    git("add", name, cwd=tree, **environment)
    return git("cat-file", "blob", f":{name}", cwd=tree)


@pytest.mark.parametrize("where", ["config", "include", "config.worktree", "includeIf"])
def test_git_stores_a_file_as_in_the_clone(
    tmp_path: Path, clone: Path, environment: dict[str, str], where: str
) -> None:
    """Wherever the clone has its filter from; the user may name it for the place of the clone only."""
    included = tmp_path / "included"
    included.write_text(CRYPT)
    if where == "include":
        git("config", "include.path", included, cwd=clone)
    elif where == "config.worktree":
        git("config", "extensions.worktreeConfig", "true", cwd=clone)
        included.rename(clone / ".git" / where)
    elif where == "includeIf":
        Path(environment["GIT_CONFIG_GLOBAL"]).write_text(f'[includeIf "gitdir:{clone}/"]\n\tpath = {included}\n')
    else:
        (clone / ".git" / "config").write_text((clone / ".git" / "config").read_text() + CRYPT)
    vault = _make(tmp_path, clone, environment)
    assert _store(vault, environment) == STORED
    assert git("config", "--type=bool", "filter.crypt.required", cwd=vault) == b"true\n"


def test_what_the_users_own_configuration_says_is_not_copied(
    tmp_path: Path, clone: Path, environment: dict[str, str]
) -> None:
    """Git in a live tree sees that anyway, also when it changes."""
    Path(environment["GIT_CONFIG_GLOBAL"]).write_text(CRYPT)
    vault = _make(tmp_path, clone, environment)
    assert b"filter" not in (vault / "config").read_bytes()
    assert _store(vault, environment) == STORED


def test_each_fork_brings_the_filters_up_to_date(tmp_path: Path, clone: Path, environment: dict[str, str]) -> None:
    """A new filter, a changed one, and the whole of it; others of the vault stay."""
    vault = _make(tmp_path, clone, environment)
    assert _store(vault) == SECRET  # of a filter that is not configured, git knows nothing in the clone, either
    git("config", "filter.of-vault.clean", "cat", cwd=vault)
    git("config", "filter.crypt.clean", "false", cwd=clone)
    git("config", "filter.crypt.process", "false", cwd=clone)
    carry_over(clone, vault, environment)
    git("config", "--unset", "filter.crypt.process", cwd=clone)
    git("config", "filter.crypt.clean", ROT13, cwd=clone)
    carry_over(clone, vault, environment)
    assert _store(vault, name="again.sec") == STORED
    said = git("config", "--get-regexp", "^filter", cwd=vault).decode().splitlines()
    assert sorted(said) == [f"filter.crypt.clean {ROT13}", "filter.of-vault.clean cat"]
    before = (vault / "config").stat().st_ino
    carry_over(clone, vault, environment)
    assert (vault / "config").stat().st_ino == before


def test_a_required_filter_that_fails_stores_nothing(tmp_path: Path, clone: Path, environment: dict[str, str]) -> None:
    """As that of git-crypt, which keeps its keys in the git directory of the clone."""
    git("config", "filter.crypt.clean", 'cat "$(git rev-parse --git-dir)/key" -', cwd=clone)
    git("config", "filter.crypt.required", "true", cwd=clone)
    (clone / ".git" / "key").write_text("key ")
    vault = _make(tmp_path, clone, environment)
    with pytest.raises(AssertionError, match=r"external filter .* failed"):
        _store(vault)


def test_line_ends_and_own_attributes_are_those_of_the_clone(
    tmp_path: Path, clone: Path, environment: dict[str, str]
) -> None:
    """Without a commit that says so: `core.autocrlf` and `info/attributes` of the clone alone.

    That file may begin with a byte order mark, which git skips.
    """
    git("config", "core.autocrlf", "input", cwd=clone)
    git("config", "filter.crypt.clean", ROT13, cwd=clone)
    (clone / ".git" / "info").mkdir(exist_ok=True)
    (clone / ".git" / "info" / "attributes").write_text("\ufeff*.own filter=crypt\n")
    vault = _make(tmp_path, clone, environment)
    assert _store(vault, name="a.own") == STORED
    assert _store(vault, name="lines", content=b"one\r\ntwo\r\n") == b"one\ntwo\n"
    with (vault / "info" / "attributes").open("a") as rules:
        rules.write("kept -filter\n")
    (clone / ".git" / "info" / "attributes").write_text("*.other filter=crypt\nkept filter=crypt\n")
    carry_over(clone, vault, environment)
    assert _store(vault, name="b.own") == _store(vault, name="kept") == SECRET
    assert _store(vault, name="a.other") == STORED


@pytest.mark.parametrize("folds", [True, False])
def test_case_counts_in_rules_as_in_the_clone(tmp_path: Path, clone: Path, *, folds: bool) -> None:
    """A clone from macOS or Windows has files that rules name in another case; a fork has them beside history, too."""
    (clone / ".gitignore").write_text("secrets/\n*.PEM\nKey[A-C]\n*.PEM\\ \n")
    git("add", ".gitignore", cwd=clone)
    git("commit", "-qm", "rules", cwd=clone)
    git("config", "core.ignoreCase", str(folds), cwd=clone)
    for name in (
        "Secrets/token",
        "server.pem",
        "[odd]* \\ .pem",
        "Sub/a.pem",
        "Sub/b",
        "keyb",
        "other",
        "trailing.pem ",
    ):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text("1\n")
    with Avfs(tmp_path / "home") as home:
        vault = home.create_vault("v", source=clone)
        fork = vault.workspace()
        fork.write("later", b"1\n")
        fork.checkpoint("all")
        stored = git("ls-tree", "-r", "-z", "--name-only", "main", cwd=vault.path).split(b"\0")
        in_vault = git(f"--git-dir={vault.path}", f"--work-tree={clone}", "ls-files", "-z", "-o", "--exclude-standard")
    told = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=clone).split(b"\0")
    assert {*told, b"later"} == set(stored)
    assert set(in_vault.split(b"\0")) == set(told)
    assert (b"server.pem" in stored) is not folds


@pytest.mark.needs("root")
def test_settings_of_a_clone_that_git_does_not_trust_are_left(
    tmp_path: Path, clone: Path, environment: dict[str, str]
) -> None:
    """It belongs to another user: git in it obeys its configuration only where `safe.directory` says so."""
    (clone / ".git" / "config").write_text((clone / ".git" / "config").read_text() + CRYPT + "[user]\n\tname = Eve\n")
    for place in (clone, clone / ".git", clone / ".git" / "config"):
        os.chown(place, 12345, 12345)
    vault = _make(tmp_path, clone, environment)
    assert not {b"filter", b"Eve"} & set((vault / "config").read_bytes().replace(b'"', b" ").split())
    Path(environment["GIT_CONFIG_GLOBAL"]).write_text(f"[safe]\n\tdirectory = {clone}\n")
    carry_over(clone, vault, environment)
    assert _store(vault) == STORED


def test_a_vault_of_a_clone_commits_as_git_does_there(
    tmp_path: Path, clone: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clone's own author, before the user's: the commit of the import and the checkpoints, too."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "AVFS_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    git("config", "--file", environment["GIT_CONFIG_GLOBAL"], "user.name", "Bea")
    git("config", "--file", environment["GIT_CONFIG_GLOBAL"], "user.email", "bea@home.example")
    git("config", "user.email", "bea@work.example", cwd=clone)
    (clone / "a").write_text("changed\n")
    with (
        Avfs(tmp_path / "home", identity=find_identity, remote_environment=environment) as home,
        home.create_vault("v", source=clone) as vault,
    ):
        work = vault.workspace()
        work.write("b", b"b\n")
        work.checkpoint("b")
        said = git("log", "-2", "--format=%an <%ae>", "main", cwd=vault.path)
    assert said == b"Bea <bea@work.example>\n" * 2
