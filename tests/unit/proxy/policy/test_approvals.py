"""Approvals: bound to one request, used once, in time."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import ApprovalNotFound, ApprovalRefused, HostError
from avfs_git.host.files.seal import Seal
from avfs_git.proxy.policy import approvals as module
from avfs_git.proxy.policy.approvals import Approvals, ApprovalState
from avfs_git.proxy.policy.decision import Request
from avfs_git.proxy.policy.policy import Policy, decide
from avfs_git.values import replace
from tests.support.failing import FailAt

REQUEST = Request(
    "/v", "f", argv=("curl", "x"), cwd="/src", env=(("A", "secret-value"),), options=(("readonly", "no"),)
)


class Clock:
    """A time that stands still until it is moved."""

    now = 10**18

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time."""
    return Clock()


@pytest.fixture
def approvals(tmp_path: Path, clock: Clock) -> Approvals:
    """Those of a vault that has none."""
    return Approvals(tmp_path, Seal(tmp_path / "key"), clock=clock)


def ask(approvals: Approvals, request: Request = REQUEST) -> str:
    """Ask for approval, and give the token."""
    return approvals.ask(request, decide(request, Policy()), is_secret=lambda name: name == "A")[1]


def id_of(token: str) -> str:
    """Give the part of a token that people see."""
    return token.partition(".")[0]


def test_a_granted_request_runs_once(approvals: Approvals, tmp_path: Path) -> None:
    """Not before it is granted, and not again; all of it survives the process."""
    token = ask(approvals)

    with pytest.raises(ApprovalRefused, match="nobody has granted"):
        approvals.use(token, REQUEST)
    approvals.grant(id_of(token))
    approvals = Approvals(tmp_path, Seal(tmp_path / "key"), clock=approvals._clock)
    assert approvals.use(token, REQUEST).state is ApprovalState.USED
    with pytest.raises(ApprovalRefused, match="used already"):
        Approvals(tmp_path, Seal(tmp_path / "key"), clock=approvals._clock).use(token, REQUEST)


@pytest.mark.parametrize(
    "other",
    [
        {"argv": ("curl", "y")},
        {"argv": ("curl", "x", "")},
        {"argv": ("curl x",)},
        {"argv": None, "shell": "curl x"},
        {"cwd": "/"},
        {"env": ()},
        {"env": (("A", "another"),)},
        {"env": (("A", "secret-value"), ("B", ""))},
        {"options": (("readonly", "yes"),)},
        {"options": ()},
        {"has_stdin": True},
        {"stdin_sha256": "1"},
        {"mountpoint": "/elsewhere"},
        {"fork": "g"},
        {"vault": "/w"},
    ],
    ids=str,
)
def test_a_token_is_for_one_request(approvals: Approvals, other: dict[str, object]) -> None:
    """Any difference, and it counts for nothing; it is not used up by trying."""
    token = ask(approvals)
    approvals.grant(id_of(token))

    with pytest.raises(ApprovalRefused, match="another command"):
        approvals.use(token, replace(REQUEST, **other))
    assert approvals.use(token, REQUEST).state is ApprovalState.USED


def test_a_record_that_was_edited_lets_nothing_in(approvals: Approvals, tmp_path: Path) -> None:
    """Neither `sed` from pending to granted, nor another text for a person to read, nor the record of another vault."""
    token = ask(approvals)
    path = tmp_path / "approvals" / f"{id_of(token)}.json"
    pending = path.read_bytes()
    path.write_bytes(pending.replace(b'"state": "pending"', b'"state": "granted"'))
    with pytest.raises(ApprovalRefused, match="something else than avfs"):
        approvals.use(token, REQUEST)
    path.write_bytes(pending.replace(b"curl x", b"ls"))
    with pytest.raises(ApprovalRefused, match="something else than avfs"):
        approvals.grant(id_of(token))
    assert approvals.entries() == []

    path.write_bytes(pending)
    approvals.grant(id_of(token))
    other = tmp_path / "other" / "approvals"
    other.mkdir(parents=True)
    (other / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ApprovalRefused, match="something else than avfs"):
        Approvals(tmp_path / "other", Seal(tmp_path / "key"), clock=approvals._clock).use(token, REQUEST)
    (tmp_path / "key").unlink()
    with pytest.raises(ApprovalRefused, match="something else than avfs"):
        approvals.use(token, REQUEST)


