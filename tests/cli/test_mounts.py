"""`avfs mount`, `unmount`, `sessions` and `stop`."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.records import to_record
from tests.cli.test_terminal import at_terminal
from tests.support.cli import Cli, Transcript, spawn

Snapshot = Callable[[str, str], None]

pytestmark = pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")


@pytest.fixture
def hermetic(hermetic: Path, mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have the home where mounts are swept away; end the sessions of a test that failed."""
    home = mount_dir / "h"
    monkeypatch.setenv("AVFS_HOME", str(home / "avfs"))
    yield home
    with Avfs(home / "avfs") as avfs:
        for info in avfs.sessions():
            with suppress(ProcessLookupError):  # one that was about to end when it was listed
                os.kill(info.pid, signal.SIGTERM)


@pytest.fixture
def at(mount_dir: Path) -> Path:
    """Where to mount."""
    return mount_dir / "m"


@pytest.fixture
def avfs(cli: Cli, hermetic: Path, tmp_path: Path, at: Path) -> Transcript:
    """The command line, with a transcript of what it showed."""
    return Transcript(cli, {"home": hermetic / "avfs", "tmp": tmp_path, "at": at})


def plain(text: str) -> str:
    """Replace what differs from run to run beside what every transcript has: processes, short ids, ids of sessions."""
    text = re.sub(r"[^ \"]+ \(pid \d+\)( for \d+ s)?", "<program>", text)
    text = re.sub(r'("pid": |\tmounted\t)\d+', r"\1<pid>", text)
    text = re.sub(r"@[0-9a-f]{12}\b", "@<short id>", text)
    text = re.sub(r"\b[0-9a-f]{40}\b", "<id>", text)
    return re.sub(r'("id": |"session": )"[0-9a-f]{8}"', r'\1"<session>"', text)


@pytest.mark.usefixtures("person")
def test_mounts_are_made_listed_and_ended(avfs: Transcript, work: str, at: Path, snapshot: Snapshot) -> None:
    """The life of mounts, as people see it."""
    avfs("sessions")
    avfs("fork create task")
    avfs("mount task $AT/task")
    (at / "task" / "new").write_bytes(b"written by a program\n")
    avfs("mount")
    avfs("mount task --at main")
    avfs("sessions")
    avfs("mount task $AT/elsewhere", status=29)
    avfs("fork delete task", status=29)
    avfs("vault delete work --yes", status=29)
    avfs("--fork task undo")
    avfs("--fork task redo")
    avfs("--fork task status")
    avfs("doctor")
    avfs("stop task")
    avfs("--fork task log --limit 1")
    avfs("stop $AT/task")
    avfs("unmount main")
    avfs("unmount main")
    avfs("ps")
    avfs("unmount task")
    avfs("unmount nosuch", status=54)
    avfs("unmount --lazy --force", status=2)
    avfs("mount nosuch", status=21)
    avfs("mount task $TMP/project", status=51)

    snapshot("mounts.txt", plain(avfs.text))


@pytest.mark.needs("root", "overlayfs")
def test_mount_documents(avfs: Transcript, work: str, at: Path, snapshot: Snapshot) -> None:
    """The same for programs."""
    avfs("mount main $AT --json")
    avfs("sessions --json")
    avfs("mount --json", status=29)
    with open(at / "README", "rb"):
        avfs("unmount main --json", status=53)
        avfs("unmount main --lazy --json")
    avfs("mount main $AT --readonly --json")
    avfs("stop main --json")
    avfs("stop main --json")

    snapshot("mounts.json.txt", plain(avfs.text))


@pytest.mark.needs("libfuse")
def test_mount_through_libfuse(avfs: Transcript, work: str, at: Path, snapshot: Snapshot) -> None:
    """It is asked for, told, and listed; what it cannot show is refused."""
    avfs("mount main $AT --backend portable")
    avfs("sessions")
    avfs("sessions --json")
    (at / "new").write_bytes(b"written by a program\n")
    avfs("stop main")
    avfs("mount --all $AT --backend portable", status=2)
    avfs("mount main $AT --backend sftp", status=2)

    snapshot("mounts.portable.txt", plain(avfs.text))


