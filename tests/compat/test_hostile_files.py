"""Files of a repository that somebody else made: pipes, links and false contents where git has plain files."""

from __future__ import annotations

import hashlib
import os
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import HostError, NotAVault, ObjectCorrupt, RefDamaged
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.rules.attributes import FILE_MAX_BYTES
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_MAX
from avfs_git.paths import Oid
from avfs_git.workspace.forks.clones import fork_present
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.limited import run_limited
from tests.support.servers import git


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "project"
    root.mkdir()
    git("init", "-q", "-b", "main", cwd=root)
    (root / "file").write_text("ok\n")
    git("add", ".", cwd=root)
    git("commit", "-q", "-m", "one", cwd=root)
    return root


def put_loose(objects: Path, kind: bytes, named_after: bytes, content: bytes) -> str:
    """Store an object under the id of another content; return that id."""
    oid = hashlib.sha1(b"%b %d\0" % (kind, len(named_after)) + named_after, usedforsecurity=False).hexdigest()
    (objects / oid[:2]).mkdir(exist_ok=True)
    (objects / oid[:2] / oid[2:]).write_bytes(zlib.compress(b"%b %d\0" % (kind, len(content)) + content))
    return oid


def make_bare(project: Path, tmp_path: Path) -> Path:
    """Make a bare repository that serves as a vault where it is."""
    bare = tmp_path / "bare.git"
    git("clone", "-q", "--bare", "--template=", str(project), str(bare), cwd=tmp_path)
    return bare


@pytest.mark.parametrize("size", [200_000, 3_000_000])
def test_a_forged_content_does_not_stand_for_ours(size: int, project: Path, tmp_path: Path) -> None:
    """A repository that has something else under the id of a file written later loses nothing of that file."""
    ours = b"ours" * (size // 4)
    put_loose(project / ".git/objects", b"blob", ours, b"evil" * (size // 4))
    (tmp_path / "file").write_bytes(ours)
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=project) as vault:
        workspace = vault.workspace()
        workspace.import_path(tmp_path / "file", "/big")
        workspace.checkpoint("m")
        with vault.fork("other") as other:
            assert other.read("/big") == ours


@pytest.mark.parametrize("place", ["index", "info/attributes"])
@pytest.mark.parametrize("door", ["vault", "fork"])
def test_a_pipe_keeps_nobody_waiting(door: str, place: str, project: Path, tmp_path: Path) -> None:
    """What git could not read either is as if it were not there."""
    (project / ".git" / place).unlink(missing_ok=True)
    (project / ".git" / place).parent.mkdir(exist_ok=True)
    os.mkfifo(project / ".git" / place)
    with Avfs(tmp_path / "home") as avfs:
        if door == "vault":
            with avfs.create_vault("v", source=project) as vault:
                assert vault.workspace().read("/file") == b"ok\n"
        else:
            vault = avfs.create_vault("v")
            with closing(OpenVault(vault.path)) as opened:
                fork_present(opened, "f", project)
            assert vault.workspace("f").read("/file") == b"ok\n"


def test_a_pipe_for_the_refs_is_refused(project: Path, tmp_path: Path) -> None:
    """Branches could be missing without a word."""
    os.mkfifo(project / ".git/packed-refs")
    with Avfs(tmp_path / "home") as avfs, pytest.raises(RefDamaged, match="packed-refs"):
        avfs.create_vault("v", source=project)


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_ignore_rules_that_are_no_file_are_refused(what: str, project: Path, tmp_path: Path) -> None:
    """Without the rules, what they hide would get into the history; and a link may lead to any file of the user's."""
    exclude = project / ".git/info/exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(exclude)
    else:
        exclude.symlink_to("/dev/zero")
    with Avfs(tmp_path / "home") as avfs:
        with pytest.raises(NotAVault, match="exclude"):
            avfs.create_vault("v", source=project)
        assert not avfs.list_vaults()
    git_dir = make_bare(project, tmp_path)
    (git_dir / "info").mkdir(exist_ok=True)
    exclude.rename(git_dir / "info/exclude")
    with Avfs(tmp_path / "home") as avfs:
        avfs.trust_vault(git_dir)
        with avfs.open_vault(git_dir) as vault:
            workspace = vault.workspace()
            workspace.write("/new", b"x")
            with pytest.raises(NotAVault, match="exclude"):
                workspace.checkpoint("m")


def test_endless_ignore_rules_beside_the_tree_hide_all(project: Path, tmp_path: Path) -> None:
    """As those of an ignore file in the tree: to take them apart would take minutes."""
    exclude = project / ".git/info/exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_bytes(b"*a?b[cd]*e\n" * (IGNORE_FILE_MAX // 8))
    (project / "untracked").write_text("x")
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=project) as vault:
        assert git("ls-tree", "--name-only", "main", cwd=vault.path).split() == ["file"]
        assert vault.workspace().read("/untracked") == b"x"


@pytest.mark.parametrize("place", ["objects/info/commit-graph", "objects/info/commit-graphs/commit-graph-chain"])
def test_a_pipe_in_a_vault_keeps_nobody_waiting(place: str, project: Path, tmp_path: Path) -> None:
    """A repository that is used as it is may hold one as well, and a pack that git had not finished."""
    git_dir = make_bare(project, tmp_path)
    (git_dir / place).parent.mkdir(exist_ok=True)
    os.mkfifo(git_dir / place)
    (git_dir / "objects/pack/pack-1.pack").touch()
    with Avfs(tmp_path / "home") as avfs, avfs.open_vault(git_dir) as vault:
        workspace = vault.workspace()
        workspace.write("/new", b"x")
        assert len(workspace.log()) == 1


@pytest.mark.parametrize("name", ["HEAD", "commondir", "gitdir"])
def test_a_link_to_a_device_keeps_the_doctor_from_nothing(name: str, project: Path, tmp_path: Path) -> None:
    """Git would read in it for ever; the doctor names it instead of asking git."""
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=project) as vault:
        git("worktree", "add", "-q", str(tmp_path / "tree"), "-b", "other", cwd=vault.path)
        file = vault.path / "worktrees" / "tree" / name
        file.unlink()
        file.symlink_to("/dev/zero")
        told = [problem.description for problem in vault.doctor().problems]
        assert any(str(file) in text and "device" in text for text in told)


