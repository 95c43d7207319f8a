"""Repositories as a whole: made, checked and found.

Decided here: what a new vault's repository looks like, and which repositories can serve as a vault or as the source of
one. Called when vaults are created and opened. Runs nothing; of a configuration only what may forbid the use is read.

A new repository is made whole under the name it is given: a caller that wants it to appear at once gives a temporary
name and renames. On return it is on disk.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import AvfsError, FormatUnsupported, InvalidName, NotAVault, RefDamaged, quote
from avfs_git.gitstore.config.gitconfig import Config, edit_config, is_true, quote_value, read_config
from avfs_git.gitstore.config.outside import parse_pointer
from avfs_git.gitstore.formats.quoting import unquote
from avfs_git.gitstore.refs.names import check_ref_name
from avfs_git.gitstore.refs.refs import OWN_REFS, RefStore
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.host.files.durable import fsync_dir, host_errors, write_file_atomically
from avfs_git.host.files.modes import make_dir
from avfs_git.paths import Oid, oid_of
from avfs_git.patterns import compiled

SEVERITIES: Mapping[str, str] = {"badFilemode": "error", "badTimezone": "ignore", "zeroPaddedFilemode": "ignore"}
"""What git is to think of faults that it takes for more, or for less, than `judge` does (git-config: fsck.<msg-id>).