@pytest.mark.needs("root", "overlayfs")
def test_mount_on_overlayfs(avfs: Transcript, work: str, at: Path, snapshot: Snapshot) -> None:
    """It is asked for, told, and listed; what it cannot show is refused."""
    avfs("mount main $AT --backend overlay")
    avfs("sessions")
    (at / "new").write_bytes(b"written by a program\n")
    avfs("status")
    avfs("stop main")
    avfs("mount --all $AT --backend overlay", status=2)
    avfs("mount main $AT --readonly --backend overlay", status=2)

    snapshot("mounts.overlay.txt", re.sub(r"\b[0-9a-f]{12}\b", "<base>", plain(avfs.text)))


def test_vault_may_be_named_as_other_systems_do(cli: Cli, work: str, at: Path) -> None:
    """`mount VAULT DIR` mounts its default fork, beside `mount FORK DIR` and `mount DIR`."""
    cli("vault", "create", "other").ok()
    cli("write", "x", "1").ok()
    for arguments in (["work", str(at)], ["main", str(at)], [str(at)], ["work@main", str(at)]):
        assert cli("mount", *arguments, "--json").result["fork"] == "main"
        assert (at / "x").read_bytes() == b"1"
        assert cli("unmount", str(at)).text == f"Unmounted main from {at}\n"


