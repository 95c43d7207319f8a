"""Repositories: what is made is whole, what cannot be trusted is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from avfs_git.errors import (
    AvfsError,
    FormatUnsupported,
    GitFailed,
    HostError,
    InternalError,
    InvalidName,
    NotAVault,
    ObjectMissing,
    RefConflict,
)
from avfs_git.gitstore.config.gitconfig import read_config
from avfs_git.gitstore.foreign import takeover
from avfs_git.gitstore.foreign.takeover import import_as_remote, import_objects_and_refs
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.refs import RefChange, RefStore
from avfs_git.gitstore.repository import (
    check_repository,
    common_dir,
    ensure_config,
    find_git_dir,
    init_vault_repo,
    read_head,
    read_shallow,
)
from avfs_git.paths import Oid
from tests.support.faults import die_in
from tests.support.objects import MemorySource

A = Oid(b"a" * 20)


def test_a_new_repository_passes_its_own_check(tmp_path: Path) -> None:
    """What is made can be opened, and says which branch is its default."""
    git_dir = tmp_path / "v.git"
    init_vault_repo(git_dir, head="refs/heads/trunk")
    check_repository(git_dir)

    assert read_head(git_dir) == ("refs/heads/trunk", None)
    assert read_config(git_dir)["core.fsync"] == ["all,-index"]
    assert read_shallow(git_dir) == frozenset()


def test_objects_are_synced_together_only_where_that_is_safe() -> None:
    """A vault that comes to a file system without a journal syncs each object; what a user chose stays."""
    with TemporaryDirectory(dir="/dev/shm") as tmpfs:
        git_dir = Path(tmpfs) / "v.git"
        init_vault_repo(git_dir)
        config = git_dir / "config"
        text = config.read_text()
        made = read_config(git_dir)["core.fsyncmethod"]
        found = []
        for before in ("batch", "writeout-only"):
            config.write_text(text.replace("fsyncMethod = fsync", f"fsyncMethod = {before}"))
            ensure_config(git_dir)
            found.append(read_config(git_dir)["core.fsyncmethod"])

    assert [made, *found] == [["fsync"], ["fsync"], ["writeout-only"]]


def test_what_is_only_faster_needs_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git a vault that names no method is fit as it is, on any file system.

    One with an unsafe method is not.
    """
    monkeypatch.setenv("PATH", str(tmp_path))
    with TemporaryDirectory(dir="/dev/shm") as tmpfs:
        for place in (tmp_path, Path(tmpfs)):
            init_vault_repo(place / "v.git")
            config = place / "v.git" / "config"
            lines = [line for line in config.read_text().splitlines(keepends=True) if "fsyncMethod" not in line]
            config.write_text("".join(lines))
            ensure_config(config.parent)

            assert "core.fsyncmethod" not in read_config(config.parent)
        config.write_text("".join(lines).replace("[gc]", "\tfsyncMethod = batch\n[gc]"))
        with pytest.raises(GitFailed):
            ensure_config(config.parent)


def test_nothing_is_overwritten(git_dir: Path) -> None:
    """A repository, or a bad name, in the way of a new one is an error and stays as it is."""
    before = sorted(git_dir.rglob("*"))
    with pytest.raises(HostError):
        init_vault_repo(git_dir)
    with pytest.raises(InvalidName):
        init_vault_repo(git_dir.with_name("other"), head="refs/heads/../x")

    assert sorted(git_dir.rglob("*")) == before
    assert not git_dir.with_name("other").exists()


# --- checking ------------------------------------------------------------------------------------------------


def add_config(git_dir: Path, text: str) -> None:
    """Put more into the configuration."""
    with (git_dir / "config").open("a") as file:
        file.write(text)


@pytest.mark.parametrize(
    "text",
    [
        "[core]\n\trepositoryformatversion = 2\n",
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n",
        "[extensions]\n\tobjectFormat = sha256\n",
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefstorage = reftable\n",
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tpartialclone = origin\n",
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tsomething-new = 1\n",
        '[remote "origin"]\n\tpromisor = true\n',
        '[Remote "a.b"]\n\tpartialCloneFilter = blob:none\n',
    ],
)
def test_another_kind_of_repository_is_refused(git_dir: Path, text: str) -> None:
    """What cannot be read as it says it must be is not read at all."""
    add_config(git_dir, text)

    with pytest.raises(FormatUnsupported):
        check_repository(git_dir)


