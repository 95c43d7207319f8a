"""The policy of a vault: its rules, what waits for a person, and the audit log.

Decided here: nothing; each method is one call of `proxy`. Got from `Vault.policy`; safe from several threads and processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import InvalidInput
from avfs_git.lazy import LazyModule
from avfs_git.paths import parse_tree_path, show_path
from avfs_git.sdk.pathlike import PathLike

if TYPE_CHECKING:
    from avfs_git.host.processes.seal import Seal
    from avfs_git.proxy.policy import gate, policy, request
    from avfs_git.proxy.policy.approvals import Approval
    from avfs_git.proxy.policy.audit import AuditEntry
    from avfs_git.proxy.policy.policy import Policy
    from avfs_git.proxy.policy.request import Decision
else:
    # A light command must not pay for what it does not use.
    gate = LazyModule("avfs_git.proxy.policy.gate")
    policy = LazyModule("avfs_git.proxy.policy.policy")
    request = LazyModule("avfs_git.proxy.policy.request")


class VaultPolicy:
    """What decides about commands in a vault."""

    def __init__(self, git_dir: Path, *, seal: Seal, user_policy: Path | None) -> None:
        self._git_dir = git_dir
        self.gate = gate.Gate(git_dir, seal=seal, user_policy=user_policy)
        """What `Workspace.exec` asks."""

    @property
    def vault_file(self) -> Path:
        """The vault's policy file, which need not exist."""
        return self.gate.vault_policy

    def show(self) -> Policy:
        """Read the rules that hold.

        Raises:
            PolicyInvalid: If a file cannot be understood.
        """
        return self.gate.policy()

    def check(
        self,
        argv: Sequence[str] = (),
        *,
        shell: str | None = None,
        fork: str = "",
        cwd: PathLike = "",
        env: Mapping[str, str] | None = None,
    ) -> Decision:
        """Decide about a command without running it, and explain the decision. Nothing is recorded.

        Args:
            argv: The program and its arguments.
            shell: A text for a shell, instead.
            fork: The fork that it would run in.
            cwd: The directory in the workspace.
            env: What is added to the environment.

        Raises:
            InvalidInput: If there is not exactly one of `argv` and `shell`.
            PolicyInvalid: If a policy file cannot be understood.
        """
        if (shell is None) == (not argv):
            raise InvalidInput("a command is either a program with arguments or a text for a shell")
        asked = request.Request(
            vault=str(self._git_dir),
            fork=fork,
            argv=tuple(map(os.fsdecode, argv)) if argv else None,
            shell=shell,
            cwd="/" + show_path(parse_tree_path(cwd)).lstrip("/"),
            env=tuple(sorted((env or {}).items())),
        )
        return self.gate.look(asked)

    def write_template(self) -> Path:
        """Make the vault's policy file, to start from; it changes nothing yet. Returns its path.

        Raises:
            InvalidInput: If it is there already.
            HostError: If it cannot be written.
        """
        policy.write_template(self.vault_file)
        return self.vault_file

    def approvals(self, *, every: bool = False) -> list[Approval]:
        """List the requests that wait for a person or were granted, the newest first; with `every`, also those that are over."""
        return self.gate.approvals.entries(every=every)

    def approval(self, id_: str) -> Approval:
        """Look at a request that waits, or waited.

        Raises:
            ApprovalNotFound: If there is none of that id.
        """
        return self.gate.approvals.get(id_)

    def grant(self, id_: str) -> Approval:
        """Say yes to a request, in the name of a person: its command may run once, within an hour.

        Raises:
            ApprovalNotFound: If there is none of that id.
            ApprovalRefused: If it does not wait any more.
        """
        return self.gate.grant(id_)

    def deny(self, id_: str) -> Approval:
        """Say no to a request, or take back a yes that was not used.

        Raises:
            ApprovalNotFound: If there is none of that id.
            ApprovalRefused: If it is over already.
        """
        return self.gate.deny(id_)

    def audit(self, *, limit: int | None = None, since_ns: int | None = None) -> list[AuditEntry]:
        """List what happened, the newest first.

        Args:
            limit: At most so many.
            since_ns: Only what happened at this time or later, in nanoseconds since the epoch.
        """
        return self.gate.audit.read(limit=limit, since_ns=since_ns)

    def verify_audit(self) -> int:
        """Check that no line of the audit log was changed or taken out. Returns how many there are.

        Raises:
            AuditDamaged: If one was.
        """
        return self.gate.audit.verify()
