"""What a vault takes over from the configuration of the clone that it is made of, and of its user.

Decided here: which files and settings, that no commit holds, git obeys in the clone and has to obey in the live trees
of the vault as well. These are rules of what is ignored, and the author of commits.

Called when a vault is made, and at each fork of a clone. The source is only read, by git, which reads the settings of
no repository that it does not trust. A crash leaves some of it taken over; the next fork of the clone completes that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from avfs_git.gitstore.config.gitconfig import edit_config, read_config
from avfs_git.gitstore.config.userconfig import read_settings, read_user_ignore
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.repository import common_dir, find_git_dir
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ
from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically

_CARRIED = b"# From the clone and its user; each fork of the clone replaces what follows.\n"
_CARRIED_TO = b"# Rules of this vault.\n"
"""Lines of a vault's `info/exclude` around the rules that were taken over."""
_KEYS = r"(user|author|committer)\.(name|email)"


def carry_over(source: Path | None, git_dir: Path, environment: Mapping[str, str]) -> None:
    """Take over the rules and settings of a source, outside of its commits, and the ignore rules of its user.

    `environment` says where the user's configuration of git is. Costs three processes of git.

    Raises:
        NotAVault: If a file of rules of the repository is a link, which may lead anywhere, or no file.
        RefLocked: If another program keeps the configuration of the vault locked.
    """
    source_git = find_git_dir(source) if source is not None else None
    info = common_dir(source_git) / "info" if source_git is not None else None
    rules = read_user_ignore(source or git_dir, environment)
    own = _read_rules(info, "exclude", IGNORE_FILE_READ)
    _replace_rules(git_dir, "exclude", rules.removesuffix(b"\n") + b"\n" + own if own and rules else own or rules)
    if source is not None and source_git is not None:
        _carry_settings(source, git_dir, environment)


def _read_rules(info: Path | None, name: str, limit: int) -> bytes:
    if info is not None:
        with contextlib.suppress(OSError):  # git, too, goes on without it
            return read_plain_file(info / name, limit=limit)
    return b""


def _replace_rules(git_dir: Path, name: str, rules: bytes) -> None:
    """Replace the rules that were taken over before; other rules of the vault stay, and overrule them."""
    place = git_dir / "info" / name
    with host_errors(f"make '{git_dir}'"):
        held = read_plain_file(place) if place.exists() else b""
        before, _, rest = held.partition(_CARRIED)
        own = before + rest.partition(_CARRIED_TO)[2]
        wanted = _CARRIED + rules.removesuffix(b"\n") + b"\n" + _CARRIED_TO + own if rules else own
        if wanted == held:
            return
        make_dirs_durably(git_dir / "info")
        write_file_atomically(place, wanted)


def _carry_settings(source: Path, git_dir: Path, environment: Mapping[str, str]) -> None:
    """Let git in a live tree make the commits that it makes in the clone.

    A user's own configuration may hold for the place of the clone only (`includeIf`): what differs in the vault is
    taken over, too. What the vault's configuration says already stays.
    """
    theirs = read_settings(source, environment, _KEYS)
    ours = read_settings(git_dir, environment, _KEYS, is_trusted=True) if theirs else {}
    own = read_config(git_dir)
    edits: list[tuple[str, str, str]] = []
    for key, (value, is_own) in theirs.items():
        there = ours[key].value if key in ours else None
        if key not in own and (is_own or value != there):
            edits.append(("--replace-all", key, value))
    if edits:
        edit_config(git_dir, *edits)
