"""Rules about commands: where they come from, how they are merged, and what they decide.

Decided here: the format of policy files (docs/guides/policy.md is the user's text), the built-in rules, and the order
in which scopes are asked. `load` reads files, `decide` is a pure function; both may be called from any thread. Nothing
here enforces anything (`gate` does).

A command is taken apart into findings (`classify`), each with one category. Each finding is decided by itself: by the
first rule of the user's file that matches it, else by the first built-in one. The vault's file is asked beside them and
can only make that stricter, because whoever works in the vault may be able to write it; the user's file can name vaults
that it trusts, whose rules are then asked first. The decision is the strictest of all findings, so that no part of a
command is let in by what stands beside it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

from avfs_git.errors import PolicyInvalid, quote
from avfs_git.globs import Gap, Glob
from avfs_git.host.files.plainfile import open_plain
from avfs_git.proxy.policy.commands.classify import categories_of, classify
from avfs_git.proxy.policy.decision import Action, Category, Decision, Finding, Request, RuleVerdict, Scope
from avfs_git.proxy.policy.redaction import Redactor
from avfs_git.values import value_class

VERSION = 1
"""The version of policy files."""
MAX_FILE_BYTES = 1 << 20
"""A policy file above this is refused: it is read before every command."""

BUILT_IN: Final = "built-in"
USER: Final = "user"
VAULT: Final = "vault"

STRICTNESS = {action: number for number, action in enumerate(Action)}
_LENIENT = frozenset({Action.ALLOW, Action.ALLOW_WITH_CHECKPOINT})

_TOP_KEYS = frozenset({"version", "trusted_vaults", "rule", "environment", "redact"})
_USER_KEYS = ("trusted_vaults", "environment", "redact")
"""What a vault's file may not say: its writer could hide commands from the audit log, or let secrets in."""
_ENVIRONMENT_KEYS = frozenset({"secrets", "allow", "isolated"})
_REDACT_KEYS = frozenset({"patterns"})
_RULE_KEYS = frozenset({"name", "categories", "commands", "arguments", "paths", "action", "reason"})


@value_class
class Rule:
    """One rule: every condition that it has must hold of a finding."""

    name: str
    action: Action
    reason: str
    categories: tuple[Category, ...] = ()
    """Empty for all."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Each the first words of a command, such as `git push`; patterns of the shell's kind. Empty for all."""
    arguments: tuple[str, ...] = ()
    """Patterns for arguments."""
    paths: tuple[str, ...] = ()
    """Patterns for paths from the root of the workspace, or absolute ones.

    `**` stands for any number of directories.
    """


@value_class
class Secrets:
    """What the user says about variables and texts, beside the defaults."""

    names: tuple[str, ...] = ()
    """Patterns of variables that commands do not get."""
    allowed: tuple[str, ...] = ()
    """Patterns of variables that they get, although these look like secrets."""
    isolated: tuple[str, ...] = ()
    """Patterns of variables that isolated commands get."""
    patterns: tuple[str, ...] = ()
    """Regular expressions for secrets in texts."""

    def redactor(self) -> Redactor:
        """Make what knows secrets."""
        return Redactor(names=self.names, allowed=self.allowed, patterns=self.patterns)


@value_class
class Policy:
    """The rules that hold for a vault, by scope, in the order in which they are asked."""

    user: tuple[Rule, ...] = ()
    vault: tuple[Rule, ...] = ()
    vault_is_trusted: bool = False
    """Whether the vault's rules are asked before the user's, also where they are milder."""
    secrets: Secrets = Secrets()
    user_file: Path | None = None
    """The file that `user` was read from, or None."""
    vault_file: Path | None = None

    def rules(self) -> tuple[tuple[Scope, Rule], ...]:
        """List every rule with its scope, in the order in which they are asked."""
        scopes: tuple[tuple[Scope, tuple[Rule, ...]], ...] = (
            (USER, self.user),
            (BUILT_IN, BUILT_IN_RULES),
            (VAULT, self.vault),
        )
        if self.vault_is_trusted:
            scopes = (scopes[-1], *scopes[:-1])
        return tuple((scope, rule) for scope, rules in scopes for rule in rules)


BUILT_IN_RULES = (
    Rule(
        "outside",
        Action.REQUIRE_APPROVAL,
        "what reaches outside of the workspace requires explicit approval",
        (Category.HOST_ESCAPE_RISK,),
    ),
    Rule("network", Action.REQUIRE_APPROVAL, "networked commands require explicit approval", (Category.NETWORKED,)),
    Rule(
        "changes",
        Action.ALLOW_WITH_CHECKPOINT,
        "the command may change the workspace, which is saved before",
        (Category.MUTATING, Category.DESTRUCTIVE, Category.INTERACTIVE),
    ),
    Rule("reading", Action.ALLOW, "the command only reads", (Category.READ_ONLY,)),
)
"""One rule a category, so that every finding is decided."""


