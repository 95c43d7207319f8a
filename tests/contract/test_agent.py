"""`avfs_git.agent`: every method, and an agent's loop as docs/guides/agents.md has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.agent import AVFS, AVFSError, VaultNotFoundError

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow, pytest.mark.usefixtures("person")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory to begin with."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "check.sh").write_text("grep -q fixed app.txt\n")
    (root / "app.txt").write_text("broken\n")
    return root


@pytest.fixture
def fs(mount_dir: Path, project: Path) -> Iterator[AVFS]:
    """An agent's view of a vault."""
    with AVFS(home=mount_dir / "h") as made:
        made.create_vault("shop", source=project)
        yield made


def test_every_method_works(fs: AVFS) -> None:
    """Files, forks, commands and checkpoints, in one process."""
    assert fs.list_vaults() == ["shop"]
    assert fs.fork_vault(None, "task")["name"] == "task"
    fs.mkdir("a/b")
    assert fs.write("a/b/c.txt", "needle\n\udcff")["size"] == 8
    assert (fs.cat("a/b/c.txt"), fs.read("a/b/c.txt")) == ("needle\n\udcff", b"needle\n\xff")
    assert [entry["path"] for entry in fs.ls("a/b")] == ["a/b/c.txt"]
    fs.cp("a", "z")
    fs.mv("z", "y")
    assert fs.tree("a") == "a/\n  b/\n    c.txt\n"
    assert [(match["path"], match["line"]) for match in fs.grep("n..dle")] == [("/a/b/c.txt", 1), ("/y/b/c.txt", 1)]
    assert len(fs.search("NEEDLE", "/a")) == 1
    saved = fs.checkpoint_save("one")
    fs.rm("y", recursive=True)
    assert fs.checkpoint_list()[0]["id"] == saved["checkpoint"]["id"]
    fs.checkpoint_restore("one")
    assert fs.cat("y/b/c.txt").startswith("needle")
    fs.undo()
    assert fs.stats()["size_bytes"] > 0
    assert isinstance(fs.gc(), dict)
    assert isinstance(fs.compact(), dict)
    assert fs.use_vault("shop")["name"] == "shop"
    with pytest.raises(VaultNotFoundError):
        fs.use_vault("nowhere")
    with pytest.raises(AVFSError):
        fs.grep("(")


def test_a_command_is_answered_in_every_outcome(fs: AVFS) -> None:
    """Success, failure and refusal are documents."""
    done = fs.proxy_exec("sh", "check.sh")
    assert (done["success"], done["result"]["exit_code"], done["error"]) == (False, 1, None)
    done = fs.proxy_exec(shell="echo fixed > app.txt")
    assert [change["path"] for change in done["result"]["changed_files"]] == ["app.txt"]
    refused = fs.proxy_exec("curl", "https://example.org")
    assert (refused["success"], refused["result"], refused["error"]["code"]) == (False, None, "policy.approval_needed")


@pytest.mark.parametrize("home", ["absolute", "relative"])
def test_the_guides_example_works(
    mount_dir: Path, project: Path, home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loop in docs/guides/agents.md forks, runs, checks, keeps or discards, and says what was refused or failed."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "agents.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", guide, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(mount_dir)
    names: dict[str, object] = {"HOME": Path("h") if home == "relative" else mount_dir / "h", "PROJECT": project}
    exec(code[1].replace('yield "echo almost', 'yield "curl https://example.org"\n    yield "echo almost'), names)
    printed = capsys.readouterr().out
    assert "approve" in printed
    assert "try-1 fails its check:" in printed
    with AVFS("shop", home=mount_dir / "h") as fs:
        assert fs.cat("app.txt") == "fixed\n"


def test_the_users_policy_holds_and_the_user_is_the_author(
    mount_dir: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the vaults are in another directory than the command line's."""
    (tmp_path / "config" / "avfs").mkdir(parents=True)
    rule = '[[rule]]\nname = "no-touch"\ncommands = ["touch"]\naction = "deny"\n'
    (tmp_path / "config" / "avfs" / "policy.toml").write_text(f"version = 1\n{rule}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("AVFS_AUTHOR_NAME", "Ada")
    monkeypatch.setenv("AVFS_AUTHOR_EMAIL", "ada@example.org")
    with AVFS(home=mount_dir / "other") as fs:
        fs.create_vault("shop", source=project)
        refused = fs.proxy_exec("touch", "new")
        assert (refused["success"], refused["error"]["code"]) == (False, "policy.denied")
        fs.write("app.txt", "fixed\n")
        fs.checkpoint_save("one")
        assert next(iter(fs.workspace.log())).checkpoint.author.name == "Ada"
