"""Approvals: a person's yes or no to one exact command, once.

Decided here: how an approval is kept (`avfs/approvals/ID.json`), what a token is, when it counts. A token is
`ID.SECRET`; the file holds only the hash of the secret, so that reading the file gives no token. It is bound to the
request's fingerprint, which names the vault, the fork, the command, its directory, its environment, what it reads and
its options.

The record holds all that a person has to see before a yes: the whole command, and the values of variables, save those
whose names look like secrets. Each record is sealed (`host.files.seal`), as commands may be able to write the file; one
whose seal is broken is refused. An old record that is put back has a whole seal: `gate` finds its use in the audit log.

Every change is made under one lock and forced to disk before it counts: of two that use one token at once, one gets it,
and a used token stays used after a crash. Records that are over are removed after a week; the audit log keeps what
happened. `gate` asks and uses, and grants and denies for people; any thread and process may.

What this protects, and against whom, is said in docs/guides/policy.md: a program that runs as the same user, and is not
isolated, can write these files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Literal

from avfs_git.errors import ApprovalNotFound, ApprovalRefused
from avfs_git.faults import reach
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.files.modes import make_dir, make_private_dirs, open_file
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.files.seal import Seal
from avfs_git.host.locks.flocks import held
from avfs_git.proxy.policy.decision import Category, Decision, Request
from avfs_git.proxy.policy.redaction import HIDDEN
from avfs_git.values import replace, value_class

WAITS_NS = 24 * 3600 * 10**9
"""So long a person can still grant a request."""
COUNTS_NS = 3600 * 10**9
"""So long a granted approval can be used."""
SAME_CALL_NS = 30 * 10**9
"""How long the call of a tool that used an approval is let in again.

A harness may run several hooks of avfs for one call, and ends each after 30 s.
"""
KEPT_NS = 7 * 24 * 3600 * 10**9
"""So long a record is kept after it is over."""
MAX_PENDING = 100
"""So many requests wait at most; the oldest gives way, so that an agent in a loop does not fill the disk."""
MAX_TEXT = 1 << 17
"""Longer commands get no approval, in characters: no person can read them.

It is also the kernel's limit for one argument.
"""

_VERSION = 2
_ID = re.compile(r"[0-9a-f]{12}")


class ApprovalState(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    GRANTED = "granted"
    DENIED = "denied"
    USED = "used"
    EXPIRED = "expired"


@value_class
class Approval:
    """A request that waits, or waited, for a person."""

    id: str
    state: ApprovalState
    fork: str
    command: str
    """All of it, as one line a person can read, or the text for a shell. A secret that stands in it is not hidden."""
    command_mode: Literal["argv", "shell"]
    cwd: str
    env: tuple[str, ...]
    """`NAME=value` each; of a name that looks like a secret, the value is `***`."""
    options: tuple[str, ...]
    """`name=value` each: what differs from the defaults."""
    mountpoint: str | None
    """Where the command sees the workspace."""
    stdin_sha256: str | None
    """The hash of what it reads; null if it reads nothing."""
    categories: tuple[Category, ...]
    reason: str
    fingerprint: str
    created_at_ns: int
    expires_at_ns: int
    decided_at_ns: int | None = None
    used_by: str | None = None
    """The call of a harness's tool that used it, where the harness names its calls."""