@pytest.mark.parametrize("name", ["HEAD", "refs/heads/main"])
def test_the_ids_of_another_format_of_git_are_no_damage(git_dir: Path, name: str) -> None:
    """A hint how to mend them would harm a repository that is whole."""
    add_config(git_dir, "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n")
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    (git_dir / name).parent.mkdir(parents=True, exist_ok=True)
    (git_dir / name).write_text("12" * 32 + "\n")

    with pytest.raises(FormatUnsupported):
        read_head(git_dir)


@pytest.mark.parametrize("text", ["[core]\n\tbare = false\n", "[core]\n\tworktree = /x\n"])
def test_a_repository_with_a_working_tree_is_no_vault(git_dir: Path, text: str) -> None:
    """A repository whose files somebody works on is a source, not a vault."""
    add_config(git_dir, text)

    with pytest.raises(NotAVault):
        check_repository(git_dir)


@pytest.mark.parametrize(
    "text",
    [
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = SHA1\n\tnoop = 1\n",
        '[remote "o"]\n\turl = x\n',
    ],
)
def test_harmless_settings_are_no_obstacle(git_dir: Path, text: str) -> None:
    """Extensions that change nothing here, and remotes, are accepted."""
    add_config(git_dir, text)
    check_repository(git_dir)


@pytest.mark.parametrize("name", ["objects", "refs", "objects/pack", "objects/info", "refs/heads"])
def test_directories_may_not_lead_elsewhere(git_dir: Path, tmp_path: Path, name: str) -> None:
    """A symbolic link in the place of a directory is refused."""
    (git_dir / name).rename(tmp_path / "elsewhere")
    (git_dir / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NotAVault):
        check_repository(git_dir)


@pytest.mark.parametrize("name", ["config", "HEAD", "objects/info/alternates", "commondir"])
def test_files_may_not_be_links_or_devices(git_dir: Path, tmp_path: Path, name: str) -> None:
    """A symbolic link or a fifo in the place of a file is refused, without waiting for anybody."""
    path = git_dir / name
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
    with pytest.raises(NotAVault):
        check_repository(git_dir)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(NotAVault):
        check_repository(git_dir)


@pytest.mark.parametrize("name", ["objects", "refs", "HEAD"])
def test_an_incomplete_repository_is_refused(git_dir: Path, name: str) -> None:
    """Without objects, refs or HEAD it is none."""
    (git_dir / name).rename(git_dir / "moved")

    with pytest.raises(NotAVault):
        check_repository(git_dir)
    with pytest.raises(NotAVault):
        check_repository(git_dir / "none")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"garbage\n",
        b"ref: ../../x\n",
        b"ref: /etc/passwd\n",
        b"ref: refs/heads/../../x\n",
        b"ref: HEAD\n",
        b"\0" * 41,
    ],
)
def test_a_head_that_leads_elsewhere_is_refused(git_dir: Path, head: bytes) -> None:
    """HEAD is a branch or a commit, nothing else; of a vault the refusal says what its file has to hold."""
    (git_dir / "HEAD").write_bytes(head)

    with pytest.raises(NotAVault) as refused:
        check_repository(git_dir)
    assert refused.value.hint is None
    (git_dir / "avfs").mkdir()
    (git_dir / "avfs" / "format").touch()
    with pytest.raises(NotAVault) as refused:
        check_repository(git_dir)
    assert "`ref: refs/heads/BRANCH`" in str(refused.value.hint)


def test_borrowed_objects_are_refused(git_dir: Path, tmp_path: Path) -> None:
    """A vault that needs the objects of another repository is not one."""
    alternates = git_dir / "objects" / "info" / "alternates"
    for line in (str(tmp_path), "../../other/objects", "#comment\n/etc"):
        alternates.write_text(f"{line}\n")
        with pytest.raises(NotAVault):
            check_repository(git_dir)
    alternates.write_text("# nothing\n\n")
    check_repository(git_dir)


# --- finding -------------------------------------------------------------------------------------------------