def load(*, user: Path | None, vault: Path | None, vault_root: Path) -> Policy:
    """Read the policy of a vault.

    `vault_root` tells whether the user's file trusts the vault's; none of the files need exist.

    Raises:
        PolicyInvalid: If a file cannot be read or understood: then no command runs.
    """
    own = _read(user, USER)
    theirs = _read(vault, VAULT)
    trusted = own is not None and any(
        os.path.realpath(name) == os.path.realpath(vault_root) for name in own.trusted_vaults
    )
    return Policy(
        user=own.rules if own else (),
        vault=theirs.rules if theirs else (),
        vault_is_trusted=trusted,
        secrets=own.secrets if own else Secrets(),
        user_file=user if own else None,
        vault_file=vault if theirs else None,
    )


def decide(request: Request, policy: Policy) -> Decision:
    """Decide what is done with a request, and explain it rule by rule. Changes nothing and asks no person."""
    findings = classify(request)
    matched: set[tuple[Scope, str]] = set()
    judged = [_judge(finding, policy, matched) for finding in findings]
    at = max(range(len(judged)), key=lambda number: STRICTNESS[judged[number].action])  # the first of the strictest
    rule = judged[at]
    is_own = rule.action in _LENIENT or all(rule is not each for each in BUILT_IN_RULES)
    reason = rule.reason if is_own else f"{rule.reason} ({_told(findings[at])})"
    return Decision(
        action=rule.action,
        categories=categories_of(findings),
        reason=reason,
        rules=tuple(
            RuleVerdict(
                scope=where,
                name=each.name,
                matched=(where, each.name) in matched,
                action=each.action,
                reason=each.reason,
                decisive=each is rule,
            )
            for where, each in policy.rules()
        ),
        findings=tuple(findings),
        hint=_hint(findings[at]) if rule.action is Action.REQUIRE_APPROVAL and not is_own else None,
    )


def _told(finding: Finding) -> str:
    paths = ", ".join(quote(path) for path in finding.paths[:3])
    return f"{finding.reason}: {paths}" if paths else finding.reason


def _hint(finding: Finding) -> str:
    """Name the rule of the user that lets something in for which a built-in rule asks."""
    conditions = [f'categories = ["{finding.category}"]']
    if finding.command:
        conditions.append(f"commands = [{json.dumps(finding.command[0], ensure_ascii=False)}]")
    return f"To allow it without a question, add a rule with {' and '.join(conditions)} to the user's policy."


def _judge(finding: Finding, policy: Policy, matched: set[tuple[Scope, str]]) -> Rule:
    """Find the rule that decides a finding; note all that match."""
    fitting = [(scope, rule) for scope, rule in policy.rules() if matches(rule, finding)]
    matched.update((scope, rule.name) for scope, rule in fitting)
    if policy.vault_is_trusted:
        return fitting[0][1]
    first = next(rule for scope, rule in fitting if scope != VAULT)  # a built-in rule at the latest
    vault = next((rule for scope, rule in fitting if scope == VAULT), first)
    # The vault's file can only make it stricter: any process that works in the vault may have written it.
    return max(first, vault, key=lambda rule: STRICTNESS[rule.action])


def matches(rule: Rule, finding: Finding) -> bool:
    """Whether all conditions of a rule hold of a finding.

    A rule that lets something in must fit every argument and every path that it speaks of, and all of them must be
    known; for one that keeps something out, one is enough.
    """
    lenient = rule.action in _LENIENT
    if rule.categories and finding.category not in rule.categories:
        return False
    if rule.commands and not any(_has_words(finding.command, words) for words in rule.commands):
        return False
    every = all if lenient else any
    if (rule.arguments or rule.paths) and lenient and not finding.exact:
        return False
    if rule.arguments:
        arguments = finding.command[1:]
        if not arguments or not every(_fits(argument, rule.arguments, _compile) for argument in arguments):
            return False
    if rule.paths:
        return bool(finding.paths) and every(_fits(path, rule.paths, _compile_path) for path in finding.paths)
    return True


def _has_words(command: tuple[str, ...], words: tuple[str, ...]) -> bool:
    return len(command) >= len(words) and all(
        _fits(have, (want,), _compile) for have, want in zip(command, words, strict=False)
    )


def _fits(text: str, patterns: Iterable[str], compiled: Callable[[str], Glob]) -> bool:
    return any(compiled(pattern).matches(text) for pattern in patterns)


@lru_cache(maxsize=512)
def _compile(pattern: str) -> Glob:
    return Glob(_read_pattern(pattern, star=Gap.TEXT, one="."))


@lru_cache(maxsize=512)
def _compile_path(pattern: str) -> Glob:
    """Make a glob of a path pattern; a pattern of a directory also fits what is below it."""
    return Glob([*_read_pattern(pattern.rstrip("/"), star=Gap.NAME, one="[^/]"), Gap.BELOW])


