"""Refs: read as git reads them, moved all or none, and never locked for good."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import HostError, InternalError, InvalidName, LeftInForce, RefConflict, RefDamaged, RefLocked
from avfs_git.gitstore.refs import locks as module
from avfs_git.gitstore.refs.names import check_ref_name
from avfs_git.gitstore.refs.refs import RefChange, RefStore
from avfs_git.paths import Oid
from tests.support.failing import FailAt
from tests.support.interrupts import Interrupt

A = Oid(b"a" * 20)
B = Oid(b"b" * 20)
C = Oid(b"c" * 20)
MAIN = "refs/heads/main"


@pytest.fixture
def refs(git_dir: Path) -> RefStore:
    """The refs of an empty repository."""
    return RefStore(git_dir)


def move(refs: RefStore, name: str, old: Oid | None, new: Oid | None) -> None:
    """Move one ref."""
    refs.update([RefChange(name, old, new)])


def pack(git_dir: Path, held: dict[str, Oid]) -> None:
    """Write `packed-refs`, with what an annotated tag points to."""
    lines = ["# pack-refs with: peeled fully-peeled sorted "]
    for name, oid in sorted(held.items()):
        lines.append(f"{oid.hex()} {name}")
        if name.startswith("refs/tags/"):
            lines.append(f"^{C.hex()}")
    (git_dir / "packed-refs").write_text("\n".join(lines) + "\n")


def leftovers(git_dir: Path) -> list[str]:
    """List locks and prepared files."""
    return [str(path) for path in [*git_dir.rglob("*.lock"), *(git_dir / "avfs" / "reftxn").glob("*")]]


# --- reading -------------------------------------------------------------------------------------------------


def test_loose_refs_win_over_packed_ones(git_dir: Path, refs: RefStore) -> None:
    """A ref is its own file, else its line in `packed-refs`, else nothing."""
    pack(git_dir, {MAIN: A, "refs/heads/packed": A, "refs/tags/v1": B})
    move(refs, MAIN, A, B)

    assert refs.read(MAIN) == B
    assert refs.read("refs/heads/packed") == A
    assert refs.read("refs/heads/none") is None
    assert refs.read("refs/heads/main/none") is None
    assert refs.list("refs/heads/") == {MAIN: B, "refs/heads/packed": A}
    assert refs.list() == {MAIN: B, "refs/heads/packed": A, "refs/tags/v1": B}


def test_a_prefix_may_end_within_a_name(refs: RefStore) -> None:
    """Listing is by the start of the whole name; directories that cannot match are not looked at."""
    for name in ("refs/heads/ab", "refs/heads/ac/d", "refs/heads/b", "refs/avfs/x"):
        move(refs, name, None, A)

    assert set(refs.list("refs/heads/a")) == {"refs/heads/ab", "refs/heads/ac/d"}
    assert set(refs.list("refs/heads/ac/")) == {"refs/heads/ac/d"}
    assert refs.list("refs/none/") == {}
    with pytest.raises(InvalidName):
        refs.list("../")


def test_packed_refs_are_read_again_when_they_change(git_dir: Path, refs: RefStore) -> None:
    """Another program's `git pack-refs` is seen at the next reading, also within one tick of the clock."""
    for oid in (A, B, C, A):
        pack(git_dir, {MAIN: oid})

        assert refs.read(MAIN) == oid
    (git_dir / "packed-refs").unlink()
    assert refs.read(MAIN) is None


def test_symbolic_refs_are_followed_inside(git_dir: Path, refs: RefStore) -> None:
    """A symbolic ref reads as what it names, and never leads out of `refs/` or in a circle."""
    move(refs, MAIN, None, A)
    remote = git_dir / "refs" / "remotes" / "origin"
    remote.mkdir(parents=True)
    (remote / "HEAD").write_text(f"ref: {MAIN}\n")
    (remote / "loop").write_text("ref: refs/remotes/origin/loop\n")
    (remote / "out").write_text("ref: ../../config\n")

    assert refs.read("refs/remotes/origin/HEAD") == A
    with pytest.raises(RefDamaged):
        refs.read("refs/remotes/origin/loop")
    with pytest.raises(RefDamaged):
        refs.read("refs/remotes/origin/out")
    assert set(refs.list()) == {MAIN, "refs/remotes/origin/HEAD"}
    with pytest.raises(RefConflict):
        move(refs, "refs/remotes/origin/HEAD", A, B)