def test_a_repository_is_found_from_its_working_tree(tmp_path: Path) -> None:
    """A directory, a file that names one, or the directory itself: each leads to the repository."""
    for name in ("work", "linked", "plain", "broken"):
        (tmp_path / name).mkdir()
    init_vault_repo(tmp_path / "work" / ".git")
    private = tmp_path / "work" / ".git" / "worktrees" / "linked"
    private.mkdir(parents=True)
    (private / "HEAD").write_text("ref: refs/heads/side\n")
    (private / "commondir").write_text("../..\n")
    (tmp_path / "linked" / ".git").write_text("gitdir: ../work/.git/worktrees/linked\n")
    (tmp_path / "broken" / ".git").write_text("gitdir: nowhere\n")

    assert find_git_dir(tmp_path / "work") == tmp_path / "work" / ".git"
    assert find_git_dir(tmp_path / "work" / ".git") == tmp_path / "work" / ".git"
    linked = find_git_dir(tmp_path / "linked")
    assert linked is not None
    assert linked.resolve() == private
    assert common_dir(linked).resolve() == tmp_path / "work" / ".git"
    assert read_head(linked) == ("refs/heads/side", None)
    with pytest.raises(NotAVault):
        check_repository(linked)
    assert find_git_dir(tmp_path / "plain") is None
    assert find_git_dir(tmp_path / "broken") is None
    assert find_git_dir(tmp_path / "none") is None


# --- taking over ---------------------------------------------------------------------------------------------


class Source:
    """A repository with a commit, a branch, a tag and loose objects beside packs."""

    def __init__(self, git_dir: Path) -> None:
        init_vault_repo(git_dir)
        self.git_dir = git_dir
        memory = MemorySource()
        tree = memory.add_tree({b"a/b": (0o100644, b"content"), b"c": (0o100755, b"x")})
        self.commit = memory.add_commit(tree)
        self.loose = memory.add(KIND_BLOB, b"loose")
        memory.write_to(git_dir)
        with ObjectStore(git_dir) as store:
            writer = PackWriter(store)
            self.packed = writer.add(KIND_BLOB, b"packed")
            writer.finish()
        refs = RefStore(git_dir)
        self.refs = {"refs/heads/main": self.commit, "refs/heads/side/x": self.commit, "refs/tags/v1": self.commit}
        refs.update([RefChange(name, None, oid) for name, oid in self.refs.items()])
        refs.update([RefChange("refs/remotes/origin/main", None, self.commit)])

    def move(self) -> None:
        """Have a new commit on the branch."""
        refs = RefStore(self.git_dir)
        old = refs.read("refs/heads/main")
        assert old is not None
        memory = MemorySource()
        new = memory.add_commit(memory.add_tree({b"c": (0o100644, old.hex().encode())}))
        memory.write_to(self.git_dir)
        refs.update([RefChange("refs/heads/main", old, new)])


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A repository to take over."""
    return Source(tmp_path / "source.git")


def test_history_is_taken_over(source: Source, git_dir: Path) -> None:
    """All objects, branches, tags and HEAD come along, as links; the source is as it was."""
    before = {path: path.stat().st_mtime_ns for path in source.git_dir.rglob("*")}

    assert import_objects_and_refs(source.git_dir, git_dir) == "refs/heads/main"
    assert RefStore(git_dir).list() == source.refs
    with ObjectStore(git_dir) as store:
        assert store.read_blob(source.loose) == b"loose"
        assert store.read_blob(source.packed) == b"packed"
        tree = store.read_tree(store.read_commit(source.commit).tree)
        assert set(tree) == {b"a", b"c"}
    shared = [path for path in (git_dir / "objects").rglob("*") if path.is_file()]
    assert shared
    assert all(path.stat().st_nlink == 2 for path in shared)
    assert {path: path.stat().st_mtime_ns for path in source.git_dir.rglob("*")} == before
    check_repository(git_dir)


def test_objects_are_copied_where_they_cannot_be_linked(
    source: Source, git_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across file systems, or where linking is forbidden, the files are copied."""
    _refuse_links(source.git_dir, monkeypatch)
    import_objects_and_refs(source.git_dir, git_dir)
    monkeypatch.undo()
    with ObjectStore(git_dir) as store:
        assert store.read_blob(source.loose) == b"loose"
        assert store.read_blob(source.packed) == b"packed"
    files = [path for path in (git_dir / "objects").rglob("*") if path.is_file()]
    assert all(path.stat().st_nlink == 1 for path in files)
    assert not any(path.name.startswith("tmp_") for path in files)


