"""The owner of a repository, and whether anything in it would make git or avfs run a program.

Decided here: which repositories avfs refuses to work in unasked. Git obeys the configuration and hooks of a repository,
and avfs runs the hooks of a vault: opening one means running what its owner wrote. Called before a vault is opened, and
by `gitcommand`; only looks, and runs nothing. The rule about owners is git's `safe.directory` (git-config(1)), applied
to each part that counts.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from avfs_git.errors import HostError, InvalidInput, VaultUntrusted
from avfs_git.gitstore.config import nested
from avfs_git.gitstore.config.gitconfig import read_config
from avfs_git.gitstore.config.githooks import UPDATE
from avfs_git.gitstore.config.settings import is_harmless, is_passed_over
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.modes import is_open, make_private, mode_below
from avfs_git.host.files.xattrs import list_xattrs
from avfs_git.host.userhome import find_user_home
from avfs_git.patterns import compiled

_ROOT = 0
_UNMAPPED = 65534
"""Whose root's directories are in a user namespace that does not have root; user_namespaces(7)."""
_PARTS = (
    "config",
    "config.worktree",
    "HEAD",
    "objects",
    "refs",
    "worktrees",
    "avfs",
    "avfs/config.json",
    "avfs/sessions",
)
_HOOKS = ("hooks", "avfs/hooks")
_OBEYED = ("avfs", "worktrees", "logs", "info", "hooks")
"""Names that git and avfs write to, remove from or run, besides what no vault may have elsewhere."""
_REDIRECT = b"trusted.overlay.redirect"
"""The mark of a directory of changed files that shows a saved directory of another name; `vfs.layer.marks`."""
_FILES_OF_PROGRAMS = compiled(r"avfs/(?:workspaces|trash)/[^/]+/(?:upper|work)", re.DOTALL)
"""The directories of a workspace in which links are its files, and are never followed."""


def check_owner(git_dir: Path) -> None:
    """Refuse a repository if it, or a part of it that git or avfs obeys, belongs to another user.

    Costs a few calls of stat.

    What root owns inside it counts as the owner's own: root can write there anyway.

    Raises:
        VaultUntrusted: If it belongs to another user.
    """
    with host_errors(f"open '{git_dir}'"):
        owner = git_dir.stat().st_uid
        if owner != os.geteuid():
            error = VaultUntrusted(str(git_dir), f"it belongs to {name_user(owner)}")
            if os.geteuid() == _ROOT:  # what root leaves behind there would keep the owner out
                error.hint = f"Run avfs as {name_user(owner)}, without sudo. {error.hint}"
            raise error
        accepted = {owner, _ROOT}
        top = os.fspath(git_dir)
        for part in _list_parts(top):
            for status in _look(f"{top}/{part}"):
                if status.st_uid not in accepted:
                    raise VaultUntrusted(top, f"its '{part}' belongs to {name_user(status.st_uid)}")


def check_user(directory: Path) -> None:
    """Refuse to make a directory in the home of another user, as root: what root makes there keeps that user out.

    `su` and `sudo -E` keep HOME. The nearest directory that exists counts. An owner without a name here is no user of
    this machine: a container may get its HOME from the host.

    Raises:
        HostError: If it is refused.
    """
    if os.geteuid() != _ROOT:
        return
    with host_errors(f"make '{directory}'"):
        place = directory.resolve()
        while not place.exists():
            place = place.parent
        owner = place.stat().st_uid
    with suppress(InvalidInput):  # root has no home at all
        home = find_user_home().resolve()
        if place.is_relative_to(home) and owner not in (_ROOT, _UNMAPPED) and (name := _find_name(owner)) is not None:
            error = HostError(f"make '{directory}'", PermissionError(errno.EPERM, f"'{place}' belongs to '{name}'"))
            error.hint = (
                f"Run avfs as '{name}', without sudo: what root makes there keeps '{name}' out. Or set AVFS_HOME to a"
                f" directory outside of '{home}'."
            )
            raise error


def check_way(git_dir: Path) -> None:
    """Refuse a repository that a third user can exchange for another one by renaming a directory above it.

    Raises:
        VaultUntrusted: If a directory above it belongs to another user, or any user may rename entries of it.
    """
    with host_errors(f"open '{git_dir}'"):
        for place in git_dir.resolve().parents:
            status = place.stat()
            if status.st_uid not in (os.geteuid(), _ROOT, _UNMAPPED):
                raise VaultUntrusted(str(git_dir), f"'{place}', above it, belongs to {name_user(status.st_uid)}")
            if status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
                raise VaultUntrusted(str(git_dir), f"everybody may write to '{place}', above it")


def _list_parts(top: str) -> Iterator[str]:
    yield from _PARTS
    for name in _HOOKS:
        yield name
        with _missing_passed():
            yield from (f"{name}/{hook}" for hook in os.listdir(f"{top}/{name}"))


def _look(path: str) -> Iterator[os.stat_result]:
    """Stat what has a name, and what it leads to."""
    with _missing_passed():
        status = os.lstat(path)
        yield status
        if stat.S_ISLNK(status.st_mode):
            yield os.stat(path)


