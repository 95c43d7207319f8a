"""What is shown of addresses: never a user, a password or a token in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.cli.commands.remotes.clone import name_of_url
from avfs_git.errors import AvfsError, hide_user
from avfs_git.gitstore.remote.remotes import hide_secret
from avfs_git.gitstore.remote.runner import note
from tests.support.cli import Cli

SECRET = "hunter2"
URLS = [
    f"https://user:{SECRET}@host/x.git",
    f"https://{SECRET}@host/x.git",
    f"https://{SECRET}:x-oauth-basic@host:8443/x.git",
    f"https://user:a@b{SECRET}@host/x",
    f"https://user:a/{SECRET}@host/x",
    f"https://user:a?{SECRET}@host/x",
    f"https://user:a#{SECRET}@host/x",
    f"https://user%3A{SECRET}%40host/x",
    f"ssh://user:{SECRET}@host/x",
    f"git+ssh://{SECRET}@host/x",
    f"HTTPS://USER:{SECRET}@HOST/X",
    f"https://host/x?access_token={SECRET}",
    f"https://host/x#fragment?token={SECRET}",
    f"https://host/x?a=b&c={SECRET}#d",
    f"https://[::1]:80/x?t={SECRET}",
    f"https://mirror/https://user:{SECRET}@host/x",
    f"user:{SECRET}@host:path",
]


@pytest.mark.parametrize("url", URLS)
def test_no_address_shows_a_secret(url: str) -> None:
    """Alone, and in a sentence, as git writes it; in an error with all that belongs to it."""
    assert SECRET not in hide_secret(url)
    assert "user" not in hide_secret(url).lower().replace("user%3a", "user")
    if "://" not in url:
        return
    for text in (f"fatal: unable to access '{url}/': no", f"cannot fetch {url}, {url}.", f'remote: see "{url}".'):
        assert SECRET not in hide_user(text)
        messages: list[str] = []
        note(text.encode(), messages)
        assert messages
        assert SECRET not in messages[0]
    error = AvfsError(f"no {url}", hint=f"Try {url}.", details={"url": url, "more": [{"deep": (url,)}]})
    assert SECRET not in f"{error} {error!r} {error.message} {error.hint} {error.details}"


@pytest.mark.parametrize(
    "url",
    [
        "https://host/x.git",
        "https://host:80/x@v1",
        "https://[::1]:80/x@y",
        "git@host:o/r.git",
        "/a:b@c",
        "file:///a@b",
        "see 'https://h:1'.",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(url: str) -> None:
    """A port, an `@` in a path, and the user of ssh's short form."""
    assert hide_secret(url) == url


@given(st.text(min_size=1), st.text(alphabet="abc:%", min_size=1), st.sampled_from(["", ":80", "/p", "/p?q", "#f"]))
def test_any_text_is_shown(before: str, user: str, after: str) -> None:
    """Whatever it holds; nothing is left of a user."""
    assert f"{user}@" not in hide_user(f"x://{user}@host{after}")
    hide_user(before + "://" + user + "@" + before)


def test_the_name_of_a_clone_comes_from_the_path() -> None:
    """Not from a user or a query."""
    assert name_of_url(f"https://u:{SECRET}@host/x.git?t={SECRET}") == "x"
    assert name_of_url(f"https://u:{SECRET}@host") == "host"


@pytest.mark.parametrize(
    "url",
    [f"https://u:{SECRET}@127.0.0.1:1/x.git", f"https://{SECRET}@127.0.0.1:1/x?t={SECRET}", f"nope://u:{SECRET}@h/x"],
)
def test_no_command_shows_a_secret(url: str, cli: Cli, tmp_path: Path) -> None:
    """Neither as text nor as JSON; nor does what is kept beside the configuration."""
    cli("vault", "create", "v").ok()
    ran = [cli("clone", url), cli("--json", "clone", url, "w"), cli("remote", "add", "o", url), cli("remote", "list")]
    ran += [
        cli("--json", *words)
        for words in (["remote", "list"], ["fetch"], ["push"], ["op", "log"], ["remote", "set-url", "o", url])
    ]
    for one in ran:
        assert SECRET not in one.text + one.stderr, one.arguments
    home = Path(cli("--json", "vault", "info", "v").result["path"])
    assert [path.name for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] in (
        [],
        ["config"],
    )
