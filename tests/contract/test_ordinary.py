"""The tests' own ordinary user: who that is, what it has, and that nothing of it stays, however it ends."""

from __future__ import annotations

import faulthandler
import grp
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avfs_git.host.mounts.mounts import list_mounts
from tests.support import ordinary, sweep


@pytest.mark.ordinary
def test_a_test_is_run_as_somebody_without_privileges(tmp_path: Path, hermetic: Path) -> None:
    """With a name, a home, two groups, files of its own, and no way to what is root's."""
    me = pwd.getpwuid(os.getuid())
    groups = {grp.getgrgid(number).gr_name for number in os.getgroups()}

    assert os.getuid() not in (0, 65534)
    assert os.getresuid() == (os.getuid(),) * 3
    assert groups == {me.pw_name, f"{me.pw_name}-team"}
    assert {place.stat().st_uid for place in (tmp_path, hermetic, Path(me.pw_dir))} == {os.getuid()}
    assert "CapEff:\t0000000000000000\n" in Path("/proc/self/status").read_text("ascii")
    assert os.listdir("/proc/self/fd")
    with pytest.raises(PermissionError):
        os.setuid(0)
    with pytest.raises(PermissionError):
        Path("/etc/avfs-test").touch()
    subprocess.run(
        [sys.executable, "-c", "import avfs_git.sdk, tests.support.ordinary"], check=True, cwd=ordinary.PROJECT
    )


def _sleeps(seconds: str) -> bool:
    """Look for a process that sleeps so long."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and seconds.encode() in (entry / "cmdline").read_bytes():
                return True
        except OSError:  # it ended meanwhile
            continue
    return False


@pytest.mark.needs("root", "ordinary-user")
@pytest.mark.parametrize("ends", ["by itself", "badly", "killed", "aborted"])
def test_nothing_stays(ends: str) -> None:
    """Daemons are dead and mounts are gone when it is over; the directory can be removed."""
    scratch = sweep.scratch_root()
    seconds = f"{os.getpid()}.{time.monotonic_ns() % 10**9:09}"

    def work() -> bytes:
        faulthandler.disable()  # which would write down what the aborted one does
        place = scratch / "tmp" / "mounted"
        place.mkdir()
        subprocess.run(["setsid", "-f", "sleep", seconds], check=True)
        subprocess.run(
            ["unshare", "-Urm", "sh", "-c", f"mount -t tmpfs none {place} && setsid -f sleep {seconds}"], check=False
        )
        (scratch / "tmp" / "ready").touch()
        if ends == "badly":
            os._exit(7)
        if ends != "by itself":
            signal.pause()
        return b"said"

    process = ordinary.Process(work, scratch)
    try:
        if ends == "by itself":
            assert process.answer() == b"said"
        elif ends == "badly":
            with pytest.raises(ordinary.Killed):
                process.answer()
        else:
            while not (scratch / "tmp" / "ready").exists():
                time.sleep(0.01)
            (process.kill if ends == "killed" else process.abort)()
    finally:
        process.kill()
        sweep.remove(scratch)

    assert not scratch.exists()
    assert not [mount for mount in list_mounts() if scratch in mount.directory.parents]
    while _sleeps(seconds):  # one that was killed with its namespace may be on its way still
        time.sleep(0.01)


@pytest.mark.needs("root", "ordinary-user")
def test_it_reaches_what_is_below_closed_directories(tmp_path: Path) -> None:
    """A project in somebody's closed directory can be used, and nothing beside it."""
    closed = tmp_path / "closed"
    project = closed / "deep" / "project"
    project.mkdir(parents=True)
    (project / "file").write_text("inside")
    (project / "link").symlink_to("file")
    (closed / "secret").write_text("secret")
    project.chmod(0o700)
    closed.chmod(0o700)

    def look() -> bytes:
        return f"{(project / 'link').read_text()} {(closed / 'secret').exists()}".encode()

    before = ordinary.PROJECT
    ordinary.PROJECT = project
    try:
        assert ordinary.call(look) == b"inside False"
    finally:
        ordinary.PROJECT = before
    assert (closed / "secret").exists()