@pytest.mark.parametrize("content", [b"", b"\0" * 41, b"garbage\n", b"a" * 39 + b"\n", b"A" * 40 + b"\n"])
def test_a_damaged_ref_is_reported_and_can_be_listed(git_dir: Path, refs: RefStore, content: bytes) -> None:
    """A file without an id is damage, not absence: it is named, never passed over, never overwritten by mistake."""
    (git_dir / MAIN).write_bytes(content)

    with pytest.raises(RefDamaged):
        refs.read(MAIN)
    with pytest.raises(RefDamaged):
        move(refs, MAIN, None, A)
    assert refs.list() == {}
    assert [error.ref for error in refs.find_damaged(lambda _: True)] == [MAIN]
    assert leftovers(git_dir) == []


def test_a_ref_that_is_a_link_is_not_followed(git_dir: Path, refs: RefStore, tmp_path: Path) -> None:
    """A symbolic link in the place of a ref leads nowhere."""
    (tmp_path / "secret").write_text(f"{A.hex()}\n")
    (git_dir / MAIN).symlink_to(tmp_path / "secret")

    with pytest.raises(RefDamaged):
        refs.read(MAIN)
    assert [error.ref for error in refs.find_damaged(lambda _: True)] == [MAIN]


def test_head_names_a_branch(git_dir: Path, refs: RefStore) -> None:
    """HEAD says which branch is the default, whether it exists or not; a detached one names none."""
    assert refs.head() == MAIN
    refs.set_head("refs/heads/other/one")
    assert refs.head() == "refs/heads/other/one"
    (git_dir / "HEAD").write_text(f"{A.hex()}\n")
    assert refs.head() is None
    assert leftovers(git_dir) == []
    for name in ("refs/tags/v1", "refs/heads/../x", "HEAD"):
        with pytest.raises(InvalidName):
            refs.set_head(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "HEAD",
        "main",
        "refs/",
        "refs/heads",
        "refs/heads/",
        "refs//x",
        "refs/heads//x",
        "/refs/heads/x",
        "refs/heads/../x",
        "refs/heads/..",
        "refs/heads/.x",
        "refs/heads/x.lock",
        "refs/heads/x.lock/y",
        "refs/heads/x.",
        "refs/heads/x/",
        "refs/heads/a b",
        "refs/heads/a\n",
        "refs/heads/a\0",
        "refs/heads/a~1",
        "refs/heads/a^",
        "refs/heads/a:b",
        "refs/heads/a?",
        "refs/heads/a*",
        "refs/heads/a[",
        "refs/heads/a\\b",
        "refs/heads/@{-1}",
        "refs/heads/a..b",
        "refs/heads/\ud800",
        "refs/heads/" + "n" * 300,
    ],
)
def test_names_that_git_does_not_allow_are_refused(refs: RefStore, name: str) -> None:
    """No name that git refuses, or that leads elsewhere, is read or written."""
    with pytest.raises(InvalidName):
        refs.read(name)
    with pytest.raises(InvalidName):
        move(refs, name, None, A)


@pytest.mark.parametrize(
    "name", ["refs/heads/$(id)", "refs/heads/-x", "refs/heads/ü/鈴木", "refs/heads/a.b@c", "refs/avfs/x/y/z"]
)
def test_odd_names_that_git_allows_are_literal(refs: RefStore, name: str) -> None:
    """What git allows is stored as it is."""
    assert check_ref_name(name) == name
    move(refs, name, None, A)
    assert refs.list() == {name: A}


# --- moving --------------------------------------------------------------------------------------------------


