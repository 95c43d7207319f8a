"""What `~` stands for."""

import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from avfs_git.errors import InvalidInput
from avfs_git.host.userhome import expand_user, find_user_home


def _refuse(_: int) -> NoReturn:
    raise KeyError


@pytest.mark.parametrize("is_set", [True, False])
def test_an_empty_home_is_an_unset_one(is_set: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password database names the directory: not `/`, where vaults of root would be made."""
    if is_set:
        monkeypatch.setenv("HOME", "")
    else:
        monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_dir="/home/ada"))
    assert find_user_home() == Path("/home/ada")
    assert expand_user(Path("~/.local/share")) == Path("/home/ada/.local/share")
    assert expand_user(Path("a/~")) == Path("a/~")

    monkeypatch.setattr(pwd, "getpwuid", _refuse)
    with pytest.raises(InvalidInput, match="HOME is not set"):
        find_user_home()


def test_home_comes_before_the_password_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """As git and shells do it."""
    monkeypatch.setenv("HOME", "/somewhere")
    assert expand_user(Path("~/x")) == Path("/somewhere/x")