def test_the_key_is_its_users(approvals: Approvals, tmp_path: Path) -> None:
    """It is made readable for nobody else; one that others can read, or a link, seals nothing."""
    token = ask(approvals)
    key = tmp_path / "key"

    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o640)
    with pytest.raises(ApprovalRefused):
        approvals.grant(id_of(token))
    with pytest.raises(HostError):
        ask(approvals)
    key.rename(tmp_path / "real")
    (tmp_path / "real").chmod(0o600)
    key.symlink_to(tmp_path / "real")
    with pytest.raises(HostError):
        ask(approvals)


def test_a_person_sees_all_of_it(approvals: Approvals) -> None:
    """However long the command is; values of variables, too, unless they look like secrets."""
    text = f"curl {'x' * 100_000}; rm -rf /"
    request = replace(
        REQUEST, argv=None, shell=text, env=(("A", "secret-value"), ("B", "b c")), stdin_sha256="12", mountpoint="/m"
    )
    asked, _ = approvals.ask(request, decide(REQUEST, Policy()), is_secret=lambda name: name == "A")
    shown = approvals.get(asked.id)

    assert (shown.command, shown.env) == (text, ("A=***", "B=b c"))
    assert (shown.cwd, shown.options, shown.stdin_sha256, shown.mountpoint) == ("/src", ("readonly=no",), "12", "/m")


def test_tokens_that_are_made_up(approvals: Approvals) -> None:
    """The id alone, another secret, another vault's token, paths: none lets anything in."""
    token = ask(approvals)
    approvals.grant(id_of(token))

    for made_up in (
        "",
        ".",
        id_of(token),
        f"{id_of(token)}.",
        token[:-1] + ("0" if token[-1] != "0" else "1"),
        "0" * 12 + ".x",
        "../x",
        "a/b.c",
    ):
        with pytest.raises(ApprovalRefused):
            approvals.use(made_up, REQUEST)
    assert approvals.use(token, REQUEST).state is ApprovalState.USED


def test_nothing_secret_is_on_the_disk(approvals: Approvals, tmp_path: Path) -> None:
    """Neither the token's secret nor values of variables."""
    token = ask(approvals)
    held = b"".join(path.read_bytes() for path in (tmp_path / "approvals").iterdir())

    assert token.partition(".")[2].encode() not in held
    assert b"secret-value" not in held
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "approvals").iterdir())


def test_approvals_expire(approvals: Approvals, clock: Clock) -> None:
    """A request that nobody grants, and a grant that nobody uses."""
    old = ask(approvals)
    clock.now += module.WAITS_NS
    with pytest.raises(ApprovalRefused, match="expired"):
        approvals.grant(id_of(old))
    token = ask(approvals)
    approvals.grant(id_of(token))
    clock.now += module.COUNTS_NS - 1
    assert [found.state for found in approvals.entries()] == [ApprovalState.GRANTED]
    clock.now += 1
    with pytest.raises(ApprovalRefused, match="expired"):
        approvals.use(token, REQUEST)
    assert approvals.entries() == []
    assert {found.state for found in approvals.entries(every=True)} == {ApprovalState.EXPIRED}
    clock.now += module.KEPT_NS + module.WAITS_NS
    fresh = ask(approvals)
    assert [found.id for found in approvals.entries(every=True)] == [id_of(fresh)]


def test_the_call_that_used_a_grant_may_use_it_again_for_a_moment(approvals: Approvals, clock: Clock) -> None:
    """Another call may not, and nor may one without a name."""
    asked = id_of(ask(approvals))
    approvals.grant(asked)
    assert approvals.use_granted(asked, call="s 1").used_by == "s 1"

    again = approvals.find(REQUEST, call="s 1")
    assert again is not None
    assert approvals.use_granted(again.id, call="s 1") == again
    for call in ("s 2", None):
        assert approvals.find(REQUEST, call=call) is None
        with pytest.raises(ApprovalRefused):
            approvals.use_granted(asked, call=call)
    clock.now += module.SAME_CALL_NS
    assert approvals.find(REQUEST, call="s 1") is None
    with pytest.raises(ApprovalRefused):
        approvals.use_granted(asked, call="s 1")