One difference is left: the mode 100664 of old histories comes in by a fetch and not by a push.
"""
TOLERATED = tuple(name for name, severity in SEVERITIES.items() if severity == "ignore")


def _format_severities(section: bytes) -> bytes:
    # Where only faults of what is there already are told, an old mode of a file is not one.
    names = TOLERATED if section == b"[fsck]" else SEVERITIES
    return section + b"\n" + b"".join(b"\t%b = %b\n" % (name.encode(), SEVERITIES[name].encode()) for name in names)


_VAULT_CONFIG = b"""\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tfsync = all,-index
\tcheckStat = minimal
[gc]
\tauto = 0
[maintenance]
\tauto = false
[transfer]
\tfsckObjects = true
\thideRefs = refs/avfs
[receive]
\tautogc = false
\thideRefs = refs/replace
""" + b"".join(map(_format_severities, (b'[receive "fsck"]', b'[fetch "fsck"]', b"[fsck]")))
_DIRECTORIES = ("objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "info")
_OF_ITS_OWN = {"objects": True, "refs": True, "objects/pack": False, "objects/info": False, "refs/heads": False}
"""Directories that may not be links to somewhere else, and whether they must be there."""
_OTHER_FORMATS = frozenset({"objectformat", "refstorage", "partialclone", "compatobjectformat"})
_KNOWN_EXTENSIONS = frozenset({"noop", "noop-v1", "preciousobjects", "worktreeconfig", "relativeworktrees"})
_SYMBOLIC = compiled(rb"ref:[ \t]*(\S+)\s*")
_HEX = compiled(rb"[0-9a-f]{40}")
_MOST_ALTERNATES = 1_000
_PATH_MAX, _NAME_MAX = 4_095, 255


# --- making ------------------------------------------------------------------------------------------------


def init_vault_repo(
    git_dir: Path,
    *,
    head: str = "refs/heads/main",
    remote: tuple[str, str | Path] | None = None,
    lazy: bool = False,
    shared: bool = False,
) -> None:
    """Make a bare repository with a configuration of ours; on disk on return.

    Plain git in it is durable too, as far as git goes, and never collects garbage by itself. With `lazy` git fetches
    missing objects from the `remote`, a name and a URL. With `shared` the group of this process may work in it; else
    only its owner may look into it.

    Raises:
        InvalidName: If no branch can have that name.
        HostError: If something is there already, or the disk refuses.
    """
    check_ref_name(head)
    with host_errors(f"create '{git_dir}'"):
        git_dir.mkdir(0o700)
        if shared:
            git_dir.chmod(0o2770)
        directories = [git_dir / name for name in _DIRECTORIES]
        for directory in directories:
            make_dir(directory)
    config = _VAULT_CONFIG.replace(b"[gc]", b"\tfsyncMethod = %b\n[gc]" % choose_fsync_method(git_dir).encode(), 1)
    if shared:
        config = config.replace(b"[gc]", b"\tsharedRepository = group\n[gc]", 1)
    if remote is not None:
        name, place = remote
        url = quote_value(os.fsencode(place))
        spec = f"+refs/heads/*:refs/remotes/{name}/*"
        config += b'[remote "%b"]\n\turl = %b\n\tfetch = %b\n' % (name.encode(), url, spec.encode())
        if lazy:
            config = config.replace(b"repositoryformatversion = 0", b"repositoryformatversion = 1", 1)
            config += (
                b"\tpromisor = true\n\tpartialclonefilter = blob:none\n[extensions]\n\tpartialclone = %b\n"
                % name.encode()
            )
            # Git's own `gc` wants bitmaps of a bare repository, and fails where objects are elsewhere.
            config += b"[repack]\n\twriteBitmaps = false\n"
    write_file_atomically(git_dir / "config", config, durable=True)
    for directory in reversed(directories):
        fsync_dir(directory)
    # HEAD comes last: without it git and avfs take the directory for no repository.
    write_file_atomically(git_dir / "HEAD", b"ref: " + os.fsencode(head) + b"\n")
    fsync_dir(git_dir.parent)


def choose_fsync_method(git_dir: Path) -> str:
    """Choose how git forces many new objects to disk: all of them together where that is as safe as one by one.

    With `batch` git writes out the content of each object, and then syncs one file more. On ext4 and XFS that sync puts
    the whole journal on disk, and with it the objects; on btrfs and others only that file. ext4 without a journal keeps
    new objects with neither method, because git syncs no directory.
    """
    from avfs_git.host.mounts.mounts import list_mounts  # noqa: PLC0415 - only making a vault and mounting ask

    device = os.stat(git_dir / "objects").st_dev
    kinds = {found.kind for found in list_mounts() if os.makedev(*found.device) == device}
    return "batch" if kinds and kinds <= {"ext4", "xfs"} else "fsync"


def ensure_config(git_dir: Path) -> None:
    """Make a repository's configuration fit for live trees; does nothing where it is.

    - `core.checkStat = minimal`: the numbers of files are others at each mount, and mean nothing.
    - `transfer.hideRefs`: others neither see nor move avfs's own refs.
    - `core.fsyncMethod`: `batch` may be unsafe where the vault lies now. Where none is set and `batch` is safe, it is
      only faster: a failure counts as none.
    - `core.bare`: `git init` in a linked working tree says falsely that the repository is bare no longer.

    Raises:
        RefLocked: If another program keeps the file locked.
        NotAVault: If git cannot read the file.
        GitFailed: If it has to be changed, and there is no git.
    """
    values = read_config(git_dir)
    edits = []
    if not all(map(is_true, values.get("core.bare", []))):
        edits.append(("--replace-all", "core.bare", "true"))
    if values.get("core.checkstat", [""])[-1].lower() != "minimal":
        edits.append(("--replace-all", "core.checkStat", "minimal"))
    method, wanted = values.get("core.fsyncmethod", [""])[-1], choose_fsync_method(git_dir)
    if method == "batch" != wanted:
        edits.append(("--replace-all", "core.fsyncMethod", wanted))
    if OWN_REFS not in values.get("transfer.hiderefs", []):
        edits.append(("--add", "transfer.hideRefs", OWN_REFS))
    if edits:
        edit_config(git_dir, *edits)
    if not method and wanted == "batch":
        with suppress(AvfsError):
            edit_config(git_dir, ("--replace-all", "core.fsyncMethod", wanted))


# --- checking ----------------------------------------------------------------------------------------------


def check_repository(git_dir: Path) -> None:
    """Refuse a repository that cannot serve as a vault, or that would lead us out of its directory.

    Raises:
        NotAVault: If it is no bare repository, is incomplete, or points to places outside.
        FormatUnsupported: If it is of a kind that this program does not read.
    """
    check_layout(git_dir)
    values = check_config(git_dir, lazy=is_partial(git_dir))
    # `git init` in a working tree of a bare repository says that it is bare no longer; a vault is bare, also with that
    # setting.
    is_ours = (git_dir / "avfs" / "format").exists()
    if "core.worktree" in values or not (is_ours or all(map(is_true, values.get("core.bare", [])))):
        raise NotAVault(str(git_dir), "it belongs to a working tree; create a vault from it instead")
    for alternate in list_alternates(git_dir / "objects"):
        if not alternate.resolve().is_relative_to(git_dir.resolve()):
            raise NotAVault(str(git_dir), f"it borrows objects from '{alternate}'")
    with suppress(RefDamaged):  # it is opened all the same, for `avfs doctor` among others
        read_head(git_dir)


def check_layout(git_dir: Path) -> None:
    """Refuse a directory that is no repository of its own."""
    with host_errors(f"open '{git_dir}'"):
        if not git_dir.is_dir():
            raise NotAVault(str(git_dir), "it is no directory")
        if (git_dir / "commondir").exists():
            refused = NotAVault(str(git_dir), "it is a linked working tree of another repository")
            if (git_dir / "avfs" / "format").exists():
                refused.hint = (
                    f"A command may have made '{git_dir / 'commondir'}', which leads git elsewhere: remove it."
                )
            raise refused
        for name, needed in _OF_ITS_OWN.items():
            try:
                mode = (git_dir / name).lstat().st_mode
            except FileNotFoundError:
                if needed and (git_dir / ".git").exists():
                    raise NotAVault(str(git_dir), "it is a working tree; create a vault from it instead") from None
                if needed:
                    raise NotAVault(str(git_dir), f"it has no '{name}'") from None
                continue
            if not stat.S_ISDIR(mode):
                raise NotAVault(str(git_dir), f"its '{name}' is no directory of its own")


def is_partial(git_dir: Path) -> bool:
    """Tell whether a vault was cloned without the contents of files (`lazystore`)."""
    return (git_dir / "avfs" / "lazy").exists()


def check_config(git_dir: Path, *, lazy: bool = False) -> Config:
    """Read the configuration and refuse what cannot be read as it says."""
    values = read_config(git_dir)
    version = values.get("core.repositoryformatversion", ["0"])[-1]
    if version not in {"0", "1"}:
        raise FormatUnsupported(str(git_dir), version, "the formats 0 and 1 of git", is_gits=True)
    for key, found in values.items():
        name = key.removeprefix("extensions.")
        if (
            key.startswith("remote.")
            and key.endswith((".promisor", ".partialclonefilter"))
            and found[-1] != "false"
            and not lazy
        ):
            raise FormatUnsupported(
                str(git_dir), "partial clone", "repositories that hold all their objects", is_gits=True
            )
        if name == key:
            continue
        value = found[-1].lower()
        if lazy and name == "partialclone":
            continue
        if (name, value) in {("objectformat", "sha1"), ("refstorage", "files")}:
            continue
        if name in _OTHER_FORMATS or (version == "1" and name not in _KNOWN_EXTENSIONS):
            raise FormatUnsupported(
                str(git_dir), f"{name} {value}", "repositories with SHA-1 ids and refs in files, complete", is_gits=True
            )
    if (git_dir / "reftable").exists():
        raise FormatUnsupported(str(git_dir), "refstorage reftable", "refs in files", is_gits=True)
    return values


def is_bare(git_dir: Path) -> bool:
    """Tell whether a repository says that it belongs to no working tree."""
    return all(map(is_true, read_config(git_dir).get("core.bare", ["false"])))


def read_head(git_dir: Path) -> tuple[str | None, Oid | None]:
    """Say which branch HEAD names, and which commit that holds; of a detached HEAD the commit alone.

    Raises:
        NotAVault: If HEAD is missing, is a link, or leads out of `refs/`.
        FormatUnsupported: If the repository is of another format of git's.
        RefDamaged: If the file of the branch holds no id. A branch that has no file is one yet to be born.
    """
    with host_errors(f"open '{git_dir}'"):
        try:
            data = read_plain_file(git_dir / "HEAD")
        except FileNotFoundError:
            raise _bad_head(git_dir, "it has no HEAD") from None
    if _HEX.fullmatch(data.strip()):
        return None, oid_of(data.strip())
    match = _SYMBOLIC.fullmatch(data)
    common = common_dir(git_dir)
    if match is None:
        check_config(common, lazy=True)  # of another format of git's, it makes sense
        raise _bad_head(git_dir, "its HEAD makes no sense")
    name = os.fsdecode(match[1])
    try:
        check_ref_name(name)
    except InvalidName:
        raise _bad_head(git_dir, "its HEAD leads out of it") from None
    try:
        return name, RefStore(common, recover=False).read(name)
    except RefDamaged as damaged:
        check_config(common, lazy=True)
        if damaged.ref.startswith("refs/"):
            finds = f"`git -C {shlex.quote(str(git_dir))} fsck --lost-found` lists commits that no branch has"
            damaged.hint = f"{finds}: write the id of its last one into {quote(str(common / damaged.ref))}."
        raise


def _bad_head(git_dir: Path, reason: str) -> NotAVault:
    error = NotAVault(str(git_dir), reason)
    if (git_dir / "avfs" / "format").exists():
        error.hint = (
            f"Write the line `ref: refs/heads/BRANCH` into '{git_dir / 'HEAD'}', with the branch that it named: "
            "`main`, unless another was chosen."
        )
    return error


def read_shallow(git_dir: Path) -> frozenset[Oid]:
    """Return the commits whose parents are left out of a shallow repository."""
    with host_errors(f"open '{git_dir}'"):
        try:
            data = read_plain_file(git_dir / "shallow")
        except FileNotFoundError:
            return frozenset()
    return frozenset(oid_of(line) for line in data.split() if _HEX.fullmatch(line))


def list_alternates(objects_dir: Path) -> list[Path]:
    """List the directories that a repository borrows objects from."""
    with host_errors(f"open '{objects_dir}'"):
        try:
            data = read_plain_file(objects_dir / "info" / "alternates")
        except (FileNotFoundError, NotADirectoryError):
            return []
    lines = [unquote(line) for line in data.split(b"\n") if line and not line.startswith(b"#")]
    if len(lines) > _MOST_ALTERNATES:
        raise NotAVault(str(objects_dir.parent), f"it borrows objects from more than {_MOST_ALTERNATES} places")
    return [objects_dir / _name_path(line, objects_dir.parent) for line in lines]


def _name_path(name: bytes, git_dir: Path) -> str:
    """Return the path that a file of a repository names.

    Raises:
        NotAVault: If no file can have it.
    """
    if b"\0" in name or len(name) > _PATH_MAX or max(map(len, name.split(b"/"))) > _NAME_MAX:
        raise NotAVault(str(git_dir), "it names a path that no file can have")
    return os.fsdecode(name)


# --- finding -----------------------------------------------------------------------------------------------


def find_git_dir(directory: Path) -> Path | None:
    """Find the repository of a working tree, or the directory itself if it is a bare one.

    Of a linked working tree it is its own directory, which holds its HEAD and index; `common_dir` says where
    objects and refs are. Directories above are not looked at.
    """
    place = directory / ".git"
    with suppress(OSError):
        mode = place.lstat().st_mode
        if stat.S_ISREG(mode):
            named = parse_pointer(read_plain_file(place))
            place = place if named is None else directory / named
        if place.is_dir() and (place / "HEAD").is_file():
            return place
    if (directory / "HEAD").is_file() and (directory / "objects").is_dir() and (directory / "refs").is_dir():
        return directory
    return None


def common_dir(git_dir: Path) -> Path:
    """Say where the objects and refs of a repository are: elsewhere for a linked working tree."""
    try:
        data = read_plain_file(git_dir / "commondir")
    except FileNotFoundError:
        return git_dir
    except OSError as error:
        with host_errors(f"open '{git_dir}'"):
            raise error
    return git_dir / _name_path(data.rstrip(b"\r\n"), git_dir)