def test_mount_that_is_meant_is_found(cli: Cli, work: str, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the directory that one is in, and by the default fork; never because it is the only one."""
    cli("fork", "create", "task").ok()
    cli("mount", "task", str(at)).ok()
    refused = cli("stop", "--json").document["error"]
    assert (refused["code"], refused["hint"]) == ("input.invalid", "Say which mount: `avfs stop task`.")
    cli("mount", "main").ok()
    assert cli("stop", "--json").result["session"]["fork"] == "main"
    monkeypatch.chdir(at)
    assert cli("stop", "--json").result["session"]["fork"] == "task"
    assert Path.cwd() == Path("/")
    assert cli("stop", "--json").result["outcome"] == "not_mounted"


def test_mount_without_a_record_is_told(cli: Cli, work: str, at: Path, hermetic: Path) -> None:
    """As while its vault is moved: it is mounted, and no vault at that place knows of it."""
    cli("mount", "main", str(at)).ok()
    session = cli("sessions", "--json").result["sessions"][0]["id"]
    (record,) = hermetic.glob(f"avfs/vaults/*/avfs/sessions/{session}/record")
    record.unlink()
    assert f"'{at}' is mounted, but its vault" in cli("stop", str(at), "--json").document["error"]["message"]
    assert cli("unmount", str(at), "--json").result["outcome"] == "unmounted"


def test_directory_says_which_fork_is_meant(cli: Cli, work: str, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a live tree a command means its fork, whichever vault is current; what is named counts more."""
    cli("fork", "create", "task").ok()
    cli("write", "x", "of main").ok()
    cli("mount", "task", str(at / "task")).ok()
    cli("mount", "task", "--at", "main", str(at / "old")).ok()
    cli("mount", "work", "--all", str(at / "all")).ok()
    cli("vault", "create", "other").ok()
    cli("vault", "use", "other").ok()
    (at / "task" / "sub").mkdir()
    monkeypatch.chdir(at / "task" / "sub")
    assert cli("status", "--json").result["fork"] == "task"
    cli("write", "y", "of task").ok()
    assert (at / "task" / "sub" / "y").read_bytes() == b"of task"
    assert cli("--fork", "main", "cat", "../x").text == "of main"
    assert cli("--vault", "other", "status", "--json").result["fork"] == "main"
    with monkeypatch.context() as given:
        given.setenv("AVFS_VAULT", "other")
        assert cli("log", "--json").document["request"]["vault"] == "work"
    assert cli("fork", "create", "next", "--json").result["fork"]["parent"] == "task"
    monkeypatch.chdir(at / "old")
    assert cli("status", "--json").result["fork"] == "task"
    monkeypatch.chdir(at / "all" / "forks")
    assert cli("cat", "x").text == "of main"
    monkeypatch.chdir("/")
    assert cli("log", "--json").document["request"]["vault"] == "other"
    for name in ("task", "old", "all"):
        cli("stop", str(at / name)).ok()


def test_where_a_mount_has_ended_nothing_is_meant(
    cli: Cli, work: str, at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the default fork either; who names one works in it there, and elsewhere all is as ever."""
    cli("fork", "create", "task").ok()
    cli("mount", "task", str(at)).ok()
    (at / "sub").mkdir()
    monkeypatch.chdir(at / "sub")
    spawn("unmount", "--lazy", "task").ok()  # another process: this one would leave the directory

    refused = cli("write", "x", "of task", "--json").document["error"]
    assert (refused["code"], "avfs sessions" in refused["hint"]) == ("host.directory_gone", True)
    assert cli("stop", "--json").document["error"]["code"] == "host.directory_gone"
    cli("--fork", "main", "--vault", "work", "write", "y", "of main").ok()
    monkeypatch.chdir(tmp_path)
    assert [entry["path"] for entry in cli("status", "--json").result["changed_files"]] == ["y"]


@pytest.mark.usefixtures("person")
def test_commands_work_on_what_is_mounted(cli: Cli, work: str, at: Path) -> None:
    """What a command does is seen in the tree at once, and the other way round."""
    cli("mount", "main", str(at)).ok()

    cli("write", "by-command", "1").ok()
    assert (at / "by-command").read_bytes() == b"1"
    (at / "by-program").write_bytes(b"2")
    assert cli("cat", "by-program").text == "2"

    with contextlib.chdir(at):  # a new file by its whole path is no directory `tmp` in the fork
        refused = cli("write", str(at / "new"), "3")
    assert (refused.status, "from the root of the workspace: `/new`" in refused.stderr) == (2, True)
    cli("stop").ok()


_REFUSED = [
    "rm nosuch", "rm src", "mv nosuch x", ("mv README "
                                          "src/data.bin"), "cp nosuch x", "cp README src/data.bin", "write src x",
    "mkdir src", "mkdir q/w", "touch nosuch/x", "add nosuch", ("meta set nosuch "
                                                              "k v"), "meta get nosuch", "cat nosuch", "cat src",
    "ls nosuch", "ls src*", "stat nosuch", "tree nosuch", "log nosuch", "blame nosuch", "grep x nosuch", ("export "
                                                                                                         "nosuch out"),
    "checkout nosuch --at HEAD", "revert nosuch", "checkpoint restore HEAD nosuch", "checkpoint restore nosuch",
    ("checkpoint "
    "delete nosuch"), "diff nosuch", "merge nosuch", "merge --continue", "resolve nosuch --ours", "redo", "op undo 99",
    "exec --cwd nosuch ls",
]  # fmt: skip


def test_refusals_are_the_same_in_a_mounted_fork(cli: Cli, work: str, at: Path) -> None:
    """A session's error crosses a socket, and comes to the same text, hint and exit status."""
    plainly = {typed: cli(*typed.split()) for typed in _REFUSED}
    cli("mount", "main", str(at)).ok()
    for typed, here in plainly.items():
        there = cli(*typed.split())
        assert (there.status, there.stderr) == (here.status, here.stderr), typed
        assert here.status not in (0, 70), typed
    cli("stop").ok()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_foreground_mount_ends_with_its_command(cli: Cli, work: str, at: Path, number: signal.Signals) -> None:
    """A mount in the foreground goes when its command does, whatever ends that."""
    argv = [sys.executable, "-m", "avfs_git", "mount", "main", str(at), "--foreground"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == f"Mounted main at {at}\n"
        (info,) = cli("sessions", "--json").result["sessions"]
        assert (at / "README").exists()

        command.send_signal(number)

        assert command.wait() == (-number if number == signal.SIGKILL else 0)
    with Avfs(Path(os.environ["AVFS_HOME"])) as avfs, avfs.open_vault("work") as vault:
        session = vault.find_session("main")
        if session is not None:
            assert session.id == info["id"]
            session.wait()
        assert [to_record(found) for found in vault.sessions()] == []
    assert not [mounted for mounted in list_mounts() if mounted.directory == at]


@pytest.mark.usefixtures("person")
def test_whole_vault_is_mounted_and_ended(avfs: Transcript, cli: Cli, work: str, at: Path, snapshot: Snapshot) -> None:
    """`--all` shows every state, wherever the vault and the directory are named."""
    avfs("checkpoint save 'before lunch'")
    avfs("fork create team/x")
    avfs("mount --all $AT/all")
    assert sorted(path.relative_to(at / "all").as_posix() for path in at.glob("all/*/*"))[:1] == ["checkpoints/main"]
    assert (at / "all" / "forks" / "team" / "x" / "README").is_file()
    avfs("mount work --all")
    avfs("mount work $AT/third --all --json")
    avfs("sessions")
    avfs("unmount $AT/all/forks/team/x")
    avfs("unmount $AT/all")
    avfs("unmount $AT/third")
    avfs("mount nosuch $AT/x --all", status=11)
    avfs("mount --all --at main", status=2)
    avfs("mount --all --readonly", status=2)
    for session in cli("sessions", "--json").result["sessions"]:
        cli("unmount", session["directory"]).ok()

    snapshot("mounts-all.txt", plain(avfs.text).replace(", by fuse", ""))  # as root's are, where forks are entered so


def test_a_session_commits_as_the_forks_author(cli: Cli, at: Path, tmp_path: Path) -> None:
    """A fork of a directory may have an author: the checkpoints that its session makes carry it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_bytes(b"1")
    made = cli("fork", str(tmp_path / "folder"), str(at), "--author", "Agent 7 <7@example.org>", "--json").ok().result
    target = f"{made['vault']}@{made['fork']}"
    (at / "new").write_bytes(b"1")

    saved = cli("checkpoint", "save", "--vault", target, "--json").ok().result["checkpoint"]
    assert saved["author"] == {"name": "Agent 7", "email": "7@example.org"}
    cli("unmount", str(at)).ok()


def test_a_forked_directory_is_ended_by_the_name_a_person_types(
    cli: Cli, at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`avfs end ../DIR` means the directory also where it stands in a live tree, from which that path leads out."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_bytes(b"1")
    fork = cli("fork", "--branch", "f1", str(tmp_path / "folder"), str(at), "--json").ok().result["fork"]
    monkeypatch.chdir(at)
    beside = f"../{at.name}"

    with subprocess.Popen(["sleep", "infinity"], cwd=at) as user:
        try:
            refused = cli("end", beside)
            assert refused.status == 53
            assert "--lazy" in refused.stderr
            assert (at / "kept").exists()
        finally:
            user.kill()
    monkeypatch.chdir(at)
    assert cli("rm", "../folder/kept").status == 2
    assert f"avfs end {beside}" in cli("rm", "-rf", beside).stderr
    assert cli("end", ".", "extra").status == 2
    monkeypatch.chdir(tmp_path)
    by_name = cli("end", fork)
    assert (by_name.status, "takes the directory" in by_name.stderr) == (54, True)
    assert (at / "kept").exists()
    monkeypatch.chdir(at)

    assert cli("end", beside, "--json").ok().result["deleted"]
    monkeypatch.chdir("/")
    assert not (at / "kept").exists()


def test_the_end_of_a_fork_names_what_no_checkpoint_has(cli: Cli, at: Path, tmp_path: Path) -> None:
    """Its last checkpoint leaves out what git cannot hold, and the fork is gone then."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_bytes(b"1")
    cli("fork", str(tmp_path / "folder"), str(at)).ok()
    os.mkfifo(at / "pipe")

    ended = cli("end", str(at), "--json").ok()
    assert ended.result["deleted"]
    assert [warning["code"] for warning in ended.document["warnings"]] == ["capture.left_out"]


def test_a_directory_is_forked_by_its_plain_name(
    cli: Cli, at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no verb is called so.

    What no fork can be called is said with what to do, and who names no vault hears which.
    """
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)

    unusable = cli("fork", "folder", str(at / "two words"))
    assert (unusable.status, "--branch NAME" in unusable.stderr) == (2, True)
    assert "missing argument 'DIR'" in cli("fork", "folder").stderr
    assert "cannot read" in cli("fork", "nosuch", "../folder").stderr
    missing = cli("end", "folder")
    assert (missing.status, "there is no mount 'folder'" in missing.stderr) == (54, True)

    cli("fork", "--branch", at.name, "folder", str(at)).ok()
    assert (at / "kept").exists()
    monkeypatch.chdir(tmp_path / "folder")
    name = at.name
    assert cli("status", "--json").result["fork"] == name
    assert f"avfs --vault folder stop {at}" in cli("--vault", "folder", "fork", "delete", name).stderr
    cli("stop", str(at)).ok()
    cli("--vault", "folder", "fork", "delete", name).ok()  # the default one of such a vault is as any other


def test_sessions_fit_on_a_narrow_terminal(cli: Cli, work: str, at: Path) -> None:
    """A row is a line of 80 columns where all is as usual, with the whole path; what is not as usual is told."""
    cli("mount", "main", str(at)).ok()
    usual = at_terminal("ps", env={"COLUMNS": "80"})[1]
    cli("mount", "main", f"{at}2", "--readonly").ok()
    unusual = at_terminal("ps", env={"COLUMNS": "200"})[1]

    assert re.search(rf"main +work +{re.escape(str(at))} +(just now|\d+ s ago) *\n", usual)
    assert "read-write" not in usual
    assert re.search(r"read-write.*\n.*read-only [0-9a-f]{12}", unusual)


def test_a_mounted_fork_of_any_vault_is_forked_within_it(
    cli: Cli, work: str, at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`avfs fork .

    DIR` in a mount makes one more fork of the mount's vault, from any directory in it, and `avfs end` ends it.
    """
    cli("mount", "main", str(at)).ok()
    (at / "src/new").write_text("not saved\n")
    for number, place in enumerate((at, at / "src")):
        monkeypatch.chdir(place)
        beside = at.parent / f"x{number}"
        made = cli("fork", ".", str(beside), "--json").ok().result
        assert (made["vault"], made["fork"]) == ("work", f"x{number}")
        assert (beside / "src/new").read_text() == "not saved\n"
        assert cli("fork", "info", f"x{number}", "--json").result["parent"] == "main"
        assert cli("end", str(beside), "--json").ok().result["deleted"]
    assert [vault["name"] for vault in cli("vault", "list", "--json").result["vaults"]] == ["work"]

    nested = at / "src/nested"
    nested.mkdir()
    subprocess.run(["git", "init", "-q", str(nested)], check=True)
    monkeypatch.chdir(nested)
    assert cli("fork", ".", str(at.parent / "own"), "--json").ok().result["vault"] == "nested"
    cli("end", str(at.parent / "own")).ok()
    monkeypatch.chdir("/")
    refused = cli("end", str(at))
    assert (refused.status, "`avfs fork SOURCE DIR` did not make" in refused.stderr) == (54, True)
    cli("stop", str(at)).ok()

    cli("mount", "main", str(at), "--readonly").ok()
    refused = cli("fork", str(at), str(at.parent / "z"))
    assert (refused.status, "is read-only" in refused.stderr) == (2, True)
    made = cli(*shlex.split(re.findall("`avfs ([^`]+)`", refused.stderr)[0].replace("NAME", "z")))
    assert made.ok().text.startswith("Made fork z")
    cli("unmount", str(at)).ok()


def test_a_refused_fork_of_a_directory_leaves_nothing(cli: Cli, work: str, at: Path, project: Path) -> None:
    """The mount point is looked at first: neither a vault nor a line in the log tells of the fork that there is not."""
    full = at.parent / "full"
    full.mkdir()
    (full / "file").write_bytes(b"")
    assert cli("fork", str(project), str(full)).status == 51
    assert [vault["name"] for vault in cli("vault", "list", "--json").result["vaults"]] == ["work"]

    cli("mount", "main", str(at)).ok()
    assert cli("fork", str(at), str(full)).status == 51
    assert cli("fork", str(at), str(at / "in")).status == 51
    assert [line["kind"] for line in cli("op", "log", "--json").result["operations"]] == ["vault_create"]
    cli("unmount", str(at)).ok()


@pytest.mark.parametrize("place", ["sub", "sub/in"])
@pytest.mark.parametrize("backend", ["auto", "fuse"])
def test_what_something_is_mounted_in_is_not_removed(
    cli: Cli, work: str, at: Path, place: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount in a mount stays: `rm` and `mv` of its directory are refused; a restore leaves that and says so."""
    cli("fork", "create", "inner").ok()
    cli("mount", "main", str(at), "--backend", backend).ok()
    (at / "sub/beside").mkdir(parents=True)
    (at / "sub/beside/file").write_text("1\n")
    cli("checkpoint", "save", "--vault", "work@main").ok()
    inner = at / "sub/in"
    cli("mount", "inner", str(inner)).ok()
    (inner / "kept").write_text("kept\n")
    monkeypatch.chdir(at)

    for words in (["rm", "-r", place], ["mv", place, "moved"]):
        refused = cli(*words)
        assert (refused.status, "has something mounted in it" in refused.stderr) == (26, True)
        assert (inner / "kept").read_text() == "kept\n"
    assert cli("rm", "sub/in/kept").status
    assert (inner / "kept").read_text() == "kept\n"
    restored = cli("checkpoint", "restore", "HEAD~1", "--json").ok().document
    assert [told["message"] for told in restored["warnings"]] == ["'sub/in' has something mounted at it and stays"]
    assert (sorted(os.listdir(at / "sub")), (inner / "kept").read_text()) == (["in"], "kept\n")
    assert cli("undo", "--json").ok().document["success"]
    assert ((at / "sub/beside/file").read_text(), (inner / "kept").read_text()) == ("1\n", "kept\n")
    assert cli("undo", "--json").ok().document["success"]
    assert (max(os.listdir(at / "sub")), (inner / "kept").read_text()) == ("in", "kept\n")

    cli("unmount", str(inner)).ok()
    cli("rm", "-r", "sub").ok()
    monkeypatch.chdir("/")
    cli("unmount", str(at)).ok()
    assert cli("cat", "kept", "--vault", "work@inner").text == "kept\n"


def test_watch_shows_what_programs_do(cli: Cli, hermetic: Path, at: Path) -> None:
    """One line an event, as text or JSON; names that are no text stay on their line.

    It ends with the mount, and at Ctrl-C.
    """
    cli("vault", "create", "shop").ok()
    cli("fork", "create", "task").ok()
    assert "not mounted" in cli("watch", "task", "--json").document["error"]["message"]
    cli("mount", "task", str(at)).ok()
    command = [sys.executable, "-m", "avfs_git", "watch", "task"]
    told, shown, last = (hermetic / name for name in ("lines", "text", "stopped"))  # no pipe, which may be full
    with (
        _watching(told, *command, "--json", "--op", "rename") as lines,
        _watching(shown, *command) as text,
        _watching(last, *command) as stopped,
    ):
        _move_until_seen(at, told, shown, last)
        stopped.send_signal(signal.SIGINT)
        stopped.wait()
        os.rename(at / "probe", bytes(at) + b"/a\n\xff")
        cli("unmount", "task").ok()

    event = json.loads(told.read_bytes().splitlines()[-1])
    assert (event["op"], event["old_path"], event["pid"], event["verdict"]) == (
        "rename",
        "probe",
        os.getpid(),
        "allowed",
    )
    assert base64.b64decode(event["path_b64"]) == b"a\n\xff"
    assert shown.read_text().splitlines()[-1].split()[1:] == [
        "rename",
        str(os.getpid()),
        "-",
        "probe",
        "->",
        '"a\\n\\377"',
    ]
    assert (lines.returncode, text.returncode, stopped.returncode) == (0, 0, 0)


def _watching(told: Path, *command: str) -> subprocess.Popen[bytes]:
    with told.open("wb") as file:
        return subprocess.Popen(command, stdout=file)


def _move_until_seen(at: Path, *told: Path) -> None:
    """Rename a file until each of these files tells of it: from then on its process misses nothing."""
    (at / "probe").touch()
    while not all(path.stat().st_size for path in told):
        (at / "probe").rename(at / "other")
        (at / "other").rename(at / "probe")
        time.sleep(0.05)