def test_a_denial_is_final(approvals: Approvals) -> None:
    """Also of what was granted, as long as it was not used."""
    token = ask(approvals)
    approvals.grant(id_of(token))
    approvals.deny(id_of(token))

    with pytest.raises(ApprovalRefused, match="denied"):
        approvals.use(token, REQUEST)
    with pytest.raises(ApprovalRefused, match="denied"):
        approvals.grant(id_of(token))
    with pytest.raises(ApprovalRefused, match="denied"):
        approvals.deny(id_of(token))
    with pytest.raises(ApprovalNotFound):
        approvals.grant("0" * 12)
    with pytest.raises(ApprovalNotFound):
        approvals.grant("../lock")


@pytest.mark.slow
def test_asking_again_replaces(approvals: Approvals) -> None:
    """An agent in a loop does not fill the list, nor the disk."""
    tokens = [ask(approvals) for _ in range(5)]
    assert [found.id for found in approvals.entries()] == [id_of(tokens[-1])]
    for number in range(module.MAX_PENDING + 5):
        ask(approvals, replace(REQUEST, cwd=f"/{number}"))
    assert len(approvals.entries()) == module.MAX_PENDING


def test_of_two_at_once_one_wins(approvals: Approvals) -> None:
    """Twenty threads with one token: one run."""
    token = ask(approvals)
    approvals.grant(id_of(token))

    def use(_: int) -> bool:
        try:
            approvals.use(token, REQUEST)
        except ApprovalRefused:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(use, range(20))) == 1


_USER = """
import sys
from pathlib import Path
from avfs_git.errors import ApprovalRefused
from avfs_git.host.files.seal import Seal
from avfs_git.proxy.policy.approvals import Approvals
from avfs_git.proxy.policy.decision import Request
from avfs_git.values import replace
sys.stdin.readline()
try:
    Approvals(Path(sys.argv[1]), Seal(Path(sys.argv[1]) / "key")).use(sys.argv[2], Request("/v", "f", argv=("curl", "x")))
    print("won")
except ApprovalRefused:
    print("lost")
"""


def test_of_two_processes_at_once_one_wins(tmp_path: Path) -> None:
    """The same with processes."""
    approvals = Approvals(tmp_path, Seal(tmp_path / "key"))
    token = ask(approvals, Request("/v", "f", argv=("curl", "x")))
    approvals.grant(id_of(token))
    users = [
        subprocess.Popen(
            [sys.executable, "-c", _USER, str(tmp_path), token],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for user in users:
        assert user.stdin is not None
        user.stdin.write("\n")
        user.stdin.flush()

    said = [user.communicate(timeout=60)[0].strip() for user in users]

    assert sorted(said) == ["lost", "lost", "lost", "won"]


@pytest.mark.parametrize("number", range(1, 5))
def test_a_disk_that_fails_uses_nothing_twice(approvals: Approvals, number: int) -> None:
    """Whatever fails, the token is used or not, and never lets two in."""
    token = ask(approvals)
    approvals.grant(id_of(token))
    failed = False
    faults.arm(FailAt(number, lambda: OSError(28, "full")))
    try:
        approvals.use(token, REQUEST)
    except (HostError, OSError):
        failed = True
    faults.arm(None)

    again: Callable[[], object] = lambda: approvals.use(token, REQUEST)  # noqa: E731 - said twice below
    if failed and approvals.get(id_of(token)).state is ApprovalState.GRANTED:
        again()
    with pytest.raises(ApprovalRefused):
        again()


def test_a_damaged_record_lets_nothing_in(approvals: Approvals, tmp_path: Path) -> None:
    """It is as if it were not there."""
    token = ask(approvals)
    approvals.grant(id_of(token))
    path = tmp_path / "approvals" / f"{id_of(token)}.json"
    whole = path.read_bytes()

    for damaged in (
        b"",
        b"{}",
        b"[]",
        whole[:-20],
        whole.replace(b'"granted"', b'"godlike"'),
        whole.replace(b'"version": 2', b'"version": 3'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ApprovalRefused, match=r"unknown|something else than avfs"):
            approvals.use(token, REQUEST)
        assert approvals.entries(every=True) == []