@contextmanager
def _missing_passed() -> Iterator[None]:
    """Pass over what is missing, also behind a link that leads nowhere: to itself, or to a name no file can have."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise


def name_user(uid: int) -> str:
    """Name a user, for messages."""
    name = _find_name(uid)
    return f"'{name}'" if name is not None else f"user {uid}"


def _find_name(uid: int) -> str | None:
    import pwd  # noqa: PLC0415 - only for messages

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def is_private(git_dir: Path) -> bool:
    """Tell whether what avfs writes in a repository is for its owner alone, as the directory `avfs` in it says."""
    try:
        return not mode_below(git_dir / "avfs") & 0o066
    except OSError:  # a vault that is being made
        return True


def make_vault_private(git_dir: Path, *, in_home: bool) -> None:
    """Close a vault of the caller's to other users, unless its configuration says that it is shared.

    Costs two calls of stat.

    Of one outside the home that is avfs's own directory: another user may serve the repository to others.
    """
    with host_errors(f"close '{git_dir}' to other users"):
        places = [place for place in (git_dir / "avfs", *([git_dir] if in_home else [])) if is_open(place)]
        if not places or is_shared(git_dir):
            return
        for place in places:
            make_private(place)
        if in_home:
            for pack in (git_dir / "objects" / "pack").iterdir():
                status = pack.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # what is linked is another repository's, too
                    make_private(pack)


def is_shared(git_dir: Path) -> bool:
    """Tell whether a repository's configuration shares it with other users (git-config(1), `core.sharedRepository`)."""
    value = read_config(git_dir).get("core.sharedrepository", ["umask"])[-1].lower()
    if value.isdigit():
        return value in {"1", "2"} or (len(value) > 1 and bool(int(value, 8) & 0o066))
    return value in {"group", "true", "all", "world", "everybody"}


def check_inert(git_dir: Path) -> None:
    """Refuse a repository where something would make git or avfs run a program, or work on or show files outside it.

    That is a hook of git's, a setting that is not known to be harmless, a list of commands that `git rebase --continue`
    or the like runs, or a link; also in the repositories of submodules, which git keeps with the working tree that has
    them, and in those among the changed files of workspaces; saved files are judged as they are read, by
    `vfs.layer.foreign`. Hooks of avfs do not count: each runs only as its owner enabled it. Costs a look at each entry
    that is no object of the repository itself, and at each directory of the changed files of workspaces.
    """
    reason = (
        find_harmful_setting(git_dir)
        or _find_link(git_dir)
        or _find_hook(git_dir)
        or _find_shown(git_dir)
        or _find_todo(git_dir)
        or _find_in_submodules(git_dir)
        or _find_in_files(git_dir)
    )
    if reason is not None:
        raise VaultUntrusted(str(git_dir), reason)


def find_harmful_setting(git_dir: Path, *, for_own_git: bool = False) -> str | None:
    """Say which setting of a repository is not known to be harmless; None if all are.

    With `for_own_git`, to a command of git that avfs runs itself: it passes over much of what a person's git obeys.
    """
    places = [git_dir]
    with suppress(FileNotFoundError, NotADirectoryError):
        places += [entry for entry in (git_dir / "worktrees").iterdir() if entry.is_dir()]
    for place in places:
        for name in ("config", "config.worktree"):
            if place != git_dir and name == "config":
                continue
            for key, values in read_config(place, name).items():
                if not is_harmless(key, values) and not (for_own_git and is_passed_over(key)):
                    return f"its configuration holds '{key}', which could make git run other programs"
    return None


def _find_hook(git_dir: Path, below: str = "") -> str | None:
    with host_errors(f"open '{git_dir}'"), suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted((git_dir / below / "hooks").iterdir()):
            if path.name.endswith(".sample") or not os.access(path, os.X_OK):
                continue
            if path.name == "update" and not path.is_symlink() and read_plain_file(path) == UPDATE:
                continue
            return f"it has a hook, '{path.relative_to(git_dir)}', which would be run"
    return None


def _find_in_submodules(git_dir: Path) -> str | None:
    """Say what in the repository of a submodule would run a program, or lead out of it; links are judged before."""
    for name in _list_submodules(git_dir):
        for file in ("config", "config.worktree"):
            for key, values in read_config(git_dir / name, file).items():
                if key == "core.worktree":
                    if not all(_is_of_live_tree(git_dir, name, value) for value in values):
                        return f"its '{name}/{file}' has git work in a directory that is in no live tree of it"
                elif not is_harmless(key, values):
                    return f"its '{name}/{file}' holds '{key}', which could make git run other programs"
        with host_errors(f"open '{git_dir}'"), suppress(FileNotFoundError):
            common = read_plain_file(git_dir / name / "commondir").strip()
            if common != b"../.." or os.path.basename(os.path.dirname(name)) != "worktrees":  # that one is judged, too
                return f"its '{name}/commondir' has git obey another repository"
        if (found := _find_hook(git_dir, name) or _find_todo(git_dir, name)) is not None:
            return found
    return None


