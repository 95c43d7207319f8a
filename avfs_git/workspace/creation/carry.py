"""What a vault takes over from the configuration of the clone that it is made of, and of its user.

Decided here: which files and settings, that no commit holds, git obeys in the clone and has to obey in the live trees
of the vault as well. These are rules of what is ignored, attributes, the author of commits, and how a file is stored:
filters (`filter.NAME.clean`, as `git-crypt unlock` and `git lfs install --local` write them) and line ends. Without its
filter, `git add` in a live tree stores the plain text of a file without a word. `diff.NAME.textconv` is not taken over:
it changes only what is shown, and where a key is missing, as git-crypt's in a vault, `git diff` fails.

Called when a vault is made, and at each fork of a clone. The source is only read, by git, which reads the settings of
no repository that it does not trust. A crash leaves some of it taken over; the next fork of the clone completes that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from avfs_git.gitstore.config.gitconfig import edit_config, is_true, read_config
from avfs_git.gitstore.config.userconfig import read_settings, read_user_ignore
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.repository import common_dir, find_git_dir
from avfs_git.gitstore.rules.attributes import read_info_attributes
from avfs_git.gitstore.rules.ignore import BOM, IGNORE_FILE_READ
from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically
from avfs_git.patterns import compiled
from avfs_git.workspace.creation.foldedcase import spell_hidden

_CARRIED = b"# From the clone and its user; each fork of the clone replaces what follows.\n"
_CARRIED_TO = b"# Rules of this vault.\n"
"""Lines of a vault's `info/exclude` and `info/attributes` around the rules that were taken over."""
_AUTHORS = compiled(r"(?:user|author|committer)\.(?:name|email)")
_FILTERS = compiled(r"(filter\..*)\.(?:clean|smudge|process|required)")
_KEYS = (
    r"(user|author|committer)\.(name|email)|filter\..*\.(clean|smudge|process|required)|core\.(autocrlf|eol|safecrlf)"
)


def carry_over(source: Path | None, git_dir: Path, environment: Mapping[str, str]) -> None:
    """Take over the rules and settings of a source, outside of its commits, and the ignore rules of its user.

    `environment` says where the user's configuration of git is. Costs three processes of git.

    Raises:
        NotAVault: If the ignore rules of the repository are a link, which may lead anywhere, or no file.
        RefLocked: If another program keeps the configuration of the vault locked.
    """
    source_git = find_git_dir(source) if source is not None else None
    rules = read_user_ignore(source or git_dir, environment)
    if source is None or source_git is None:
        _replace_rules(git_dir, "exclude", rules)
        return
    common, own = common_dir(source_git), b""
    with contextlib.suppress(OSError):  # git, too, goes on without it
        own = read_plain_file(common / "info" / "exclude", limit=IGNORE_FILE_READ)
    hidden = b""
    if source != source_git and is_true(read_config(common).get("core.ignorecase", ["false"])[-1]):
        hidden = spell_hidden(source, _join(rules, own))
    _replace_rules(git_dir, "exclude", rules, own, hidden)
    _replace_rules(git_dir, "attributes", read_info_attributes(common))
    _carry_settings(source, git_dir, environment)


def _replace_rules(git_dir: Path, name: str, *files: bytes) -> None:
    """Replace the rules that were taken over before; other rules of the vault stay, and overrule them.

    Of `files`, the later ones overrule. A byte order mark counts for nothing at the head of a file only.
    """
    place = git_dir / "info" / name
    rules = _join(*files)
    with host_errors(f"make '{git_dir}'"):
        held = read_plain_file(place) if place.exists() else b""
        before, _, rest = held.partition(_CARRIED)
        own = (before + rest.partition(_CARRIED_TO)[2]).removeprefix(BOM)
        wanted = _CARRIED + rules + _CARRIED_TO + own if rules else own
        if wanted == held:
            return
        make_dirs_durably(git_dir / "info")
        write_file_atomically(place, wanted)


def _join(*files: bytes) -> bytes:
    return b"".join(one.removeprefix(BOM).removesuffix(b"\n") + b"\n" for one in files if one)


def _carry_settings(source: Path, git_dir: Path, environment: Mapping[str, str]) -> None:
    """Let git in a live tree make the commits that it makes in the clone.

    A user's own configuration may hold for the place of the clone only (`includeIf`): what differs in the vault is
    taken over, too. What the vault's configuration says of the author stays. What it says of how files are stored is
    replaced; filters are replaced as a whole, since `process` overrules `clean`.
    """
    theirs = read_settings(source, environment, _KEYS)
    ours = read_settings(git_dir, environment, _KEYS, is_trusted=True) if theirs else {}
    own = read_config(git_dir)
    edits: list[tuple[str, str] | tuple[str, str, str]] = []
    for key, (value, is_own) in theirs.items():
        held = own.get(key, [None])[-1]
        there = ours[key].value if key in ours else None
        if value != (held if is_own else there) and (held is None or not _AUTHORS.fullmatch(key)):
            edits.append(("--replace-all", key, value))
    filters = {match[1] for match in map(_FILTERS.fullmatch, theirs) if match is not None}
    for key in own:
        match = _FILTERS.fullmatch(key)
        if match is not None and match[1] in filters and key not in theirs:
            edits.append(("--unset-all", key))
    if edits:
        edit_config(git_dir, *edits)