def test_a_pipe_for_an_index_of_a_pack_is_damage(project: Path, tmp_path: Path) -> None:
    """Nothing is known of what the pack holds."""
    git_dir = make_bare(project, tmp_path)
    os.mkfifo(git_dir / "objects/pack/pack-1.idx")
    (git_dir / "objects/pack/pack-1.pack").touch()
    with (
        Avfs(tmp_path / "home") as avfs,
        avfs.open_vault(git_dir) as vault,
        pytest.raises(ObjectCorrupt, match="cut short"),
    ):
        vault.workspace().write("/new", b"x")


def test_the_name_of_a_tag_hides_nothing_else(project: Path, tmp_path: Path) -> None:
    """A whole id is that commit, and `REMOTE/BRANCH` that branch, whatever tags came from anywhere."""
    first = git("rev-parse", "HEAD", cwd=project).strip()
    git("commit", "-q", "--allow-empty", "-m", "two", cwd=project)
    second = git("rev-parse", "HEAD", cwd=project).strip()
    git("update-ref", f"refs/tags/{first}", second, cwd=project)
    git("update-ref", f"refs/heads/{first}", second, cwd=project)
    git("update-ref", "refs/tags/origin/old", second, cwd=project)
    git("update-ref", "refs/heads/old", first, cwd=project)
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(project), "v")
        vault = avfs.open_vault("v")
        git("update-ref", f"refs/heads/{first}", second, cwd=vault.path)
        for name, at in (("a", first), ("b", "origin/old")):
            vault.fork(name, at=at)
            assert git("rev-parse", f"refs/heads/{name}", cwd=vault.path).strip() == first
        vault.workspace("a").merge(first)
        assert git("rev-parse", "refs/heads/a", cwd=vault.path).strip() == first


def test_a_false_reverse_index_spoils_no_push(project: Path, tmp_path: Path) -> None:
    """Git sends pieces of packs by it, and does not check it."""
    for number in range(20):
        (project / f"f{number}").write_bytes(os.urandom(100 * number))
    git("add", ".", cwd=project)
    git("commit", "-q", "-m", "two", cwd=project)
    git("repack", "-adq", cwd=project)
    index = next((project / ".git/objects/pack").glob("*.idx"))
    git("index-pack", "--rev-index", str(index.with_suffix(".pack")), cwd=project)
    place = index.with_suffix(".rev")
    data = place.read_bytes()
    numbers = [data[at : at + 4] for at in range(12, len(data) - 40, 4)]
    forged = data[:12] + b"".join(reversed(numbers)) + data[-40:-20]
    place.chmod(0o644)
    place.write_bytes(forged + hashlib.sha1(forged, usedforsecurity=False).digest())
    target = tmp_path / "target.git"
    git("init", "-q", "--bare", str(target), cwd=tmp_path)
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=project) as vault:
        vault.add_remote("target", str(target))
        vault.push(["main"], remote="target")
    git("fsck", "--strict", cwd=target)