def _refuse_links(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as if the source were on another file system."""
    link = os.link

    def refuse(here: str | bytes, *rest: object, **options: object) -> None:
        if os.fsdecode(here).startswith(str(source)):
            raise OSError(18, "Invalid cross-device link")
        link(here, *rest, **options)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("singly", [0, 64])
@pytest.mark.parametrize("copied", [False, True])
def test_what_is_imported_is_synced_before_it_has_its_name(
    source: Source, git_dir: Path, monkeypatch: pytest.MonkeyPatch, copied: bool, singly: int
) -> None:
    """No file of objects is renamed into place whose content a power cut could still take."""
    if copied:
        _refuse_links(source.git_dir, monkeypatch)
    monkeypatch.setattr(takeover, "_SYNCED_SINGLY", singly)
    synced: set[int] = set()
    placed: list[str] = []
    fsync, rename = os.fsync, os.rename

    def sync_all(directory: Path) -> None:
        synced.update(path.stat().st_ino for path in directory.parent.rglob("*"))

    def sync_one(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    def place(old: str | bytes, new: str | bytes | Path) -> None:
        if "/objects/" in os.fsdecode(new):
            assert os.stat(old).st_ino in synced, new
            placed.append(os.fsdecode(new))
        rename(old, new)

    monkeypatch.setattr(takeover, "sync_file_system", sync_all)
    monkeypatch.setattr(os, "fsync", sync_one)
    monkeypatch.setattr(os, "rename", place)
    import_objects_and_refs(source.git_dir, git_dir)
    monkeypatch.undo()

    assert len(placed) > 2
    assert placed[-1].endswith(".idx")
    check_repository(git_dir)


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.slow
def test_an_import_that_dies_is_done_again(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    """Wherever it dies, the next one finds only whole files in place, and leaves nothing of the first behind."""
    if copied:
        _refuse_links(source.git_dir, monkeypatch)
    for point in count(1):
        git_dir = tmp_path / f"{point}.git"
        init_vault_repo(git_dir)
        refs = RefStore(git_dir)
        died = die_in(partial(import_as_remote, source.git_dir, git_dir, refs, "there"), point)
        for path in (git_dir / "objects").glob("[0-9a-f][0-9a-f]/*"):
            assert path.stat().st_size
        import_as_remote(source.git_dir, git_dir, refs, "there")
        with ObjectStore(git_dir) as store:
            assert store.read_blob(source.loose) == b"loose"
            assert store.read_blob(source.packed) == b"packed"
        assert refs.read("refs/remotes/there/main") == source.commit
        assert not list((git_dir / "objects").glob("avfs-import-*"))
        if not died:
            break


class RacedRefs(RefStore):
    """Refs into which another process imports the same source right before this one writes, a given number of times.

    With `moves` the source has a new commit before that, and one more after it.
    """

    def __init__(self, source: Source, git_dir: Path, times: int, *, moves: bool) -> None:
        super().__init__(git_dir)
        self.moves = moves
        self.left = times
        self.source = source

    def create_packed(self, refs: Mapping[str, Oid]) -> bool:
        """Come second."""
        self._come_second()
        return super().create_packed(refs)

    def update(
        self,
        changes: Sequence[RefChange],
        *,
        announce: Callable[[], object] | None = None,
        withdraw: Callable[[], object] | None = None,
    ) -> None:
        """Come second."""
        self._come_second()
        super().update(changes, announce=announce, withdraw=withdraw)

    def _come_second(self) -> None:
        if not self.left:
            return
        self.left -= 1
        if self.moves:
            self.source.move()
        code = """if True:
            import pathlib, sys
            from avfs_git.gitstore.refs.refs import RefStore
            from avfs_git.gitstore.foreign.takeover import import_as_remote
            source, git_dir = map(pathlib.Path, sys.argv[1:])
            import_as_remote(source, git_dir, RefStore(git_dir), "there")
        """
        subprocess.run([sys.executable, "-c", code, self.source.git_dir, self.git_dir], check=True)
        if self.moves:
            self.source.move()


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("held", [False, True])
def test_imports_at_once_do_not_disturb_each_other(source: Source, git_dir: Path, moves: bool, held: bool) -> None:
    """Who comes second finds what it wanted to write, or what the source has had since then: both are no conflict."""
    if held:
        import_as_remote(source.git_dir, git_dir, RefStore(git_dir), "there")
        source.move()
    refs = RacedRefs(source, git_dir, 2, moves=moves)
    import_as_remote(source.git_dir, git_dir, refs, "there")

    if moves:
        assert not refs.left
    assert RefStore(git_dir).list() == {
        name.replace("refs/heads/", "refs/remotes/there/"): oid
        for name, oid in RefStore(source.git_dir).list().items()
        if not name.startswith("refs/remotes/")
    }
    check_repository(git_dir)


@pytest.mark.slow
def test_an_import_does_not_try_for_ever(source: Source, git_dir: Path) -> None:
    """Where the source moves each time, and another import is always first, it is a conflict at last."""
    with pytest.raises(RefConflict):
        import_as_remote(source.git_dir, git_dir, RacedRefs(source, git_dir, 100, moves=True), "there")


def test_borrowed_objects_come_along(source: Source, git_dir: Path, tmp_path: Path) -> None:
    """What the source borrows from others, directly or not, is here afterwards, and nothing is borrowed."""
    chain = [tmp_path / f"borrower{number}.git" for number in range(2)]
    for number, path in enumerate(chain):
        init_vault_repo(path)
        other = chain[number - 1] if number else source.git_dir
        (path / "objects/info/alternates").write_text(
            f"# comment\n../../{other.name}/objects\n{path}/objects\n/nowhere\n"
        )
    RefStore(chain[1]).update([RefChange("refs/heads/main", None, source.commit)])
    import_objects_and_refs(chain[1], git_dir)

    check_repository(git_dir)
    with ObjectStore(git_dir) as store:
        assert store.exists(source.packed)
        assert store.read_commit(source.commit).parents == ()


def test_a_detached_head_is_told_apart(source: Source, git_dir: Path) -> None:
    """A source that is on no branch gives none; its commit can be asked for."""
    (source.git_dir / "HEAD").write_text(f"{source.commit.hex()}\n")

    assert import_objects_and_refs(source.git_dir, git_dir) is None
    assert read_head(source.git_dir) == (None, source.commit)


def test_a_shallow_source_stays_shallow(source: Source, git_dir: Path) -> None:
    """Where history was cut off is known afterwards."""
    (source.git_dir / "shallow").write_text(f"{source.commit.hex()}\n")
    import_objects_and_refs(source.git_dir, git_dir)

    assert read_shallow(git_dir) == {source.commit}


def test_a_source_with_missing_objects_is_refused(source: Source, git_dir: Path) -> None:
    """A branch whose commit is not there is reported, and no ref comes to name it."""
    RefStore(source.git_dir).update([RefChange("refs/heads/lost", None, A)])

    with pytest.raises(ObjectMissing):
        import_objects_and_refs(source.git_dir, git_dir)
    assert RefStore(git_dir).list() == {}


def test_only_objects_of_a_source_are_taken(source: Source, git_dir: Path, tmp_path: Path) -> None:
    """Links, strange names, hooks and configuration of a source stay where they are."""
    (tmp_path / "secret").write_text("secret")
    (source.git_dir / "objects" / "ab").mkdir(exist_ok=True)
    (source.git_dir / "objects" / "ab" / ("c" * 38)).symlink_to(tmp_path / "secret")
    with pytest.raises(AvfsError):
        import_objects_and_refs(source.git_dir, git_dir)
    (source.git_dir / "objects" / "ab" / ("c" * 38)).unlink()
    (source.git_dir / "objects" / "ab" / "strange").write_text("x")
    (source.git_dir / "objects" / "pack" / "tmp_pack_1").write_text("x")
    (source.git_dir / "hooks").mkdir()
    import_objects_and_refs(source.git_dir, git_dir)

    names = {path.name for path in git_dir.rglob("*")}
    assert not {"hooks", "strange", "tmp_pack_1", "c" * 38} & names


def test_a_repository_with_refs_takes_nothing_over(source: Source, git_dir: Path) -> None:
    """Taking over is for new repositories only."""
    import_objects_and_refs(source.git_dir, git_dir)

    with pytest.raises(InternalError):
        import_objects_and_refs(source.git_dir, git_dir)


def test_an_unborn_source_gives_its_branch(tmp_path: Path, git_dir: Path) -> None:
    """A repository without commits gives the branch that it would begin."""
    init_vault_repo(tmp_path / "new.git", head="refs/heads/begin")

    assert import_objects_and_refs(tmp_path / "new.git", git_dir) == "refs/heads/begin"
    assert RefStore(git_dir).head() == "refs/heads/begin"


def test_a_new_object_of_the_vault_does_not_reach_the_source(source: Source, git_dir: Path) -> None:
    """What is written to the vault stays in the vault."""
    import_objects_and_refs(source.git_dir, git_dir)
    with ObjectStore(git_dir) as store:
        writer = PackWriter(store)
        oid = writer.add(KIND_TREE, b"")
        writer.finish()

    assert not ObjectStore(source.git_dir).exists(oid)
