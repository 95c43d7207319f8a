"""Judging objects that come from elsewhere, once, before they count as part of a vault.

Decided here: what comes in, by a clone, a fetch, a repository that a vault is made of, and a bare repository that is
used as a vault; each hands over its new objects. Refused is a tree or a commit that avfs would refuse at each reading,
and a `.gitmodules` that `git fsck --strict` refuses; all faults are listed. Two harmless faults of old histories pass:
time zones that do not exist, and modes of directories that are padded with a zero. Git judges pushes into a vault by
the same rules: `repository.SEVERITIES` stands in its configuration.

One git process reads trees, commits and small `.gitmodules`, in a directory of its own that has no configuration but
ours. Costs the number of new objects; memory is bounded by the largest tree. Nothing is written but temporary files.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

from avfs_git.errors import GitFailed, HostileObjects, ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.config.gitconfig import quote_value
from avfs_git.gitstore.formats.commits import parse_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_TREE, MAX_STRUCTURE, BadPack
from avfs_git.gitstore.formats.packindex import PackIndex
from avfs_git.gitstore.formats.trees import MODE_FILE, MODE_TREE, parse_tree, serialize_tree
from avfs_git.gitstore.gitcommand import find_git, fsck
from avfs_git.gitstore.objects.store import hash_object, list_loose
from avfs_git.gitstore.scratch import put_loose, scratch_repository
from avfs_git.paths import Oid, oid_of

_Answer = tuple[Oid, bytes, int, bytes]
"""An object, its kind, its length, and its content where that was asked for."""
_Read = Callable[[str, IO[bytes], bytes], Iterator[_Answer]]
"""Reads objects: by which option of git's, by which names, and of which kind they are not told."""
_ALL = b""
_LINE = 41
_UNREADABLE = b""
_HEX = re.compile(r"[0-9a-f]{40}")
_FSCK_BLOB = re.compile(r"blob ([0-9a-f]{40}): (.*)")
_GITMODULES = b".gitmodules"
_GITMODULES_MAX = 1 << 20
_LISTED = 100


def list_packed(packs: Iterable[Path]) -> Iterator[Oid]:
    """List the objects of packs, by the indexes of these."""
    for pack in packs:
        try:
            yield from PackIndex(pack.with_suffix(".idx")).oids()
        except BadPack as error:
            raise ObjectCorrupt(
                pack.stem.removeprefix("pack-"), f"the index of its pack is damaged: {error}"
            ) from error


def list_objects(objects_dir: Path) -> Iterator[Oid]:
    """List all objects of a directory of objects, without borrowed objects.

    Of a pack without an index git knows none.
    """
    indexes = sorted((objects_dir / "pack").glob("pack-*.idx"))
    yield from list_packed([pack for pack in (index.with_suffix(".pack") for index in indexes) if pack.exists()])
    yield from list_loose(objects_dir)


def judge_objects(objects_dir: Path, oids: Iterable[Oid], *, beside: Path | None = None) -> None:
    """Refuse new objects that must not come in; more of what they refer to may be in the directory `beside`.

    Raises:
        HostileObjects: If some are refused; with a list of them.
    """
    with tempfile.TemporaryFile() as wanted:
        for oid in oids:
            wanted.write(oid.hex().encode("ascii") + b"\n")
        if not wanted.tell():
            return
        faults: list[tuple[Oid, str]] = []
        modules: set[Oid] = set()
        with _reading(objects_dir, beside) as read, tempfile.TemporaryFile() as structure:
            for oid, kind, size, _ in read("--batch-check", wanted, b"blob"):
                if kind == _UNREADABLE:
                    faults.append((oid, "git cannot read it"))
                elif kind == b"tag":
                    continue
                elif size > MAX_STRUCTURE:
                    faults.append((oid, f"it is larger than {MAX_STRUCTURE >> 20} MiB"))
                else:
                    structure.write(oid.hex().encode("ascii") + b"\n")
            for oid, kind, _, data in read("--batch", structure, _ALL):
                fault = _judge(oid, kind, data, modules)
                if fault is not None and len(faults) <= _LISTED:
                    faults.append((oid, fault))
            faults += _judge_modules(read, modules)
    if faults:
        raise HostileObjects([(oid.hex(), reason) for oid, reason in faults])


def _judge(oid: Oid, kind: bytes, data: bytes, modules: set[Oid]) -> str | None:
    """Tell what is wrong with a tree or a commit; note what it has as `.gitmodules`."""
    if hash_object(KIND_COMMIT if kind == b"commit" else KIND_TREE, data) != oid:
        return "its content is not what its id says"
    try:
        if kind == b"commit":
            parse_commit(data, oid)
        else:
            found = parse_tree(data, oid).get(_GITMODULES)
            if found is not None and found[0] != MODE_TREE:
                modules.add(found[1])
    except ObjectCorrupt as error:
        return str(error.details["reason"])
    return None


