"""What is put back after a power cut, and what stays as it is."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.model import Status
from avfs_git.paths import TreePath
from avfs_git.workspace.capture.captured import read_kernel_time
from avfs_git.workspace.vault.log.oprecord import CAPTURED, SINCE

pytestmark = [pytest.mark.needs("user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]
_END_OF_TIME = 2**62
_TICKS_NS = 30_000_000


class Cut:
    """A workspace whose machine stops: the vault is on the disk, of the upper layer only what the test leaves."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with Avfs(home) as avfs:
            base = avfs.create_vault("v").workspace()
            base.write("base", b"base\n")
            base.write("base-deleted", b"gone\n")
            base.checkpoint()
            work = avfs.open_vault("v").fork("work")
            work.write("base", b"changed\n")
            work.write("new", b"new\n" * 100)
            work.write("dir/deep/file", b"deep\n")
            work.write(".gitignore", b"*.o\n")
            work.write("out.o", b"ignored\n")
            work.symlink("link", b"new")
            work.remove("base-deleted")
            work.checkpoint("saved")
        self.root = home / "vaults" / "v.git" / "avfs" / "workspaces" / "work"
        self.upper = self.root / "upper"

    def cut_power(self) -> None:
        """Let what is left of the upper layer count as changed before the last record: ctimes cannot be set."""
        with Avfs(self.home, clock_ns=lambda: _END_OF_TIME) as avfs:
            core = avfs.open_vault("v")._core
            record = core.oplog.find_last_state("work")
            assert record is not None
            record.more = {**record.more, CAPTURED: _END_OF_TIME}
            core.oplog.append(record)

    @staticmethod
    def let_time_pass() -> None:
        """Let what is changed next have another time than what was recorded."""
        began = read_kernel_time()
        while read_kernel_time() - began < _TICKS_NS:
            time.sleep(0.01)

    def restart(self) -> Vault:
        """Start the machine again."""
        state = self.root / "state"
        if state.exists():
            state.write_text(json.dumps({**json.loads(state.read_bytes()), "boot": "the boot before"}))
        return Avfs(self.home).open_vault("v")


@pytest.fixture
def cut(tmp_path: Path) -> Cut:
    """A workspace with a checkpoint of one of everything."""
    return Cut(tmp_path / "home")


def _told(status: Status) -> list[str]:
    return [warning.message.split("'")[1] for warning in status.warnings if warning.code == "workspace.recovered"]


def test_nothing_is_put_back_where_nothing_was_lost(cut: Cut) -> None:
    """After an orderly restart everything is as it was, uncommitted work included, and nothing is told."""
    with Avfs(cut.home) as avfs:
        work = avfs.open_vault("v").workspace("work")
        work.write("new", b"newer\n")
        work.write("more", b"more\n")
        work.remove("base")
    with cut.restart() as vault:
        work = vault.workspace("work")
        status = work.status()

        assert [change.path for change in status.changed_files] == [b"base", b"more", b"new"]
        assert status.warnings == ()
        assert work.read("new") == b"newer\n"
        assert not work.exists("base")


def test_directories_of_the_base_that_were_moved_after_a_checkpoint_stay_so(cut: Cut) -> None:
    """Also where the checkpoint has other files of the same names: those show what the base has elsewhere by now."""
    with Avfs(cut.home) as avfs:
        work = avfs.open_vault("v").workspace()
        for name in ("one", "two"):
            work.write(f"{name}/file", name.encode())
        work.checkpoint()
        work = avfs.open_vault("v").fork("moving")
        work.write("two/file", b"changed\n")
        work.checkpoint()
    cut.let_time_pass()
    with Avfs(cut.home) as avfs:
        work = avfs.open_vault("v").workspace("moving")
        # as a program does, of which the log knows nothing
        with work._opened.locked() as locked, locked.changing() as tree:
            tree.remove(TreePath(b"two"), recursive=True)
            tree.move(TreePath(b"one"), TreePath(b"two"))
    cut.root = cut.root.with_name("moving")
    with cut.restart() as vault:
        work = vault.workspace("moving")
        status = work.status()
        assert [change.path for change in status.changed_files] == [b"one/file", b"two/file"]
        assert status.warnings == ()
        assert work.read("two/file") == b"one"