def test_a_ref_moves_only_from_where_it_is_believed_to_be(git_dir: Path, refs: RefStore) -> None:
    """Creation, move and removal each name what they expect, and fail without a trace if it is otherwise."""
    move(refs, MAIN, None, A)
    for old in (None, B):
        for new in (B, None):
            if (old, new) != (None, None):
                with pytest.raises(RefConflict) as raised:
                    move(refs, MAIN, old, new)
                assert raised.value.details["actual"] == A.hex()
    with pytest.raises(RefConflict):
        move(refs, "refs/heads/none", A, B)

    assert refs.list() == {MAIN: A}
    move(refs, MAIN, A, B)
    move(refs, MAIN, B, B)
    assert refs.read(MAIN) == B
    move(refs, MAIN, B, None)
    assert refs.read(MAIN) is None
    move(refs, MAIN, None, None)
    assert leftovers(git_dir) == []


@pytest.mark.parametrize("held", [None, A, B])
@pytest.mark.parametrize("packed", [False, True])
def test_a_ref_moves_forced(git_dir: Path, refs: RefStore, held: Oid | None, packed: bool) -> None:
    """Such a change needs no expectation, and what the others of its update expect is checked all the same."""
    if held is not None and packed:
        pack(git_dir, {MAIN: held})
    elif held is not None:
        move(refs, MAIN, None, held)
    change = RefChange(MAIN, None, B, lasting=True, forced=True)
    with pytest.raises(RefConflict):
        refs.update([change, RefChange("refs/heads/none", A, B)])
    assert refs.read(MAIN) == held

    refs.update([change])
    assert refs.read(MAIN) == B
    with pytest.raises(RefConflict):
        refs.update([RefChange(f"{MAIN}/below", None, B, forced=True)])
    assert leftovers(git_dir) == []