def _read_pattern(pattern: str, *, star: Gap, one: str) -> Iterator[str | Gap]:
    """Take a pattern of the shell's kind apart; brackets stand for themselves."""
    parts: dict[str, str | Gap] = {"**/": Gap.DIRECTORIES, "**": Gap.TEXT, "*": star, "?": one}
    return (parts.get(part) or re.escape(part) for part in re.findall(r"\*\*/|\*\*|.", pattern, re.DOTALL))


# --- files -----------------------------------------------------------------------------------------------


@value_class
class PolicyFile:
    """What stands in one policy file."""

    rules: tuple[Rule, ...]
    trusted_vaults: tuple[str, ...]
    secrets: Secrets = Secrets()


def _read(path: Path | None, scope: str) -> PolicyFile | None:
    if path is None:
        return None
    try:
        # A link leads to a user's own file where they keep it elsewhere; in a vault, it may lead anywhere.
        with os.fdopen(open_plain(os.path.realpath(path) if scope == USER else path), "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PolicyInvalid(str(path), error.strerror or str(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise PolicyInvalid(str(path), f"it is larger than {MAX_FILE_BYTES} bytes")
    try:
        return parse(data, scope)
    except ValueError as error:  # also of TOML and UTF-8
        raise PolicyInvalid(str(path), str(error)) from error


@lru_cache(maxsize=8)
def parse(data: bytes, scope: str) -> PolicyFile:
    """Read the text of a policy file. Unknown keys are refused: a misspelled condition must not widen a rule.

    The same text means the same for each command; the file is read anew for each, and nothing is concluded from its
    times.

    Raises:
        ValueError: If it cannot be understood; the message says where.
    """
    import tomllib  # noqa: PLC0415 - only where there is a file

    top = tomllib.loads(data.decode("utf-8"))
    _refuse_unknown(top, _TOP_KEYS, "the file")
    version = top.get("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(f"'version' must be {VERSION}, the only one that this avfs knows")
    for key in _USER_KEYS:
        if key in top and scope != USER:
            raise ValueError(f"'{key}' counts in the user's file only")
    rules = top.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise ValueError("rules are written as '[[rule]]'")
    made = tuple(_parse_rule(rule, number) for number, rule in enumerate(rules, 1))
    names = [rule.name for rule in made]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two rules have the name {quote(name)}")
    trusted = _texts(top, "trusted_vaults", "the file")
    for name in trusted:
        if not name.startswith("/"):
            raise ValueError(f"'trusted_vaults' takes absolute paths, not {quote(name)}")
    return PolicyFile(made, trusted, _parse_secrets(top))


def _parse_secrets(top: Mapping[str, object]) -> Secrets:
    environment, redact = _table(top, "environment", _ENVIRONMENT_KEYS), _table(top, "redact", _REDACT_KEYS)
    patterns = _texts(redact, "patterns", "[redact]")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"'patterns' of [redact] has {quote(pattern)}, which is no regular expression: {error}"
            ) from error
    names, allowed, isolated = (_texts(environment, key, "[environment]") for key in ("secrets", "allow", "isolated"))
    return Secrets(names, allowed, isolated, patterns)


def _table(top: Mapping[str, object], key: str, known: frozenset[str]) -> Mapping[str, object]:
    found = top.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(f"'{key}' is written as '[{key}]'")
    _refuse_unknown(found, known, f"[{key}]")
    return found


def _parse_rule(rule: Mapping[str, object], number: int) -> Rule:
    name = rule.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"rule {number} has no usable 'name'")
    place = f"rule {quote(name)}"
    _refuse_unknown(rule, _RULE_KEYS, place)
    reason = rule.get("reason", f"rule {quote(name)} says so")
    if not isinstance(reason, str) or not reason.isprintable():
        raise ValueError(f"'reason' of {place} must be one line of text")
    return Rule(
        name=name,
        action=_one_of(Action, rule.get("action"), "action", place),
        reason=reason,
        categories=tuple(_one_of(Category, text, "categories", place) for text in _texts(rule, "categories", place)),
        commands=tuple(tuple(text.split()) for text in _texts(rule, "commands", place)),
        arguments=_texts(rule, "arguments", place),
        paths=_texts(rule, "paths", place),
    )


def _refuse_unknown(table: Mapping[str, object], known: frozenset[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"{place} has the unknown key {quote(key)}; there are {', '.join(sorted(known))}")


def _texts(table: Mapping[str, object], key: str, place: str) -> tuple[str, ...]:
    """Take a list of texts. An empty one is refused: it could mean nothing, or everything."""
    if key not in table:
        return ()
    found = table[key]
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError(f"'{key}' of {place} must be a list of texts that are not empty")
    return tuple(found)


_E = TypeVar("_E", bound=StrEnum)


def _one_of(kind: type[_E], text: object, key: str, place: str) -> _E:
    try:
        return kind(str(text))
    except ValueError:
        raise ValueError(f"'{key}' of {place} knows {', '.join(kind)}, not {quote(str(text))}") from None