def test_what_was_removed_or_emptied_after_a_checkpoint_stays_so(cut: Cut) -> None:
    """A restart brings nothing back that somebody removed or emptied after the last checkpoint, at once or later."""
    with Avfs(cut.home) as avfs:
        work = avfs.open_vault("v").workspace("work")
        work.write("keep/one", b"1\n")
        work.write("keep/two", b"2\n")
        work.checkpoint()
        work.remove("keep/one")
        work.remove("dir", recursive=True)
        work.remove("link")
        work.remove("out.o")
        work.write("new", b"")
        work.write("base", b"")
    with cut.restart() as vault:
        work = vault.workspace("work")

        assert sorted(info.path for info in work.list_dir()) == [b".gitignore", b"base", b"keep", b"new"]
        assert (work.read("new"), work.read("base"), work.exists("keep/one"), work.read("keep/two")) == (
            b"",
            b"",
            False,
            b"2\n",
        )
        assert [warning.code for warning in work.status().warnings] == []
        gone = {change.path for change in work.status().changed_files}
        assert gone == {b"base", b"dir/deep/file", b"keep/one", b"link", b"new"}


def test_what_a_program_did_to_files_before_a_restart_stays(cut: Cut) -> None:
    """So it is where a program removed a file or moved one away below avfs, and nobody recorded it."""
    cut.let_time_pass()
    os.rename(cut.upper / "dir" / "deep" / "file", cut.upper / "dir" / "elsewhere")
    (cut.upper / "link").unlink()
    (cut.upper / "new").write_bytes(b"shorter\n")
    with cut.restart() as vault:
        work = vault.workspace("work")

        assert not work.exists("dir/deep/file")
        assert work.read("dir/elsewhere") == b"deep\n"
        assert not work.exists("link")
        assert work.read("new") == b"shorter\n"
        assert work.status().warnings == ()


def test_a_file_that_was_emptied_after_the_last_record_stays_empty_and_its_content_is_offered(cut: Cut) -> None:
    """Nobody can tell whether a program emptied the file or a power cut took what was written anew.

    The warning names the command.
    """
    cut.let_time_pass()
    for name in ("base", "new", "out.o"):
        os.truncate(cut.upper / name, 0)
    with cut.restart() as vault:
        work = vault.workspace("work")
        told = [warning.message for warning in work.status().warnings if warning.code == "workspace.recovered"]

        assert [work.read(name) for name in ("base", "new", "out.o")] == [b"", b"", b""]
        assert sorted(message.split("'")[1] for message in told) == ["base", "new", "out.o"]
        assert [change.path for change in work.status().changed_files] == [b"base", b"new"]
        at = (
            next(message for message in told if "avfs checkout --fork work new --at " in message)
            .rstrip("`")
            .rsplit(" ", 1)[1]
        )
        for name, content in (("base", b"changed\n"), ("new", b"new\n" * 100), ("out.o", b"ignored\n")):
            work.checkout_path(name, at=at)
            assert work.read(name) == content


def test_what_is_missing_comes_back(cut: Cut) -> None:
    """Files, links, ignored files and directories that a checkpoint acknowledged and the disk lost are put back.

    The warnings name them.
    """
    (cut.upper / "dir" / "deep" / "file").unlink()
    (cut.upper / "dir" / "deep").rmdir()
    for name in ("base", "new", "out.o", "link", "base-deleted"):
        (cut.upper / name).unlink()
    cut.cut_power()
    with cut.restart() as vault:
        work = vault.workspace("work")

        assert work.read("base") == b"changed\n"
        assert work.read("new") == b"new\n" * 100
        assert work.read("dir/deep/file") == b"deep\n"
        assert work.read("out.o") == b"ignored\n"
        assert work.read_link("link") == b"new"
        assert not work.exists("base-deleted")
        assert sorted(_told(work.status())) == ["base", "base-deleted", "dir/deep/file", "link", "new", "out.o"]
        assert work.status().changed_files == ()