def test_a_ref_that_others_make_and_drop_can_be_held(refs: RefStore, git_dir: Path) -> None:
    """Three that hold one commit and one that drops it again and again do not meet a conflict."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def hold() -> None:
        own = RefStore(git_dir)
        try:
            for _ in range(40):
                own.update([RefChange(MAIN, None, A, lasting=True, forced=True)])
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    def drop() -> None:
        while not stop.is_set():
            with suppress(RefConflict):
                refs.update([RefChange(MAIN, A, None)])

    holders = [threading.Thread(target=hold) for _ in range(3)]
    dropper = threading.Thread(target=drop)
    for thread in [*holders, dropper]:
        thread.start()
    for thread in holders:
        thread.join()
    stop.set()
    dropper.join()

    assert errors == []


def test_several_refs_move_all_or_none(git_dir: Path, refs: RefStore) -> None:
    """One conflict among several changes keeps all of them from happening."""
    names = [f"refs/heads/{letter}" for letter in "abc"]
    refs.update([RefChange(name, None, A) for name in names])
    with pytest.raises(RefConflict):
        refs.update([RefChange(names[0], A, B), RefChange(names[1], A, None), RefChange(names[2], C, B)])
    assert refs.list() == dict.fromkeys(names, A)

    refs.update([RefChange(names[2], A, B), RefChange(names[1], A, None), RefChange("refs/avfs/new/x", None, C)])
    assert refs.list() == {names[0]: A, names[2]: B, "refs/avfs/new/x": C}
    refs.update([])
    with pytest.raises(InternalError):
        refs.update([RefChange(MAIN, None, A), RefChange(MAIN, A, B)])
    assert leftovers(git_dir) == []


def test_changes_happen_in_the_order_given(refs: RefStore) -> None:
    """Between two moves the first is done and the second not, whatever the names are."""
    first, second = "refs/heads/z", "refs/heads/a"
    seen: dict[str, dict[str, Oid]] = {}
    faults.arm(lambda point: seen.update({point: refs.list()}))
    refs.update([RefChange(first, None, A), RefChange(second, None, A)], announce=lambda: faults.reach("announced"))
    faults.arm(None)

    assert seen["announced"] == {}
    assert seen["refs.moved_one"] == {first: A}
    assert seen["refs.moved"] == {first: A, second: A}


def test_refs_that_move_to_one_value_are_files_of_their_own(git_dir: Path, refs: RefStore) -> None:
    """What damages the file of a branch leaves the ref that keeps its commit whole."""
    branch, known = "refs/heads/a", "refs/avfs/known/a"
    refs.update([RefChange(branch, None, A), RefChange(known, None, A)])
    (git_dir / branch).write_bytes(b"")
    assert (git_dir / known).read_bytes() == A.hex().encode() + b"\n"


def test_what_the_announcement_raises_stops_everything(git_dir: Path, refs: RefStore) -> None:
    """A move that cannot be announced does not happen."""

    def announce() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(HostError):
        refs.update([RefChange(MAIN, None, A)], announce=announce)

    assert refs.list() == {}
    assert leftovers(git_dir) == []


# where a generator is closed, Python tells of it and goes on
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_step_leaves_all_refs_or_none_moved_and_says_which(tmp_path: Path, git_dir: Path) -> None:
    """An announcement is withdrawn if none has moved: what a signal raises later is no failure of the move."""
    branch, known, gone = MAIN, "refs/avfs/known/main", "refs/heads/gone"
    pack(git_dir, {branch: A, gone: A})
    before, after = {branch: A, gone: A}, {known: B, branch: B}
    done: set[tuple[bool, bool]] = set()
    for step in count(1):
        shutil.copytree(git_dir, tmp_path / str(step))
        refs, told, interrupt = RefStore(tmp_path / str(step)), list[str](), Interrupt(step)
        changes = [RefChange(known, None, B), RefChange(branch, A, B), RefChange(gone, A, None)]
        announce, withdraw = partial(told.append, "announced"), partial(told.append, "withdrawn")
        with suppress(KeyboardInterrupt), interrupt:
            refs.update(changes, announce=announce, withdraw=withdraw)
        if interrupt.has_come:
            done.add(("announced" in told, refs.list() == after))
        found = refs.list()
        assert found in (before, after), step
        assert (told == ["announced", "withdrawn"]) == ("announced" in told and found == before), step
        if not interrupt.has_come:
            break

    assert done == {(False, False), (True, False), (True, True)}


def test_removal_takes_the_packed_value_too(git_dir: Path, refs: RefStore) -> None:
    """A removed ref does not come back with an old value, others and peeled tags stay."""
    pack(git_dir, {MAIN: A, "refs/heads/x": A, "refs/tags/v1": B, "refs/tags/v2": B})
    move(refs, MAIN, A, B)
    refs.update([RefChange(MAIN, B, None), RefChange("refs/tags/v1", B, None)])

    assert refs.list() == {"refs/heads/x": A, "refs/tags/v2": B}
    assert (git_dir / "packed-refs").read_text().splitlines()[1:] == [
        f"{A.hex()} refs/heads/x",
        f"{B.hex()} refs/tags/v2",
        f"^{C.hex()}",
    ]
    assert leftovers(git_dir) == []


@pytest.mark.parametrize("packed", [False, True])
def test_a_name_may_not_stand_in_the_way_of_another(git_dir: Path, refs: RefStore, packed: bool) -> None:
    """A ref and a directory of refs cannot have one name, wherever the other is stored."""
    if packed:
        pack(git_dir, {"refs/heads/a": A, "refs/heads/b/c": A})
    else:
        refs.update([RefChange("refs/heads/a", None, A), RefChange("refs/heads/b/c", None, A)])
    for name in ("refs/heads/a/x", "refs/heads/a/x/y", "refs/heads/b"):
        with pytest.raises(RefConflict):
            move(refs, name, None, B)

    assert refs.list() == {"refs/heads/a": A, "refs/heads/b/c": A}
    assert leftovers(git_dir) == []


def test_empty_directories_make_room(git_dir: Path, refs: RefStore) -> None:
    """A directory that holds no ref is no obstacle; removing the last ref of a directory removes it."""
    (git_dir / "refs/heads/a/b/c").mkdir(parents=True)
    move(refs, "refs/heads/a", None, A)
    move(refs, "refs/heads/a", A, None)
    move(refs, "refs/heads/a/b/c", None, A)
    move(refs, "refs/heads/a/b/c", A, None)
    pack(git_dir, {"refs/heads/x": A})
    (git_dir / "refs/heads/x/y").mkdir(parents=True)
    move(refs, "refs/heads/x", A, None)
    (git_dir / "refs/heads/x/y").rmdir()
    (git_dir / "refs/heads/x").rmdir()

    assert os.listdir(git_dir / "refs/heads") == []


def test_the_log_of_a_removed_ref_goes_with_it(git_dir: Path, refs: RefStore) -> None:
    """A log that git kept does not keep git from making a ref below that name."""
    move(refs, MAIN, None, A)
    (git_dir / "logs/refs/heads").mkdir(parents=True)
    (git_dir / "logs" / MAIN).write_text("log\n")
    move(refs, MAIN, A, None)

    assert not (git_dir / "logs" / MAIN).exists()


def test_more_refs_can_go_than_files_can_be_open(git_dir: Path, refs: RefStore) -> None:
    """A fork with thousands of labels is removed at once."""
    names = [f"refs/avfs/checkpoints/f/{number}" for number in range(2_000)]
    pack(git_dir, dict.fromkeys(names, A))
    refs.update([RefChange(name, A, None) for name in names])

    assert refs.list() == {}
    assert leftovers(git_dir) == []


# --- locks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait shortly for locks."""
    monkeypatch.setattr(module, "_LOCK_WAIT_S", 0.05)


