"""A request to run a command, and what the policy says to it.

Decided here: what identifies a request (its fingerprint, to which an approval is bound) and what a decision holds.
Values without behaviour of their own; `policy.decide` makes decisions, `gate.admit` enforces them, `execute` runs what
was let in.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Literal

from avfs_git.values import value_class


class Category(StrEnum):
    """What a command may do, as far as its text tells. A command has one or more."""

    READ_ONLY = "read_only"
    """It is proven to change nothing and to reach nothing outside. Never together with another but `interactive`."""
    MUTATING = "mutating"
    """It changes files of the workspace, or cannot be seen through."""
    DESTRUCTIVE = "destructive"
    """It removes or overwrites in a way that a person would think twice about."""
    NETWORKED = "networked"
    """It talks to other machines."""
    HOST_ESCAPE_RISK = "host_escape_risk"
    """It names paths, processes or rights outside of the workspace, or cannot even be parsed."""
    INTERACTIVE = "interactive"
    """It waits for a person at a terminal."""


class Action(StrEnum):
    """What is done with a request; later ones are stricter."""

    ALLOW = "allow"
    ALLOW_WITH_CHECKPOINT = "allow_with_checkpoint"
    REQUIRE_APPROVAL = "require_approval"
    DENY = "deny"


AT_TERMINAL = ("terminal", "True")
"""The option of a request whose command gets a terminal."""


@value_class
class Request:
    """A command with everything that decides what it does. Exactly one of `argv` and `shell` is given."""

    vault: str
    """The vault: the absolute path of its repository, so that a name that is used again is another vault."""
    fork: str
    argv: tuple[str, ...] | None = None
    """The program and its arguments; bytes that are not UTF-8 as surrogate escapes."""
    shell: str | None = None
    """Text for a shell."""
    cwd: str = "/"
    """The directory to run in, from the root of the workspace."""
    env: tuple[tuple[str, str], ...] = ()
    """What the caller adds to the environment."""
    options: tuple[tuple[str, str], ...] = ()
    """What else decides what the run may do, such as `readonly`, `isolate`, `backend`: name and value as text."""
    has_stdin: bool = False
    """Whether it is given something to read: a shell runs what it reads."""
    stdin_sha256: str | None = None
    """The hash of what it reads, where all of that is known before it runs."""
    mountpoint: str | None = None
    """The absolute path at which the command sees the workspace, if known before: paths below it are inside."""

    @property
    def has_terminal(self) -> bool:
        """Whether it gets a terminal, at which a person types what no text tells."""
        return AT_TERMINAL in self.options

    def command(self) -> str:
        """Give the command as one line a person can read, quoted as a shell would need it."""
        if self.shell is not None:
            return self.shell
        import shlex  # noqa: PLC0415 - takes longer to load than most commands need

        return shlex.join(self.argv or ())

    def fingerprint(self) -> str:
        """Hash all that decides what the command does, as 64 hexadecimal digits."""
        import hashlib  # noqa: PLC0415 - loads OpenSSL, and few commands need it

        parts = {
            "vault": self.vault,
            "fork": self.fork,
            "argv": None if self.argv is None else list(self.argv),
            "shell": self.shell,
            "cwd": self.cwd,
            "env": sorted(map(list, self.env)),
            "stdin": self.has_stdin,
            "stdin_sha256": self.stdin_sha256,
            "mountpoint": self.mountpoint,
            "options": sorted(map(list, self.options)),
        }
        # ASCII with escapes: surrogates of names that are not UTF-8 have a spelling there.
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()


@value_class
class Finding:
    """One finding in a command, and why it puts the command into a category."""

    category: Category
    reason: str
    """A clause for people, such as `rm removes files`."""
    text: str
    """The part of the command that it speaks of, shortened."""
    start: int | None = None
    """Where that part begins in the command's text, in characters; None where it is not literally there."""
    end: int | None = None
    command: tuple[str, ...] = ()
    """The words of the simple command that it is about, as far as they are known."""
    paths: tuple[str, ...] = ()
    """The path that it is about, or all that its command names: from the root of the workspace, absolute if outside."""
    exact: bool = False
    """Whether every word of the command is known: no variable, pattern or substitution is in it."""


Scope = Literal["built-in", "user", "vault"]
"""Where a rule stands."""


@value_class
class RuleVerdict:
    """What one rule of the policy says to a request."""

    scope: Scope
    name: str
    matched: bool
    action: Action
    reason: str
    decisive: bool = False
    """Whether the decision is this rule's."""


@value_class
class Decision:
    """What the policy says to a request, and why."""

    action: Action
    categories: tuple[Category, ...]
    """In the order of `Category`."""
    reason: str
    """One clause for people."""
    rules: tuple[RuleVerdict, ...] = ()
    """Every rule in the order in which it was asked."""
    findings: tuple[Finding, ...] = ()
    hint: str | None = None
    """Which rule would let it in, where a built-in one asks a person."""
    approval: str | None = None
    """The id of the approval that was used, or that the request now waits for."""
