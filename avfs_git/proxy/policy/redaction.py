"""What looks like a secret: names of environment variables, and parts of a command's text.

Decided here: the default patterns of both, and how a text is shown without its secrets. The policy's `[environment]`
and `[redact]` tables extend them (`policy`). `environment` asks about names. Everything that avfs stores of a command's
text goes through `Redactor.command`: commit subjects, notes, the audit log, the steps of a session. Pure functions; any
thread.

Patterns find what is commonly a secret. A secret that looks like any other word is not found.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from avfs_git.patterns import compiled
from avfs_git.proxy.policy.decision import Request

SECRET_NAMES = (
    *(
        "*TOKEN",
        "*TOKENS",
        "*TOKEN_*",
        "*SECRET*",
        "*PASSWORD*",
        "*PASSWD*",
        "*PASSPHRASE*",
        "*_PWD",
        "*_PASS",
        "*_PAT",
    ),
    *("*APIKEY*", "*API_KEY*", "*ACCESS_KEY*", "*PRIVATE_KEY*", "*_KEY", "*CREDENTIAL*", "*_AUTH"),
)
"""Variables whose names match look like secrets, in any case of letters.

`SSH_AUTH_SOCK` names a socket and does not match.
"""
HIDDEN = "***"
"""What stands for a secret."""

_NAME = r"(?:token|secret|passw(?:or)?d|passphrase|api[-_]?key|access[-_]?key|private[-_]?key|credentials?)"
# Each repetition has a bound or cannot begin inside of another one, so that a long text takes time in proportion to its
# length.
_OPTION = rf"(?<![\w-])--?(?:[a-z0-9_-]{{0,40}}[-_])?{_NAME}"
_PLAIN = r"\\.|[^\s'\"\\]"
_VALUE = (
    # A word of a shell. What is quoted behind its beginning counts without blanks: else a quote that ends a text around
    # the word would begin one that hides all up to the next.
    rf"(?:'[^']*'|\"(?:\\.|[^\"\\])*\"|{_PLAIN})"
    rf"(?:'[^'\s]*'|\"(?:\\\S|[^\"\\\s])*\"|{_PLAIN})*"
)
_PATTERNS = tuple(
    compiled(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"(?P<kept>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----).*?(?=-----END|\Z)",
        r"(?P<kept>\b[a-z][a-z0-9+.-]{0,20}://)[^/\s@'\"]{1,512}(?=@)",
        rf"(?P<kept>{_OPTION}(?:=|\s{{1,16}})){_VALUE}",
        rf"(?P<kept>{_NAME}\\?['\"]?(?:\s{{0,4}}:\s{{0,16}}|\s{{1,4}}=\s{{1,16}})\\?['\"])[^'\"\n\\]+",
        rf"(?P<kept>\b(?:(?:proxy-)?authorization|(?:set-)?cookie|[a-z-]{{0,40}}(?:{_NAME})):(?!\s{{0,16}}\\?['\"])\s{{0,16}})[^'\"\n]+",
        r"(?P<kept>\bbearer\s{1,16})[\w.~+/=-]{8,}",
        r"(?P<kept>(?<!\S)(?:-u\s{0,16}|--user[=\s]\s{0,16})['\"]?[^\s:'\"]{1,128}:)[^\s'\"]+",
        r"(?P<kept>\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|npm_|pypi-|hf_|dop_v1_|[rs]k[-_](?:live_|test_|proj-)?))[\w-]{16,}",
        r"(?P<kept>\b(?:AKIA|ASIA|AIza))[\w-]{12,}",
        r"(?P<kept>\beyJ)[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    )
)
_ASSIGNMENT = compiled(rf"(?<![A-Za-z0-9_])([A-Za-z_][A-Za-z0-9_]{{0,127}})=({_VALUE})")
_WHOLE_ASSIGNMENT = compiled(r"([A-Za-z_][A-Za-z0-9_]*)=.*", re.DOTALL)
_WHOLE_OPTION = compiled(rf"({_OPTION})(?:(=).*)?", re.IGNORECASE | re.DOTALL)
_HEADLINE_WORD = compiled(r"[A-Za-z0-9_./][A-Za-z0-9_.+/-]*")
_HEADLINE_WORDS = 3
_PLAIN_ASSIGNMENT = compiled(r"[A-Za-z_][A-Za-z0-9_]*=[^'\"\\$`()]*")
_SIGNS = (
    *(
        "token",
        "secret",
        "passw",
        "passphrase",
        "key",
        "credential",
        "://",
        "authorization",
        "cookie",
        "bearer",
        "-u",
        "eyj",
    ),
    *("gh", "glpat", "xox", "npm_", "pypi", "hf_", "dop_v1", "rk", "sk", "akia", "asia", "aiza"),
)
"""A text with none of these fits none of the patterns: to look for them costs less than to compile one expression."""
_MAX_TEXT = 1 << 16
"""Of a longer text only the beginning is shown."""


class Redactor:
    """Knows what looks like a secret."""

    def __init__(self, *, names: Iterable[str] = (), allowed: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        """Add to the defaults.

        `names` are further patterns, as in file names; `allowed` are patterns of names that are no secrets all the
        same; `patterns` are further regular expressions for secrets in texts.
        """
        self._names = _joined((*SECRET_NAMES, *names))
        self._allowed = _joined(tuple(allowed))
        self._patterns = tuple(re.compile(pattern) for pattern in patterns)

    def is_secret(self, name: str) -> bool:
        """Whether a variable looks like a secret."""
        upper = name.upper()
        return self._names.fullmatch(upper) is not None and self._allowed.fullmatch(upper) is None

    def text(self, text: str) -> str:
        """Show a text without the secrets that are found in it."""
        if len(text) > _MAX_TEXT:
            text = text[:_MAX_TEXT] + "…"
        for pattern in self._patterns:
            text = pattern.sub(HIDDEN, text)
        lower = text.lower()
        if any(sign in lower for sign in _SIGNS):
            for pattern in _PATTERNS:
                text = pattern.sub(rf"\g<kept>{HIDDEN}", text)
        if "=" not in text:
            return text
        return _ASSIGNMENT.sub(lambda found: f"{found[1]}={HIDDEN if self.is_secret(found[1]) else found[2]}", text)

    def command(self, request: Request) -> str:
        """Show a request's command as one text without the secrets that are found in it."""
        return self.text(request.shell) if request.shell is not None else self.argv(request.argv or ())

    def argv(self, argv: Sequence[str]) -> str:
        """Show a program and its arguments as one line, quoted, without the secrets that are found in them."""
        import shlex  # noqa: PLC0415 - takes longer to load than most commands need

        return shlex.join(self._words(argv))

    def headline(self, request: Request) -> str:
        """Name a request's command by its program and first words, up to the first one that is not plain.

        Variables that are set before the program are passed over.
        """
        words = self.command(request).split() if request.shell is not None else self._words(request.argv or ())
        found: list[str] = []
        begin = next((number for number, word in enumerate(words) if not _PLAIN_ASSIGNMENT.fullmatch(word)), len(words))
        for word in words[begin : begin + _HEADLINE_WORDS]:
            if not _HEADLINE_WORD.fullmatch(word):
                break
            found.append(word)
        return " ".join(found) or "a command"

    def _words(self, argv: Sequence[str]) -> list[str]:
        shown: list[str] = []
        is_value = False  # of the option before
        left = _MAX_TEXT
        for word in argv:
            if (left := left - len(word)) < 0:
                return [*shown, "…"]
            option = _WHOLE_OPTION.fullmatch(word) if word.startswith("-") else None
            assignment = _WHOLE_ASSIGNMENT.fullmatch(word) if "=" in word else None
            if is_value:
                shown.append(HIDDEN)
            elif option is not None:
                shown.append(f"{option[1]}={HIDDEN}" if option[2] else word)
            elif assignment is not None and self.is_secret(assignment[1]):
                shown.append(f"{assignment[1]}={HIDDEN}")
            else:
                shown.append(self.text(word))
            is_value = not is_value and option is not None and not option[2]
        return shown


@lru_cache(maxsize=8)
def _joined(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern.upper()) for pattern in patterns) or r"(?!)")