def test_attributes_of_absurd_size_are_not_read(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracked `.gitattributes` beyond the bound takes no memory when a directory is taken in."""
    (project / ".gitattributes").write_bytes(b"* text\n" + bytes(FILE_MAX_BYTES))
    git("add", ".gitattributes", cwd=project)
    git("commit", "-qm", "attributes", cwd=project)
    read: list[int] = []
    whole = ObjectStore.read_blob

    def read_blob(store: ObjectStore, oid: Oid) -> bytes:
        data = whole(store, oid)
        read.append(len(data))
        return data

    monkeypatch.setattr(ObjectStore, "read_blob", read_blob)
    with Avfs(tmp_path / "home") as avfs:
        avfs.create_vault("v", source=project).close()

    assert max(read, default=0) <= FILE_MAX_BYTES


# --- sizes and paths that no repository needs -------------------------------------------------------------------------


def make_huge(place: Path) -> None:
    """Make a file of 2 GiB that takes no room, as an archive can hold one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    os.truncate(place, 2 << 30)


@pytest.mark.parametrize(
    "place", ["HEAD", "refs/heads/huge", "packed-refs", "shallow", "index", "objects/info/alternates", "commondir"]
)
def test_a_huge_file_takes_no_memory(place: str, project: Path, hermetic: Path) -> None:
    """A repository whose git directory holds such a file is taken or refused, with an error that says why."""
    make_huge(project / ".git" / place)

    ran = run_limited("vault", "create", "v", "--from", project)

    assert ran.status in {0, 10, 17}, ran
    assert ran.status == 0 or place.rpartition("/")[2] in ran.stderr or "no file can have" in ran.stderr, ran


def test_a_huge_index_of_a_pack_is_damage(project: Path, hermetic: Path) -> None:
    """It is not read to see that it is none."""
    pack = project / ".git/objects/pack"
    for suffix in ("idx", "pack"):
        make_huge(pack / f"pack-{'a' * 40}.{suffix}")

    ran = run_limited("vault", "create", "v", "--from", project)

    assert ran.status == 16, ran


def test_a_huge_file_of_a_submodule_is_left_out(project: Path, tmp_path: Path, hermetic: Path) -> None:
    """Its repository cannot be taken along, which is told; the rest can."""
    outer = tmp_path / "outer"
    outer.mkdir()
    git("init", "-q", "-b", "main", cwd=outer)
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(project), "sub", cwd=outer)
    git("commit", "-q", "-m", "one", cwd=outer)
    make_huge(outer / ".git/modules/sub/ORIG_HEAD")

    ran = run_limited("vault", "create", "v", "--from", outer).ok()

    assert "'ORIG_HEAD' is larger than" in ran.stderr


@pytest.mark.parametrize("name", [b"a\0b", b"a" * 300, b"a/" * 5_000], ids=["nul", "long name", "long path"])
@pytest.mark.parametrize("place", ["commondir", "objects/info/alternates"])
def test_a_path_that_no_file_can_have_is_refused(place: str, name: bytes, project: Path, tmp_path: Path) -> None:
    """What a file of a repository names is looked at before the system is asked for it."""
    (project / ".git" / place).parent.mkdir(exist_ok=True)
    (project / ".git" / place).write_bytes(name + b"\n")

    with Avfs(tmp_path / "home") as avfs, pytest.raises(NotAVault, match="no file can have"):
        avfs.create_vault("v", source=project)


def test_borrowing_from_very_many_places_is_refused(project: Path, tmp_path: Path) -> None:
    """Each of them costs a look."""
    (project / ".git/objects/info").mkdir(exist_ok=True)
    (project / ".git/objects/info/alternates").write_bytes(b"".join(b"/none/%d\n" % number for number in range(2_000)))

    with Avfs(tmp_path / "home") as avfs, pytest.raises(NotAVault, match="more than 1000 places"):
        avfs.create_vault("v", source=project)


def test_objects_that_others_may_write_are_copied(project: Path, tmp_path: Path) -> None:
    """A file that serves both repositories could be changed by whoever may write it."""
    objects = [path for path in (project / ".git/objects").glob("??/*") if path.is_file()]
    objects[0].chmod(0o666)
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=project) as vault:
        shared = {path.name for path in objects if path.samefile(vault.path / "objects" / path.parent.name / path.name)}

    assert shared == {path.name for path in objects[1:]}


# --- vaults that commands have left as they are -----------------------------------------------------------


def test_a_vault_that_is_led_elsewhere_says_what_to_remove(project: Path, tmp_path: Path) -> None:
    """A command may make this file, which git obeys."""
    with Avfs(tmp_path / "home") as avfs:
        with avfs.create_vault("v", source=project) as vault:
            path = vault.path
        (path / "commondir").write_text("/tmp\n")
        with pytest.raises(NotAVault) as refused:
            avfs.open_vault("v")
        assert f"'{path}/commondir'" in str(refused.value.hint)
        (path / "commondir").unlink()
        with avfs.open_vault("v") as vault:
            assert vault.doctor().healthy


def test_an_adopted_repository_keeps_its_settings(project: Path, tmp_path: Path) -> None:
    """What its owner lets pushes do is not avfs's to say."""
    with Avfs(tmp_path / "home") as avfs, avfs.open_vault(make_bare(project, tmp_path)) as vault:
        assert vault.doctor().healthy


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_stands_in_place_of_the_current_vault_keeps_nobody_waiting(kind: str, tmp_path: Path) -> None:
    """It is told, as in place of any other file of a home."""
    current = tmp_path / "home" / "current"
    with Avfs(tmp_path / "home") as avfs:
        avfs.create_vault("v").close()
        current.unlink()
        if kind == "pipe":
            os.mkfifo(current)
        else:
            current.symlink_to("/dev/zero")
        with pytest.raises(HostError, match="regular file"):
            avfs.current_vault()