def _judge_modules(read: _Read, oids: Collection[Oid]) -> list[tuple[Oid, str]]:
    """Have git judge what `.gitmodules` say, in a repository that holds nothing else."""
    if not oids:
        return []
    faults: list[tuple[Oid, str]] = []
    with tempfile.TemporaryFile() as wanted, scratch_repository("judge objects") as git_dir:
        wanted.write(b"".join(oid.hex().encode("ascii") + b"\n" for oid in oids))
        found = [(oid, size) for oid, kind, size, _ in read("--batch-check", wanted, _ALL) if kind == b"blob"]
        faults += [(oid, "it is too large for a .gitmodules") for oid, size in found if size > _GITMODULES_MAX]
        wanted.seek(0)
        wanted.truncate()
        wanted.write(b"".join(oid.hex().encode("ascii") + b"\n" for oid, size in found if size <= _GITMODULES_MAX))
        for oid, _, _, data in read("--batch", wanted, _ALL):
            put_loose(git_dir, KIND_BLOB, data)
            put_loose(git_dir, KIND_TREE, serialize_tree({_GITMODULES: (MODE_FILE, oid)}))
        for line in fsck(git_dir):
            match = _FSCK_BLOB.search(line)
            if match is not None:
                faults.append((oid_of(match[1]), f"git refuses it as a .gitmodules: {match[2]}"))
    return faults


def check_connected(
    objects_dir: Path, tips: Collection[Oid], known: Collection[Oid] = (), *, shallow: Collection[Oid] = ()
) -> None:
    """Demand that all is there that some objects lead to. Costs what is not reached from known ones.

    Raises:
        ObjectMissing: If an object is missing, or is of another kind than what names it says.
    """
    if not tips:
        return
    program, environment = find_git("rev-list")
    with scratch_repository("judge objects") as git_dir:
        if shallow:
            (git_dir / "shallow").write_bytes(b"".join(oid.hex().encode("ascii") + b"\n" for oid in shallow))
        given = "".join([*(f"{oid.hex()}\n" for oid in tips), *(f"^{oid.hex()}\n" for oid in known)])
        done = subprocess.run(
            [program, f"--git-dir={git_dir}", "rev-list", "--objects", "--quiet", "--stdin"],
            cwd=git_dir,
            env={**environment, "GIT_OBJECT_DIRECTORY": os.fspath(objects_dir.absolute())},
            input=given.encode("ascii"),
            capture_output=True,
            check=False,
        )
    if done.returncode:
        message = done.stderr.decode("utf-8", "replace")
        named = _HEX.search(message)
        if named is None:
            raise GitFailed("rev-list", message.strip()[:200])
        raise ObjectMissing(named[0])


# --- reading by git ---------------------------------------------------------------------------------------------


@contextmanager
def _reading(objects_dir: Path, beside: Path | None) -> Iterator[_Read]:
    """Have git read the objects that a file names, in the order in which it names them."""
    places = {"GIT_OBJECT_DIRECTORY": os.fspath(objects_dir.absolute())}
    if beside is not None:
        places["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.fsdecode(quote_value(os.fsencode(beside.absolute())))
    with scratch_repository("judge objects") as git_dir:

        def read(option: str, names: IO[bytes], without: bytes) -> Iterator[_Answer]:
            return _read(git_dir, places, option, names, without)

        yield read


def _read(git_dir: Path, places: Mapping[str, str], option: str, names: IO[bytes], without: bytes) -> Iterator[_Answer]:
    names.flush()
    names.seek(0)
    program, environment = find_git("cat-file")
    environment = {**environment, **places}
    command = [program, f"--git-dir={git_dir}", "cat-file", option, "--buffer"]
    # Names come from a file and answers go to a pipe: neither side waits for the other.
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, cwd=git_dir, env=environment, stdin=names, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            answered = 0
            for line in process.stdout:
                answered += 1
                if without and line.startswith(without, _LINE):  # most are
                    continue
                name, _, rest = line.rstrip(b"\n").partition(b" ")
                kind, _, size = rest.partition(b" ")
                oid = oid_of(name)
                if not size.isdigit():  # it is missing, or its header is damaged
                    yield oid, _UNREADABLE, 0, b""
                    continue
                data = process.stdout.read(int(size) + 1)[:-1] if option == "--batch" else b""
                yield oid, kind, int(size), data
            process.wait()
            if process.returncode or names.seek(0, os.SEEK_END) != answered * _LINE:
                said.seek(0)
                _raise_unreadable(said.read().decode("utf-8", "replace"))
        finally:
            process.kill()


def _raise_unreadable(message: str) -> NoReturn:
    named = _HEX.search(message)
    if named is None:
        raise GitFailed("cat-file", message.strip()[:200])
    raise ObjectCorrupt(named[0], message.strip().splitlines()[0])