def test_what_is_empty_or_older_comes_back(cut: Cut) -> None:
    """A file that lost its content, or stands there in the version before, is put back; what stood there is kept."""
    os.truncate(cut.upper / "new", 0)
    saved = (cut.upper / "base").stat()
    (cut.upper / "base").write_bytes(b"first version\n")
    # The version before was last touched before the checkpoint.
    os.utime(cut.upper / "base", ns=(saved.st_atime_ns, saved.st_mtime_ns - 1_000_000_000))
    cut.cut_power()
    with cut.restart() as vault:
        work = vault.workspace("work")

        assert work.read("new") == b"new\n" * 100
        assert work.read("base") == b"changed\n"
        told = [warning.message for warning in work.status().warnings]
        kept = next(message.rsplit(" ", 1)[1] for message in told if "kept" in message)

        assert b"".join(work.open_read("base", at=kept)) == b"first version\n"


def test_what_stood_there_before_a_restore_does_not_come_back(cut: Cut) -> None:
    """A file replaced by a restore is replaced again, though what stood there is newer than the restored state."""
    with Avfs(cut.home) as avfs:
        vault = avfs.open_vault("v")
        work = vault.workspace("work")
        work.write("base", b"later\n")
        work.checkpoint("later")
        before = work.stat("base").mtime_ns
        restored = work.restore("saved").checkpoint
        work.write("unrelated", b"1")
        work.checkpoint("after the restore")
        record = next(found for found in vault._core.oplog.read_fork("work") if found.kind == "restore")
        assert restored is not None
        assert record.after == restored.id
        assert before < record.more[SINCE] + 1_000_000_000
        # The file of before cannot be given its time of change again, so the log's is moved on.
        last = vault._core.oplog.find_last_state("work")
        assert last is not None
        last.more = {SINCE: 2**62}
        vault._core.oplog.append(last)
    (cut.upper / "base").write_bytes(b"later\n")
    os.utime(cut.upper / "base", ns=(before, before))
    with cut.restart() as vault:
        work = vault.workspace("work")

        assert work.read("base") == b"changed\n"
        assert work.status().changed_files == ()


def test_what_is_newer_stays(cut: Cut) -> None:
    """Uncommitted work that reached the disk is never replaced."""
    with Avfs(cut.home) as avfs:
        avfs.open_vault("v").workspace("work").write("new", b"newer, not committed\n")
    (cut.upper / "base").unlink()
    with cut.restart() as vault:
        work = vault.workspace("work")

        assert work.read("new") == b"newer, not committed\n"
        assert work.read("base") == b"changed\n"
        assert [change.path for change in work.status().changed_files] == [b"new"]


def test_everything_may_be_gone(cut: Cut) -> None:
    """A fork whose whole workspace never reached the disk comes back as it was last recorded."""
    vault = cut.restart()
    vault.close()
    for path in sorted(cut.root.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    cut.root.rmdir()
    with Avfs(cut.home) as avfs:
        vault = avfs.open_vault("v")
        work = vault.workspace("work")

        assert work.read("base") == b"changed\n"
        assert work.read("out.o") == b"ignored\n"
        assert work.status().changed_files == ()
        assert vault.fork_info("work").parent == "main"


def test_it_is_told_until_a_checkpoint_and_no_longer(cut: Cut) -> None:
    """What was put back is told to whoever asks next, in any process, up to the next checkpoint."""
    (cut.upper / "new").unlink()
    cut.cut_power()
    with cut.restart() as vault:
        assert vault.workspace("work").read("new") == b"new\n" * 100
    with Avfs(cut.home) as avfs:
        work = avfs.open_vault("v").workspace("work")

        assert _told(work.status()) == ["new"]
        work.write("more", b"more\n")

        assert [warning.code for warning in work.checkpoint().warnings] == ["workspace.recovered"]
        assert work.status().warnings == ()
    with Avfs(cut.home) as avfs:
        assert avfs.open_vault("v").workspace("work").status().warnings == ()


def test_a_new_fork_inherits_nothing_from_a_dead_one_of_its_name(cut: Cut) -> None:
    """Labels and sidecars of a fork whose branch others removed do not pass to the next fork of that name."""
    (cut.home / "vaults" / "v.git" / "refs" / "heads" / "work").unlink()
    with Avfs(cut.home) as avfs:
        vault = avfs.open_vault("v")
        old = vault._core.list_labels("work")["saved"]
        work = vault.fork("work", source="main")

        assert [one.labels for one in work.list_checkpoints() if one.labels] == []
        assert not work.exists("out.o")
        work.write("f", b"f")
        assert work.checkpoint("saved").outcome == "created"
        assert vault._core.refs.read(f"refs/avfs/keep/{old.hex()}") == old
