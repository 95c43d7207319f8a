"""Configuration files: what avfs reads in them is what git reads in them, and git is what changes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfs_git.errors import AvfsError, GitFailed, NotAVault, RefLocked
from avfs_git.gitstore.config.gitconfig import edit_config, is_true, parse_plain, read_config
from avfs_git.gitstore.refs import locks as reflocks
from avfs_git.gitstore.remote.remotes import add_remote, find_remote, list_remotes, remove_remote, set_url

HOSTILE = [
    b"",
    b"[core]\n\tbare = true\n",
    b"[core]\n\tbare = true",
    b'[a]\nb=c\n[a "d"]\ne = f ; g\n',
    b'[A.B]\nC\n[x "Y Z"] w = "q r"  # s\n',
    b'[a]\nb = "x\\ty\\"z\\\\" tail\nc = one \\\n two\n',
    b"\n; x\n# y\n[a]\n\tb =   spaced   out  \n\tc = \n",
    b'\xef\xbb\xbf[a]\r\nb = c\r\n[d "e\\"f\\\\g"]\r\nh = "#not a comment"\r\n',
    # A quote that a line leaves open, a comment that ends in a backslash, a section after a value: where parsers of
    # lines and of characters part ways.
    b'[a]\n\tb = "c\n[core]\n\tfsmonitor = touch x\n"\n',
    b"[a]\n\tb = c # \\\n[core]\n\tfsmonitor = touch x\n",
    b"; \\\n[core]\n\tfsmonitor = touch x\n",
    b"[a] b = c [core] fsmonitor = touch x\n",
    b"[a]\n\tb = c\\\n[core]\n\tfsmonitor = touch x\n",
    b'[a "b\\\nc"]\n\td = e\n',
    b"[a]\r[core]\r\tfsmonitor = touch x\r",
    b"[a]\n\tb = c\r\n\td = e\r",
    b"[a]\n\tb = c\x00\n[core]\n\tfsmonitor = touch x\n",
    b"[a]\x0b\n\tb\x0c = c\n",
    b"[CORE]\n\tFsMonitor = touch x\n[Core]\n\tBARE = true\n",
    b"[core.fsmonitor]\n\tx = y\n",
    b'[core ""]\n\tfsmonitor = x\n',
    b'[remote "A"]\n\turl = 1\n[remote "a"]\n\turl = 2\n[REMOTE "a"]\n\turl = 3\n',
    b"[include]\n\tpath = /etc/passwd\n",
    b"[core]\n\tbare = true\n[core]\n\tbare = false\n",
    b"\tbare = true\n",
    b"[core\n\tbare = true\n",
    b'[core]\n\tbare = "tr\\ue"\n',
    b"[core]\n\t1bare = true\n",
    b"[core]\n\tba_re = true\n",
    b"[core]\n\tbare == true\n",
    b"[a]\n\tb = x\xff\xfe y\n",
    b'[a "\xff"]\n\tb = "\xc3\xa9 \xff"\n',
    b"[a]\n\tb = x\x7fy\n",
    b"[a]\n\tb = x\ty\n",
    b'[a]\n\tb = "x" y "z"\n',
    b"[a]\n\tb = c;d#e\n",
    b'[a]\n\tb = "\\"c\\" \\\\d"\n\te = "f\\\\"\n',
    b'[a]\n\tb = "c\\"\n\te = "f"\n',
    b'[a]\n\tb = "c\\t\\d"\n',
]


def read_by_git(path: Path) -> dict[str, list[str]] | None:
    """Read a file as git itself does; None if it refuses."""
    ended = subprocess.run(
        ["git", "config", "--file", os.fspath(path), "--no-includes", "--list", "-z"], capture_output=True, check=False
    )
    if ended.returncode:
        return None
    values: dict[str, list[str]] = {}
    for item in ended.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        key, newline, value = item.partition("\n")
        values.setdefault(key, []).append(value if newline else "true")
    return values


def read_by_us(git_dir: Path) -> dict[str, list[str]] | None:
    """Read it as avfs does; None if it refuses."""
    try:
        return {key: list(values) for key, values in read_config(git_dir).items()}
    except NotAVault:
        return None


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_files_mean_what_they_mean_to_git(tmp_path: Path, data: bytes) -> None:
    """No file has a key for git that it has not for avfs; what git refuses, avfs refuses."""
    (tmp_path / "config").write_bytes(data)
    assert read_by_us(tmp_path) == read_by_git(tmp_path / "config")


_PIECES = [
    b"[core]",
    b'[a "b"]',
    b"[A.b]",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"=",
    b" = ",
    b'"',
    b"\\",
    b"#",
    b";",
    b"\0",
    b"\xef\xbb\xbf",
]
_PIECES += [b"key", b"fsmonitor", b"touch x", b"\xff", b"\x0b", b"]", b"[", b"\\n", b"-", b"1"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=24).map(b"".join), st.booleans())
def test_any_file_means_what_it_means_to_git(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, has_head: bool
) -> None:
    """Pieces of the syntax, strung together anyhow."""
    directory = tmp_path_factory.mktemp("c")
    (directory / "config").write_bytes(b"[x]\n" * has_head + data)
    assert read_by_us(directory) == read_by_git(directory / "config")


def test_what_git_and_avfs_write_needs_no_git_to_be_read(tmp_path: Path) -> None:
    """Opening a vault starts no process: the file is of the plain form also after git and avfs have changed it."""
    subprocess.run(["git", "init", "-q", "--bare", os.fspath(tmp_path / "r")], check=True)
    git_dir = tmp_path / "r"
    subprocess.run(["git", "-C", os.fspath(git_dir), "remote", "add", "by-git", "git@host:path/x.git"], check=True)
    add_remote(git_dir, "by-avfs", "https://host/a b.git")
    edit_config(git_dir, ("--replace-all", "filter.x.clean", '"git-crypt" clean \\n'))
    assert parse_plain((git_dir / "config").read_bytes()) == read_by_git(git_dir / "config")


@pytest.mark.parametrize("text", ["true", "YES", "on", "1", "0", "false", "no", ""])
def test_a_boolean_is_git_s(tmp_path: Path, text: str) -> None:
    """What git takes for true is true."""
    ended = subprocess.run(
        ["git", "-c", f"a.b={text}", "config", "--bool", "a.b"], capture_output=True, check=True, cwd=tmp_path
    )
    assert is_true(text) == (ended.stdout.strip() == b"true")


# --- changing ------------------------------------------------------------------------------------------------


def test_remotes_that_differ_in_case_leave_each_other_alone(tmp_path: Path) -> None:
    """Git keeps them apart, and so does avfs.

    It makes none itself, because their refs are one where file names have no case.
    """
    (tmp_path / "config").write_bytes(
        b'[remote "Work"]\n\turl = /upper\n\tfetch = x\n[remote "work"]\n\turl = /lower\n'
    )
    set_url(tmp_path, "work", "/new")
    assert {remote.name: remote.url for remote in list_remotes(tmp_path)} == {"Work": "/upper", "work": "/new"}
    remove_remote(tmp_path, "work")
    assert [remote.name for remote in list_remotes(tmp_path)] == ["Work"]
    with pytest.raises(AvfsError, match="'Work'"):
        add_remote(tmp_path, "WORK", "/x")
    assert read_by_git(tmp_path / "config") == {"remote.Work.url": ["/upper"], "remote.Work.fetch": ["x"]}


@pytest.mark.parametrize(
    "url", ["/a b/c", '/q"uo"te', "/back\\slash", "/x;y#z", "https://u:p%20w@h/x?y=z", "/é", " /blank "]
)
def test_any_address_comes_back(tmp_path: Path, url: str) -> None:
    """Whatever is in it; the settings around it stay as they are."""
    (tmp_path / "config").write_bytes(b"# mine\n[core]\n\tbare = true ; kept\n")
    add_remote(tmp_path, "o", "/first")
    set_url(tmp_path, "o", url)
    assert find_remote(tmp_path, "o").url == url
    known = read_by_git(tmp_path / "config")
    assert known is not None
    assert known["remote.o.url"] == [url]
    assert (tmp_path / "config").read_bytes().startswith(b"# mine\n[core]\n\tbare = true ; kept\n")


def test_a_change_keeps_the_mode_and_leaves_nothing(tmp_path: Path) -> None:
    """The file has the mode of the one before; no lock stays, also where git refuses the change."""
    (tmp_path / "config").write_bytes(b"[core]\n\tbare = true\n")
    (tmp_path / "config").chmod(0o640)
    edit_config(tmp_path, ("--replace-all", "core.checkStat", "minimal"))
    assert (tmp_path / "config").stat().st_mode & 0o777 == 0o640
    with pytest.raises(GitFailed):
        edit_config(tmp_path, ("--remove-section", "none.such"))
    assert not (tmp_path / "config.lock").exists()
    assert os.listdir(tmp_path / "avfs" / "reftxn") == []


def test_a_lock_of_a_running_git_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is git's, and is left; the error names it."""
    monkeypatch.setattr(reflocks, "_LOCK_WAIT_S", 0.01)
    (tmp_path / "config.lock").touch()
    with pytest.raises(RefLocked) as caught:
        edit_config(tmp_path, ("--replace-all", "core.bare", "true"))
    assert str(tmp_path / "config.lock") in (caught.value.hint or "")
    assert (tmp_path / "config.lock").exists()


@pytest.mark.parametrize("point", ["refs.file_locked", "refs.file_written"])
def test_a_killed_change_stops_nobody(tmp_path: Path, point: str) -> None:
    """Its lock is removed by the next change; the file is the old one or the new one."""
    (tmp_path / "config").write_bytes(b"[core]\n\tbare = false\n")
    program = f"""
        import os, signal
        from pathlib import Path
        from avfs_git import faults
        from avfs_git.gitstore.config.gitconfig import edit_config
        faults.arm(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == {point!r} else None)
        edit_config(Path({os.fspath(tmp_path)!r}), ("--replace-all", "core.bare", "true"))
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "config.lock").exists()

    edit_config(tmp_path, ("--replace-all", "core.checkStat", "minimal"))

    assert read_by_git(tmp_path / "config") == {"core.bare": ["false"], "core.checkstat": ["minimal"]}
    assert not (tmp_path / "config.lock").exists()