def _find_in_files(git_dir: Path) -> str | None:
    """Say what of a repository among the changed files of a workspace git would run, or where it leads elsewhere."""
    for top, depth in _list_nested(git_dir):
        left = [nested.GIT]
        while left:
            path = left.pop()
            place = f"{top}/{path}"
            with suppress(FileNotFoundError), host_errors(f"open '{git_dir}'"):
                mode = os.lstat(place).st_mode
                if stat.S_ISDIR(mode):
                    found = nested.find_in_directory(path)
                    if found is None and _REDIRECT in list_xattrs(os.fsencode(place)):
                        found = "shows files of another directory"
                    left += [f"{path}/{name}" for name in os.listdir(place)]
                elif stat.S_ISLNK(mode):
                    found = nested.find_in_link(path)
                elif stat.S_ISREG(mode):
                    read = partial(read_plain_file, Path(place))
                    found = nested.find_in_file(path, read, is_executable=os.access(place, os.X_OK), depth=depth)
                else:  # a deletion, or what git does not read
                    found = None
                if found is not None:
                    return f"its '{os.path.relpath(place, git_dir)}' {found}"
    return None


def _list_nested(git_dir: Path) -> Iterator[tuple[str, int]]:
    """List the directories of the changed files of workspaces that hold a `.git`, of any kind, and how deep each is."""
    for place in ("avfs/workspaces", "avfs/trash"):
        with host_errors(f"open '{git_dir}'"), suppress(FileNotFoundError, NotADirectoryError):
            for fork in os.listdir(git_dir / place):
                top = os.path.join(git_dir, place, fork, "upper")
                for directory, names, files in os.walk(top):
                    if nested.GIT in names or nested.GIT in files:
                        yield directory, directory[len(top) :].count("/")
                    names[:] = [name for name in names if name != nested.GIT]


def _find_todo(git_dir: Path, below: str = "") -> str | None:
    """Say where a rebase or the like is in progress: what is left to do may hold commands.

    Of live trees if `below` is empty.
    """
    with host_errors(f"open '{git_dir}'"):
        places = [below] if below else ["."]
        if not below:
            with suppress(FileNotFoundError, NotADirectoryError):
                places += [f"worktrees/{name}" for name in os.listdir(git_dir / "worktrees")]
        for place in places:
            for name in nested.IN_PROGRESS:
                if os.path.lexists(git_dir / place / name):
                    return f"its '{os.path.normpath(f'{place}/{name}')}' may hold commands that git would run"
    return None


def _list_submodules(git_dir: Path) -> Iterator[str]:
    """List what git takes for a repository, or for a linked working tree of one, below those of the submodules.

    Any directory may be one: the name of a submodule is a path, and the file `.git` of a tree can name each of them.
    """
    top = os.fspath(git_dir)
    left = ["worktrees"]
    with host_errors(f"open '{git_dir}'"):
        while left:
            directory = left.pop()
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{top}/{directory}") as entries:
                kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
                is_outside = directory.count("/") < 2
                if not is_outside and ((kinds.get("objects") and kinds.get("refs")) or "commondir" in kinds):
                    yield directory
                left += [f"{directory}/{name}" for name, is_dir in kinds.items() if is_dir]


def _is_of_live_tree(git_dir: Path, name: str, directory: str) -> bool:
    """Tell whether a submodule's files are in a mounted live tree of the repository, or nowhere.

    git notes where they are from the repository of the submodule. The live tree is not looked into, since its session
    may hang.
    """
    from avfs_git.host.mounts.mounts import list_mounts  # noqa: PLC0415 - few vaults have submodules

    top = git_dir.resolve()
    place = Path(os.path.normpath(top / name / directory))
    trees = (mounted.directory for mounted in list_mounts() if mounted.source.endswith(f":{top}"))
    return any(place.is_relative_to(tree) for tree in trees) or not os.path.lexists(place)


def _find_link(git_dir: Path) -> str | None:
    """Say what leads out of a repository: a link takes avfs to any directory, which it fills, empties or believes."""
    top = os.fspath(git_dir)
    left = list(_OBEYED)
    with host_errors(f"open '{git_dir}'"):
        for name in _OBEYED:
            if os.path.islink(f"{top}/{name}"):
                return _describe_link(name)
        while left:
            directory = left.pop()
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{top}/{directory}") as entries:
                for entry in entries:
                    name = f"{directory}/{entry.name}"
                    if entry.is_symlink():
                        return _describe_link(name)
                    if entry.is_dir(follow_symlinks=False) and not _FILES_OF_PROGRAMS.fullmatch(name):
                        left.append(name)
    return None


def _describe_link(name: str) -> str:
    return f"its '{name}' is a symbolic link, which may lead out of it"


def _find_shown(git_dir: Path) -> str | None:
    """Say what of the machine isolated commands would be shown."""
    with host_errors(f"open '{git_dir}'"), suppress(FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        data = read_plain_file(git_dir / "avfs" / "config.json")
        import json  # noqa: PLC0415 - few vaults have settings

        settings = json.loads(data)  # what cannot be read is refused later
        if isinstance(settings, dict) and settings.get("isolate.show"):
            return "its setting 'isolate.show' opens places of the machine to isolated commands"
    return None