def test_a_lock_of_git_is_respected(git_dir: Path, refs: RefStore, impatient: None) -> None:
    """A lock that another program took is waited for, then reported, never removed."""
    lock = git_dir / f"{MAIN}.lock"
    lock.touch()
    with pytest.raises(RefLocked) as raised:
        move(refs, MAIN, None, A)

    assert raised.value.details == {"ref": MAIN, "lock": str(lock)}
    assert lock.exists()
    assert refs.recover() == 0
    lock.unlink()
    assert leftovers(git_dir) == []


def test_a_lock_that_goes_away_is_waited_for(git_dir: Path, refs: RefStore) -> None:
    """An update goes on as soon as the other program is done."""
    lock = git_dir / f"{MAIN}.lock"
    lock.touch()
    timer = threading.Timer(0.05, lock.unlink)
    timer.start()
    move(refs, MAIN, None, A)
    timer.join()

    assert refs.read(MAIN) == A


def leave_lock(git_dir: Path, name: str, *, held: bool) -> int:
    """Make a lock as an update does, and leave it as a process that is killed would, or keep it."""
    transactions = git_dir / "avfs" / "reftxn"
    transactions.mkdir(parents=True, exist_ok=True)
    prepared = transactions / f"left-{len(os.listdir(transactions))}"
    fd = os.open(prepared, os.O_RDWR | os.O_CREAT)
    if held:
        fcntl.flock(fd, fcntl.LOCK_EX)
    lock = git_dir / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    os.link(prepared, lock)
    return fd


@pytest.mark.parametrize("name", [MAIN, "refs/heads/a/b", "HEAD", "packed-refs"])
def test_the_lock_of_a_dead_process_is_removed_when_met(git_dir: Path, name: str) -> None:
    """A lock of ours whose owner was killed stops nobody, whatever it locks."""
    pack(git_dir, {"refs/heads/packed": A})
    refs = RefStore(git_dir)
    os.close(leave_lock(git_dir, name, held=False))
    match name:
        case "HEAD":
            refs.set_head("refs/heads/x")
        case "packed-refs":
            move(refs, "refs/heads/packed", A, None)
        case _:
            move(refs, name, None, A)

    assert leftovers(git_dir) == []


def test_the_lock_of_a_living_process_is_not(git_dir: Path, refs: RefStore, impatient: None) -> None:
    """While its owner lives, a lock holds."""
    fd = leave_lock(git_dir, MAIN, held=True)
    with pytest.raises(RefLocked):
        move(refs, MAIN, None, A)
    assert refs.recover() == 0
    os.close(fd)
    move(refs, MAIN, None, A)

    assert leftovers(git_dir) == []


def test_opening_the_refs_removes_the_locks_of_dead_processes(git_dir: Path) -> None:
    """After a crash the first use of a vault frees it for git, too; what lives is left alone."""
    for name in (MAIN, "refs/avfs/x/y", "HEAD", "packed-refs"):
        os.close(leave_lock(git_dir, name, held=False))
    living = leave_lock(git_dir, "refs/heads/living", held=True)
    (git_dir / "avfs" / "reftxn" / "never-linked").touch()
    RefStore(git_dir, recover=False)
    assert len(leftovers(git_dir)) == 11
    RefStore(git_dir)

    assert len(leftovers(git_dir)) == 2
    os.close(living)
    assert RefStore(git_dir).recover() == 0
    assert leftovers(git_dir) == []