class Approvals:
    """The approvals of one vault."""

    def __init__(self, root: Path, seal: Seal, *, clock: Callable[[], int] = time.time_ns) -> None:
        """Use those in a vault's `avfs` directory."""
        self._root = root / "approvals"
        self._seal = seal
        self._clock = clock

    def ask(self, request: Request, decision: Decision, *, is_secret: Callable[[str], bool]) -> tuple[Approval, str]:
        """Record that a request waits for a person. Gives the record and the token, which is kept nowhere.

        An earlier one for the same request that still waits is replaced. The values of variables for which `is_secret`
        is true are not kept.
        """
        secret = os.urandom(16).hex()
        now = self._clock()
        approval = Approval(
            id=os.urandom(6).hex(),
            state=ApprovalState.PENDING,
            fork=request.fork,
            command=request.command(),
            command_mode="argv" if request.shell is None else "shell",
            cwd=request.cwd,
            env=tuple(sorted(f"{name}={HIDDEN if is_secret(name) else value}" for name, value in request.env)),
            options=tuple(sorted(f"{name}={value}" for name, value in request.options)),
            mountpoint=request.mountpoint,
            stdin_sha256=request.stdin_sha256,
            categories=decision.categories,
            reason=decision.reason,
            fingerprint=request.fingerprint(),
            created_at_ns=now,
            expires_at_ns=now + WAITS_NS,
        )
        with self._locked():
            self._make_room(approval.fingerprint, now)
            self._write(approval, _hash(secret))
        return approval, f"{approval.id}.{secret}"

    def find(self, request: Request, *, call: str | None = None) -> Approval | None:
        """Find the granted or pending approval of a request, or that which the same call of a tool has just used.

        The approval that the call has used comes first, then a granted one. None without one.
        """
        wanted, states = request.fingerprint(), (ApprovalState.USED, ApprovalState.GRANTED, ApprovalState.PENDING)
        found = [one for one in self.entries(every=True) if one.fingerprint == wanted and one.state in states]
        mine = [one for one in found if one.state is not ApprovalState.USED or self._is_again(one, call)]
        return min(mine, key=lambda one: states.index(one.state), default=None)

    def use_granted(self, id_: str, *, call: str | None = None) -> Approval:
        """Use a granted approval without its token; only the same call of a tool can use it again, for `SAME_CALL_NS`.

        Raises:
            ApprovalNotFound: If no request has the id.
            ApprovalRefused: If it is not granted, or another call used it meanwhile.
        """
        with self._locked():
            approval, hashed = self._read(id_)
            return approval if self._is_again(approval, call) else self._use(approval, hashed, call=call)

    def _is_again(self, approval: Approval, call: str | None) -> bool:
        is_used = approval.state is ApprovalState.USED and self._clock() < approval.expires_at_ns
        return is_used and call is not None and approval.used_by == call

    def use(self, token: str, request: Request) -> Approval:
        """Use a token for a request; it cannot be used again.

        Raises:
            ApprovalRefused: If it does not let this request in.
        """
        id_, _, secret = token.partition(".")
        if not _ID.fullmatch(id_):
            raise ApprovalRefused(
                id_[:40], "it is no token", hint="A token is what a command that needs approval answers with."
            )
        with self._locked():
            try:
                approval, hashed = self._read(id_)
            except ApprovalNotFound:
                raise ApprovalRefused(id_, "it is unknown in this vault") from None
            if hashed != _hash(secret):  # how long this takes tells of the hash only
                raise ApprovalRefused(id_, "the token is not the one that was given out")
            if approval.fingerprint != request.fingerprint():
                raise ApprovalRefused(id_, "it is for another command, directory, environment, fork or set of options")
            return self._use(approval, hashed)

    def _use(self, approval: Approval, hashed: str, *, call: str | None = None) -> Approval:
        if approval.state is not ApprovalState.GRANTED:
            pending = approval.state is ApprovalState.PENDING
            hint = f"A person grants it with `avfs approvals grant {approval.id}`." if pending else None
            raise ApprovalRefused(approval.id, _WHY_NOT[approval.state], hint=hint)
        ends = min(approval.expires_at_ns, self._clock() + SAME_CALL_NS)
        used = replace(approval, state=ApprovalState.USED, used_by=call, expires_at_ns=ends)
        reach("approvals.use")
        self._write(used, hashed)
        return used

    def grant(self, id_: str) -> Approval:
        """Say yes to a request that waits.

        Raises:
            ApprovalNotFound: If no request has the id.
            ApprovalRefused: If it does not wait any more.
        """
        return self._decide(id_, ApprovalState.GRANTED, {ApprovalState.PENDING})

    def deny(self, id_: str) -> Approval:
        """Say no to a request that waits, or take back a yes that was not used.

        Raises:
            ApprovalNotFound: If no request has the id.
            ApprovalRefused: If it is used, expired or denied already.
        """
        return self._decide(id_, ApprovalState.DENIED, {ApprovalState.PENDING, ApprovalState.GRANTED})

    def get(self, id_: str) -> Approval:
        """Look at one.

        Raises:
            ApprovalNotFound: If no request has the id.
        """
        with host_errors(f"read '{self._root}'"):
            return self._read(id_)[0]

    def entries(self, *, every: bool = False) -> list[Approval]:
        """List requests that wait or are granted, the newest first."""
        with host_errors(f"read '{self._root}'"):
            found = [approval for approval, _ in self._read_all()]
        live = (ApprovalState.PENDING, ApprovalState.GRANTED)
        return sorted(
            (approval for approval in found if every or approval.state in live),
            key=lambda approval: (approval.created_at_ns, approval.id),
            reverse=True,
        )

    def _decide(self, id_: str, state: ApprovalState, allowed: set[ApprovalState]) -> Approval:
        with self._locked():
            approval, hashed = self._read(id_)
            if approval.state not in allowed:
                raise ApprovalRefused(id_, _WHY_NOT[approval.state])
            now = self._clock()
            ends = now + COUNTS_NS if state is ApprovalState.GRANTED else approval.expires_at_ns
            decided = replace(approval, state=state, decided_at_ns=now, expires_at_ns=ends)
            self._write(decided, hashed)
            return decided

    def _make_room(self, fingerprint: str, now: int) -> None:
        pending = []
        for approval, _ in self._read_all():
            is_pending = approval.state is ApprovalState.PENDING
            if (is_pending and approval.fingerprint == fingerprint) or approval.expires_at_ns + KEPT_NS < now:
                self._remove(approval)
            elif is_pending:
                pending.append(approval)
        pending.sort(key=lambda approval: approval.created_at_ns)
        for approval in pending[: max(0, len(pending) - MAX_PENDING + 1)]:
            self._remove(approval)

    def _remove(self, approval: Approval) -> None:
        self._place(approval.id).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with host_errors(f"use '{self._root}'"):
            make_private_dirs(self._root.parent)
            make_dir(self._root, exist_ok=True)
            fd = open_file(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW)
            with held(fd):
                yield

    def _place(self, id_: str) -> Path:
        return self._root / f"{id_}.json"

    def _write(self, approval: Approval, hashed: str) -> None:
        held: dict[str, object] = {name: getattr(approval, name) for name in Approval.__match_args__}
        held |= {"version": _VERSION, "secret_sha256": hashed}
        data = json.dumps({**held, "seal": self._seal.sign(self._sealed(held))}, ensure_ascii=True)
        write_file_atomically(self._place(approval.id), data.encode("ascii") + b"\n", mode=0o600)

    def _sealed(self, held: Mapping[str, object]) -> bytes:
        """Spell what a seal is for: the record and the vault that it is in."""
        place = os.path.realpath(self._root)
        return json.dumps(["approval", place, held], sort_keys=True, ensure_ascii=True).encode("ascii")

    def _read_all(self) -> list[tuple[Approval, str]]:
        try:
            names = [path.name.removesuffix(".json") for path in self._root.iterdir()]
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            try:
                found.append(self._read(name))
            except (ApprovalNotFound, ApprovalRefused, PermissionError):
                pass  # another file, removed meanwhile, or written by another program or member
        return found

    def _read(self, id_: str) -> tuple[Approval, str]:
        """Read a record as it is now; a record that cannot be parsed counts as missing."""
        if not _ID.fullmatch(id_):
            raise ApprovalNotFound(id_)
        try:
            found = json.loads(read_plain(self._place(id_)))
            seal = str(found.pop("seal"))
            if found["version"] != _VERSION:
                raise ApprovalNotFound(id_)
            if found["id"] != id_ or not self._seal.holds(self._sealed(found), seal):
                raise ApprovalRefused(
                    id_, "its record was changed by something else than avfs, or sealed in another home"
                )
            del found["version"]
            hashed = str(found.pop("secret_sha256"))
            for name in ("env", "options"):
                found[name] = tuple(map(str, found[name]))
            found["categories"] = tuple(map(Category, found["categories"]))
            found["state"] = ApprovalState(found["state"])
            approval = Approval(**found)
            is_over = self._clock() >= int(approval.expires_at_ns)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ApprovalNotFound(id_) from None
        if is_over and approval.state in (ApprovalState.PENDING, ApprovalState.GRANTED):
            approval = replace(approval, state=ApprovalState.EXPIRED)
        return approval, hashed


_WHY_NOT = {
    ApprovalState.PENDING: "nobody has granted it yet",
    ApprovalState.GRANTED: "it is granted already",
    ApprovalState.DENIED: "it was denied",
    ApprovalState.USED: "it was used already",
    ApprovalState.EXPIRED: "it has expired",
}


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
