"""Repositories as a whole: made, checked, found, and taken over into a vault.

Decided here: what a new vault's repository looks like, which repositories can serve as a vault or as the
source of one, and what is taken over from a source. Called when vaults are created and opened. Nothing of a
source is executed: no git runs, no hook, and of its configuration only what may forbid the use is read.

A new repository is made whole under the name it is given; whoever wants it to appear at once gives a
temporary name and renames. On return it is on disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from avfs_git import faults
from avfs_git.errors import FormatUnsupported, HostError, InternalError, InvalidName, NotAVault, RefDamaged
from avfs_git.gitstore.config.gitconfig import Config, is_true, parse_plain, quote_value, read_config
from avfs_git.gitstore.formats.plainfile import read_plain_file
from avfs_git.gitstore.refs import RefChange, RefStore, check_ref_name
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_file, sync_file_system, write_file_atomically
from avfs_git.host.files.modes import make_dir
from avfs_git.host.files.removal import remove_tree
from avfs_git.host.processes.processes import is_gone
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
\tfsync = all
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
_ABOUT_PUSHES = ("transfer.", "receive.", "fetch.", "fsck.")
_DIRECTORIES = ("objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "info")
_OF_ITS_OWN = {"objects": True, "refs": True, "objects/pack": False, "objects/info": False, "refs/heads": False}
"""Directories that may not be links to somewhere else, and whether they must be there."""
_OTHER_FORMATS = frozenset({"objectformat", "refstorage", "partialclone", "compatobjectformat"})
_KNOWN_EXTENSIONS = frozenset({"noop", "noop-v1", "preciousobjects", "worktreeconfig", "relativeworktrees"})
_SYMBOLIC = compiled(rb"ref:[ \t]*(\S+)\s*")
_HEX = compiled(rb"[0-9a-f]{40}")
_LOOSE_DIRECTORY = compiled(rb"[0-9a-f]{2}")
_LOOSE_NAME = compiled(rb"[0-9a-f]{38}")
_PACK_NAME = compiled(rb"pack-[0-9a-f]+\.(?:pack|idx)")
"""A `.rev` stays behind: git does without, and nobody checks one, so that a false one would spoil what git sends."""
_QUOTED = compiled(rb'"(?:[^"\\]|\\(?:[abfnrtv"\\]|[0-3][0-7]{2}))*"')
_ESCAPED = compiled(rb"\\(?:([0-3][0-7]{2})|(.))")
_ESCAPES = {
    letter.encode(): code
    for letter, code in zip('abfnrtv"\\', [b"\a", b"\b", b"\f", b"\n", b"\r", b"\t", b"\v", b'"', b"\\"], strict=True)
}
_FICLONE = 0x40049409  # linux/fs.h
_MAX_ALTERNATES = 5  # as deep as git goes
_MOST_ALTERNATES = 1_000
_PATH_MAX, _NAME_MAX = 4_095, 255
_SYNCED_SINGLY = 64
_STAGING = "avfs-import-"
"""Begins the name of a directory for objects that are being taken over; git looks at none of that name."""


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

    Plain git in it is durable too, as far as git goes, and never collects garbage by itself.

    Args:
        git_dir: Where.
        head: The branch that HEAD names.
        remote: The name of a remote and where it is, for git.
        lazy: Whether git is to fetch from that remote what is missing.
        shared: Whether the group of this process may work in it; else nobody but its owner may look into it.

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
    config = _VAULT_CONFIG
    if shared:
        config = config.replace(b"[gc]", b"\tsharedRepository = group\n[gc]", 1)
    if remote is not None:
        name, place = remote
        url = quote_value(os.fsencode(place))
        spec = f"+refs/heads/*:refs/remotes/{name}/*"
        config += b'[remote "%b"]\n\turl = %b\n\tfetch = %b\n' % (name.encode(), url, spec.encode())
        if lazy:
            config = config.replace(b"repositoryformatversion = 0", b"repositoryformatversion = 1", 1)
            config += b"\tpromisor = true\n\tpartialclonefilter = blob:none\n[extensions]\n\tpartialclone = %b\n" % name.encode()
            # Git's own `gc` wants bitmaps of a bare repository, and fails where objects are elsewhere.
            config += b"[repack]\n\twriteBitmaps = false\n"
    write_file_atomically(git_dir / "config", config, durable=True)
    for directory in reversed(directories):
        fsync_dir(directory)
    # HEAD comes last: without it git and avfs take the directory for no repository.
    write_file_atomically(git_dir / "HEAD", b"ref: " + os.fsencode(head) + b"\n")
    fsync_dir(git_dir.parent)


def list_lacking_settings(git_dir: Path) -> list[tuple[str, str]]:
    """List what the configuration of a vault lacks of how git is to judge and take what is pushed into it.

    A vault that an older avfs made lacks some. Of a repository that avfs did not make, nothing is asked.

    Raises:
        NotAVault, HostError: If the configuration cannot be read.
    """
    expected, values = parse_plain(_VAULT_CONFIG) or {}, read_config(git_dir)
    if any(values.get(key) != expected[key] for key in ("core.fsync", "maintenance.auto")):
        return []
    return [
        (key, value)
        for key, wanted in expected.items()
        for value in wanted
        if key.startswith(_ABOUT_PUSHES) and (value not in values.get(key, []) if key.endswith("hiderefs") else key not in values)
    ]


# --- checking ----------------------------------------------------------------------------------------------


def check_repository(git_dir: Path) -> None:
    """Refuse a repository that cannot serve as a vault, or that would lead us out of its directory.

    Raises:
        NotAVault: If it is no bare repository, is incomplete, or points to places outside.
        FormatUnsupported: If it is of a kind that this program does not read.
    """
    _check_layout(git_dir)
    values = _check_config(git_dir, lazy=is_lazy(git_dir))
    # `git init` in a working tree of a bare repository says that it is bare no longer; ours is one whatever that says.
    is_ours = (git_dir / "avfs" / "format").exists()
    if "core.worktree" in values or not (is_ours or all(map(is_true, values.get("core.bare", [])))):
        raise NotAVault(str(git_dir), "it belongs to a working tree; create a vault from it instead")
    for alternate in _alternates(git_dir / "objects"):
        if not alternate.resolve().is_relative_to(git_dir.resolve()):
            raise NotAVault(str(git_dir), f"it borrows objects from '{alternate}'")
    read_head(git_dir)


def _check_layout(git_dir: Path) -> None:
    with host_errors(f"open '{git_dir}'"):
        if not git_dir.is_dir():
            raise NotAVault(str(git_dir), "it is no directory")
        if (git_dir / "commondir").exists():
            refused = NotAVault(str(git_dir), "it is a linked working tree of another repository")
            if (git_dir / "avfs" / "format").exists():
                refused.hint = f"A command may have made '{git_dir / 'commondir'}', which leads git elsewhere: remove it."
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


def is_lazy(git_dir: Path) -> bool:
    """Tell whether a vault was cloned without the contents of files (`lazystore`)."""
    return (git_dir / "avfs" / "lazy").exists()


def _check_config(git_dir: Path, *, lazy: bool = False) -> Config:
    """Read the configuration and refuse what cannot be read as it says."""
    values = read_config(git_dir)
    version = values.get("core.repositoryformatversion", ["0"])[-1]
    if version not in {"0", "1"}:
        raise FormatUnsupported(str(git_dir), version, "the formats 0 and 1 of git")
    for key, found in values.items():
        name = key.removeprefix("extensions.")
        if key.startswith("remote.") and key.endswith((".promisor", ".partialclonefilter")) and found[-1] != "false" and not lazy:
            raise FormatUnsupported(str(git_dir), "partial clone", "repositories that hold all their objects")
        if name == key:
            continue
        value = found[-1].lower()
        if lazy and name == "partialclone":
            continue
        if (name, value) in {("objectformat", "sha1"), ("refstorage", "files")}:
            continue
        if name in _OTHER_FORMATS or (version == "1" and name not in _KNOWN_EXTENSIONS):
            raise FormatUnsupported(str(git_dir), f"{name} {value}", "repositories with SHA-1 ids and refs in files, complete")
    if (git_dir / "reftable").exists():
        raise FormatUnsupported(str(git_dir), "refstorage reftable", "refs in files")
    return values


def is_bare(git_dir: Path) -> bool:
    """Tell whether a repository says that it belongs to no working tree.

    Raises:
        NotAVault: If its configuration is a link.
    """
    return all(map(is_true, read_config(git_dir).get("core.bare", ["false"])))


def read_head(git_dir: Path) -> tuple[str | None, Oid | None]:
    """Say which branch HEAD names, and which commit that holds; of a detached HEAD the commit alone.

    Raises:
        NotAVault: If HEAD is missing, is a link, or leads out of `refs/`.
    """
    with host_errors(f"open '{git_dir}'"):
        try:
            data = read_plain_file(git_dir / "HEAD")
        except FileNotFoundError:
            raise NotAVault(str(git_dir), "it has no HEAD") from None
    if _HEX.fullmatch(data.strip()):
        return None, oid_of(data.strip())
    match = _SYMBOLIC.fullmatch(data)
    if match is None:
        raise NotAVault(str(git_dir), "its HEAD makes no sense")
    name = os.fsdecode(match[1])
    try:
        check_ref_name(name)
    except InvalidName:
        raise NotAVault(str(git_dir), "its HEAD leads out of it") from None
    try:
        return name, RefStore(common_dir(git_dir), recover=False).read(name)
    except RefDamaged:
        return name, None


def read_shallow(git_dir: Path) -> frozenset[Oid]:
    """Return the commits whose parents are left out of a shallow repository."""
    with host_errors(f"open '{git_dir}'"):
        try:
            data = read_plain_file(git_dir / "shallow")
        except FileNotFoundError:
            return frozenset()
    return frozenset(oid_of(line) for line in data.split() if _HEX.fullmatch(line))


def _alternates(objects_dir: Path) -> list[Path]:
    """List the directories that a repository borrows objects from."""
    with host_errors(f"open '{objects_dir}'"):
        try:
            data = read_plain_file(objects_dir / "info" / "alternates")
        except (FileNotFoundError, NotADirectoryError):
            return []
    lines = [_unquote(line) for line in data.split(b"\n") if line and not line.startswith(b"#")]
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


def _unquote(line: bytes) -> bytes:
    """Take the quotes off a path as git writes one with odd bytes in it; anything else is a path as it stands."""
    if not _QUOTED.fullmatch(line):
        return line
    return _ESCAPED.sub(lambda match: bytes((int(match[1], 8),)) if match[1] else _ESCAPES[match[2]], line[1:-1])


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
            data = read_plain_file(place)
            if data.startswith(b"gitdir:"):
                place = directory / os.fsdecode(data[7:].strip(b" \t").rstrip(b"\r\n"))
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


# --- taking over -------------------------------------------------------------------------------------------


def import_objects_and_refs(source_git_dir: Path, git_dir: Path) -> str | None:
    """Take the whole history of a repository over into a new one: objects, branches, tags, HEAD.

    Objects are hard links where the file system allows it, else clones of their extents, else copies; those that
    the source borrows come along. A source that git works in at the same time does no harm. On disk on return.

    Returns:
        The branch that HEAD names, or None if it is detached; `read_head` of the source then says where.

    Raises:
        NotAVault: If the source is no complete repository.
        FormatUnsupported: If it is of a kind that this program does not read.
        ObjectMissing: If a ref of the source names an object that it has not.
    """
    common = common_dir(source_git_dir)
    _check_layout(common)
    _check_config(common)
    if (git_dir / "packed-refs").exists():
        raise InternalError("history is taken over into a repository that has refs")
    # Refs first: whatever they name is there from then on, wherever git moves it meanwhile.
    head, commit = read_head(source_git_dir)
    refs = _refs_to_import(common)
    shallow = read_shallow(common)
    with host_errors(f"import '{source_git_dir}'"):
        _take_objects(common, git_dir / "objects")
        if shallow:
            _write_shallow(git_dir, shallow)
    from avfs_git.gitstore.judge import check_connected  # noqa: PLC0415 - only imports need it, and it takes long

    check_connected(git_dir / "objects", {*refs.values(), *([commit] if commit is not None else [])}, shallow=shallow)
    if refs:
        RefStore(git_dir, recover=False).create_packed(refs)
    if head is not None and head.startswith("refs/heads/"):
        write_file_atomically(git_dir / "HEAD", b"ref: " + os.fsencode(head) + b"\n")
        return head
    return None


def import_as_remote(source_git_dir: Path, git_dir: Path, refs: RefStore, remote: str) -> None:
    """Take what a repository holds at present over into another: objects, branches as those of a remote, tags.

    What is there already costs a look; tags that differ stay as they are. Objects are taken as by `import_objects_and_refs`,
    whose errors hold here, too. On disk on return.
    """
    common = common_dir(source_git_dir)
    _check_layout(common)
    _check_config(common)
    commit = read_head(source_git_dir)[1]
    found = _refs_to_import(common)
    shallow = read_shallow(common)
    with host_errors(f"import '{source_git_dir}'"):
        _take_objects(common, git_dir / "objects")
        if shallow:
            _write_shallow(git_dir, read_shallow(git_dir) | shallow)
    wanted = {
        f"refs/remotes/{remote}/{name.removeprefix('refs/heads/')}" if name.startswith("refs/heads/") else name: oid
        for name, oid in found.items()
    }
    held = {**refs.list(f"refs/remotes/{remote}/"), **refs.list("refs/tags/")}
    from avfs_git.gitstore.judge import check_connected  # noqa: PLC0415 - as above

    come = {*wanted.values(), *([commit] if commit is not None else [])} - set(held.values())
    check_connected(git_dir / "objects", come, set(held.values()), shallow=read_shallow(git_dir))
    if not held and wanted and refs.create_packed(wanted):
        return
    gone = {name: oid for name, oid in held.items() if name.startswith("refs/remotes/") and name not in wanted}
    changes = [RefChange(name, oid, None) for name, oid in gone.items()]
    changes += [
        RefChange(name, held.get(name), oid)
        for name, oid in wanted.items()
        if held.get(name) != oid and (name.startswith("refs/remotes/") or name not in held)
    ]
    if changes:
        refs.update(changes)


def link_objects(source_git_dir: Path, objects_dir: Path) -> None:
    """Have the objects of a repository in a directory of objects, too, as `import_objects_and_refs` does. On disk on return.

    Raises:
        NotAVault: If the source is no complete repository.
        FormatUnsupported: If it is of a kind that this program does not read.
    """
    _check_layout(source_git_dir)
    _check_config(source_git_dir)
    with host_errors(f"import '{source_git_dir}'"):
        _take_objects(source_git_dir, objects_dir)


def _take_objects(common: Path, objects_dir: Path) -> None:
    """Have the objects of a repository in a directory, too; on disk on return.

    They are taken under another name, synced (the source's own git may never have done that), and renamed into place, so that
    whatever has its name in the directory is whole: an import that is done again after a crash need not look at it.
    """
    _remove_abandoned(objects_dir)
    staging = objects_dir / f"{_STAGING}{os.getpid()}-{os.urandom(4).hex()}"
    taken: list[str] = []
    try:
        for found in _all_object_dirs(common / "objects"):
            _import_objects(found, objects_dir, staging, taken)
        # Of a pack that went away while it was taken the index is not here.
        taken = [name for name in taken if not name.startswith("pack/") or f"{name.rpartition('.')[0]}.idx" in taken]
        if not taken:
            return
        from avfs_git.gitstore.judge import judge_objects, list_objects  # noqa: PLC0415 - as above

        judge_objects(staging, list_objects(staging), beside=objects_dir)
        _sync([f"{staging}/{name}" for name in taken])
        faults.reach("import.synced")
        for name in sorted(taken, key=lambda name: name.endswith(".idx")):  # with its index a pack is one
            with suppress(FileExistsError):
                make_dir((objects_dir / name).parent)
            os.rename(f"{staging}/{name}", objects_dir / name)
            faults.reach("import.renamed_one")
        for directory in {*((objects_dir / name).parent for name in taken), objects_dir}:
            fsync_dir(directory)
        faults.reach("import.placed")
    finally:
        with suppress(OSError, HostError):  # the next import removes it
            remove_tree(staging)


def _remove_abandoned(objects_dir: Path) -> None:
    """Remove what imports left that died."""
    with suppress(OSError, HostError):
        for path in objects_dir.glob(f"{_STAGING}*"):
            if is_gone(path.name.removeprefix(_STAGING).partition("-")[0]):
                remove_tree(path)


def _write_shallow(git_dir: Path, commits: Iterable[Oid]) -> None:
    write_file_atomically(git_dir / "shallow", b"".join(oid.hex().encode("ascii") + b"\n" for oid in sorted(commits)))


def _refs_to_import(common: Path) -> dict[str, Oid]:
    refs = RefStore(common, recover=False)
    found = {**refs.list("refs/heads/"), **refs.list("refs/tags/")}
    usable: dict[str, Oid] = {}
    for name, oid in found.items():
        with suppress(InvalidName):
            usable[check_ref_name(name)] = oid
    return usable


def list_borrowed(source_git_dir: Path) -> tuple[list[Path], list[Path]]:
    """List the directories of objects that a repository borrows from, and those of them that are not there.

    Raises:
        NotAVault: If they borrow from each other deeper than git goes.
    """
    missing: list[Path] = []
    found = _all_object_dirs(common_dir(source_git_dir) / "objects", missing)
    return found[1:], missing


def _all_object_dirs(objects_dir: Path, missing: list[Path] | None = None) -> list[Path]:
    """List a directory of objects and all that it borrows from, each once."""
    found: list[Path] = []
    seen: set[Path] = set()
    waiting = [(objects_dir, 0)]
    while waiting:
        directory, depth = waiting.pop(0)
        resolved = directory.resolve()
        if resolved in seen:
            continue
        seen.add(resolved)
        if not resolved.is_dir():
            if missing is not None:
                missing.append(resolved)
            continue
        found.append(resolved)
        borrowed = _alternates(resolved)
        if borrowed and depth == _MAX_ALTERNATES:
            raise NotAVault(str(objects_dir.parent), f"it borrows objects more than {_MAX_ALTERNATES} repositories deep")
        waiting += [(alternate, depth + 1) for alternate in borrowed]
    return found


def _sync(paths: list[str]) -> None:
    """Put files on disk: a few one by one, many with everything that others have written meanwhile."""
    if len(paths) > _SYNCED_SINGLY:
        sync_file_system(Path(paths[0]).parent)
        return
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            sync_file(fd)
        finally:
            os.close(fd)


def _import_objects(source: Path, target: Path, staging: Path, taken: list[str]) -> None:
    known = set(taken)

    def take(name: str) -> None:
        if name not in known:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            _take_file(f"{source}/{name}", f"{staging}/{name}")
            known.add(name)
            taken.append(name)

    # Loose objects first: one that git packs meanwhile is then found in its pack.
    for directory in map(os.fsdecode, _listed(source, _LOOSE_DIRECTORY)):
        held = set(_listed(target / directory, _LOOSE_NAME))
        for file in _listed(source / directory, _LOOSE_NAME):
            if file not in held:
                with suppress(FileNotFoundError):
                    take(f"{directory}/{os.fsdecode(file)}")
    # A pack that goes away while the packs are taken has become part of another: look again.
    for _ in range(10):
        names = _listed(source / "pack", _PACK_NAME)
        stems = {name[:-4] for name in names if name.endswith(b".idx") and name[:-4] + b".pack" in names}
        held = set(_listed(target / "pack", _PACK_NAME))
        try:
            for stem in sorted(stems):
                if stem + b".idx" not in held or stem + b".pack" not in held:
                    for name in (stem + b".pack", stem + b".idx"):
                        take(f"pack/{os.fsdecode(name)}")
        except FileNotFoundError:
            continue
        return
    raise OSError(errno.EBUSY, "its packs keep changing")


def _listed(directory: Path, pattern: re.Pattern[bytes]) -> list[bytes]:
    try:
        return sorted(name for name in os.listdir(os.fsencode(directory)) if pattern.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _take_file(source: str, target: str) -> None:
    """Have a file of objects here too; they never change, so that one file can serve both.

    One that another user owns or may write is copied: it could be changed under the vault.
    """
    status = os.lstat(source)
    if not stat.S_ISREG(status.st_mode):
        raise NotAVault(source, "it is no file")
    if status.st_uid == os.geteuid() and not status.st_mode & 0o022:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.ENOTSUP, errno.ENOSYS):
                raise
        else:
            return
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _copy(fd, Path(target))
    finally:
        os.close(fd)


def _copy(fd: int, target: Path) -> None:
    """Copy an open file, by sharing its extents where the file system can."""
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o444)
    try:
        try:
            fcntl.ioctl(out, _FICLONE, fd)
        except OSError:
            for start in _offsets(fd):
                _copy_piece(fd, out, start)
    finally:
        os.close(out)


def _offsets(fd: int) -> Iterator[int]:
    yield from range(0, os.fstat(fd).st_size, 1 << 20)


def _copy_piece(fd: int, out: int, start: int) -> None:
    data = os.pread(fd, 1 << 20, start)
    written = 0
    while written < len(data):
        written += os.pwrite(out, memoryview(data)[written:], start + written)