def test_removals_that_died_together_are_freed_one_by_one(git_dir: Path, refs: RefStore) -> None:
    """A prepared file that is several locks says whose they are until the last of them is gone."""
    refs.update([RefChange(f"refs/heads/{letter}", None, A) for letter in "ab"])
    fd = leave_lock(git_dir, "refs/heads/a", held=False)
    os.link(git_dir / "refs/heads/a.lock", git_dir / "refs/heads/b.lock")
    os.close(fd)
    move(refs, "refs/heads/a", A, B)
    move(refs, "refs/heads/b", A, B)

    assert leftovers(git_dir) == []


def test_threads_lose_no_update(git_dir: Path) -> None:
    """Threads that count up through one ref reach the sum of what each did."""
    refs = RefStore(git_dir)
    move(refs, MAIN, None, Oid((0).to_bytes(20, "big")))

    def count() -> None:
        done = 0
        while done < 25:
            held = refs.read(MAIN)
            assert held is not None
            try:
                move(refs, MAIN, held, Oid((int.from_bytes(held, "big") + 1).to_bytes(20, "big")))
            except RefConflict:
                continue
            done += 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refs.read(MAIN) == (100).to_bytes(20, "big")
    assert leftovers(git_dir) == []


def _changes() -> list[RefChange]:
    return [
        RefChange("refs/avfs/keep/x", None, A, lasting=True),
        RefChange(MAIN, A, B),
        RefChange("refs/heads/gone", A, None),
        RefChange("refs/heads/new", None, C),
    ]


def _held(refs: RefStore) -> list[Oid | None]:
    return [refs.read(name) for name in (MAIN, "refs/heads/gone", "refs/heads/new")]


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("packed", [False, True])
def test_a_failure_at_any_step_leaves_the_old_values(git_dir: Path, packed: bool, number: int) -> None:
    """When the disk refuses at a step, all refs hold their old values, and nothing stays locked."""
    refs = RefStore(git_dir)
    move(refs, MAIN, None, A)
    if packed:
        pack(git_dir, {"refs/heads/gone": A})
    else:
        move(refs, "refs/heads/gone", None, A)
    point = FailAt(number, lambda: OSError(errno.EIO, "Input/output error"))
    faults.arm(point)
    if number > (8 if packed else 6):
        refs.update(_changes())
    else:
        with pytest.raises(HostError) as raised:
            refs.update(_changes())
        assert raised.value.code == "host.failed"
    faults.arm(None)

    assert _held(refs) == ([A, A, None] if len(point.seen) >= number else [B, None, C])
    assert leftovers(git_dir) == []


def test_what_cannot_be_taken_back_is_told(git_dir: Path) -> None:
    """When the disk refuses from some step on, the error says which refs hold the new value; nothing stays locked."""
    refs = RefStore(git_dir)
    move(refs, MAIN, None, A)
    move(refs, "refs/heads/gone", None, A)
    faults.arm(FailAt(4, lambda: OSError(errno.ENOSPC, "No space left on device"), stay=True))
    with pytest.raises(LeftInForce) as raised:
        refs.update(_changes())
    faults.arm(None)

    assert raised.value.details == {"errno": errno.ENOSPC, "in_force": "new", "refs": {MAIN: B.hex()}}
    assert raised.value.errno == errno.ENOSPC
    assert "No space left on device" in raised.value.message
    assert _held(refs) == [B, A, None]
    assert leftovers(git_dir) == []


def test_what_somebody_else_moved_meanwhile_is_not_taken_back(git_dir: Path) -> None:
    """Taking back compares and swaps, too: a value that another program built on is left alone."""
    refs = RefStore(git_dir)
    move(refs, MAIN, None, A)

    def overtake(point: str) -> None:
        if point == "refs.moved":
            faults.arm(None)
            move(RefStore(git_dir), MAIN, B, C)
            raise OSError(errno.EIO, "Input/output error")

    faults.arm(overtake)
    with pytest.raises(LeftInForce):
        refs.update([RefChange(MAIN, A, B)])

    assert refs.read(MAIN) == C
    assert leftovers(git_dir) == []
