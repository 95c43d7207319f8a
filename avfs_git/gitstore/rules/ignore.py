"""Which paths git would ignore: gitignore rules on byte paths, as `git check-ignore --no-index` has them.

Decided here: how a rule is read, what it matches, and which of several rules wins. Scans and imports ask, and bring the
content of the ignore files; nothing here touches a disk. An ignored directory hides everything below it from all rules,
so that nothing below it can be taken back. Case counts, as `core.ignoreCase` is off in a vault; in a clone from macOS
or Windows it may not. An `Ignorer` keeps what it read and decided about each directory: make a new one when an ignore
file changes. Threads may share one; at worst two of them do the same work.

Rules become patterns of `re` on bytes. Each piece between two stars is matched atomically at its first fit, which loses
no match and keeps hostile rules (`*a*a*a*b`) from running for ever. No library does as git does:
docs/decisions/own-ignore-rules.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from avfs_git.gitstore.gitversion import GitVersion, installed_git
from avfs_git.paths import NAME_MAX, ROOT, TreePath
from avfs_git.values import NamedTuple

BOM: Final = b"\xef\xbb\xbf"
"""A byte order mark, which git skips at the head of a file of rules."""
_SLASH: Final = ord("/")
_BACKSLASH: Final = ord("\\")
IGNORE_FILE_MAX: Final = 256 << 10
"""Bytes of an ignore file that is obeyed: some 20,000 rules.

Taking a larger one apart would take minutes, so all that git does not track below it counts as ignored, and stays
beside history.
"""
IGNORE_FILE_READ: Final = IGNORE_FILE_MAX + 1
"""So many bytes of an ignore file are read."""
_PATH_MAX: Final = 4096
"""Bytes of the longest path that a rule is translated for; no program opens a longer one."""
_MAGIC: Final = re.compile(rb"[*?\[\\]")
_STARS_AFTER_TEXT: Final = re.compile(rb"[^/*]\*\*+(?:/|\\/|\Z)")

ReadIgnoreFile = Callable[[TreePath], bytes | None]
"""Given a directory, what its `.gitignore` holds; None if it is missing or no regular file
(git follows no symbolic link there). It is called once for a directory, and never for an ignored one."""


class Ignorer:
    """The verdict on any path of a workspace.

    `read_ignore_file` reads the `.gitignore` of a directory. `exclude` are rules that every `.gitignore` overrules, as
    in `info/exclude`. With `folds_case`, the case of ASCII letters counts for nothing. `git_version` is the git to
    agree with, by default the installed one. It is asked only about a rule with a slash and with `**` right after
    literal text: git from 2.52 on takes the stars of `a**/b` for one, as its manual says; before, `a**/b` matched `ab`
    and `a/x/b` too.
    """

    def __init__(
        self,
        read_ignore_file: ReadIgnoreFile,
        exclude: bytes = b"",
        *,
        git_version: GitVersion | None = None,
        folds_case: bool = False,
    ) -> None:
        self._read = read_ignore_file
        self._folds_case = folds_case
        self._git_version = git_version
        self._tables: dict[bytes, _Table] = {}
        self._outermost = self._with_rules((), ROOT, exclude)
        # What rules hold in a directory, innermost first; None where the directory is ignored.
        self._rules_in: dict[bytes, tuple[IgnoreRules, ...] | None] = {}

    def is_ignored(self, path: TreePath, *, is_dir: bool) -> bool:
        """Tell whether git ignores a path that it does not track.

        A path below an ignored directory is ignored. The root never is.
        """
        if not path:
            return False
        directory, _, name = path.rpartition(b"/")
        try:
            rules = self._rules_in[directory]
        except KeyError:
            rules = self._load(directory)
        if rules is None:
            return True
        for one in rules:
            verdict = one.decide(path, name, is_dir=is_dir)
            if verdict is not None:
                return verdict
        return False

    def _load(self, directory: bytes) -> tuple[IgnoreRules, ...] | None:
        """Find the rules in a directory, and in those above it that were not asked for before."""
        # A loop and no recursion: a hostile tree may be thousands of directories deep.
        missing = []
        above = directory
        while above not in self._rules_in:
            missing.append(above)
            if not above:
                break
            above = above.rpartition(b"/")[0]
        for place in reversed(missing):
            self._rules_in[place] = self._decide_directory(TreePath(place))
        return self._rules_in[directory]

    def _decide_directory(self, directory: TreePath) -> tuple[IgnoreRules, ...] | None:
        rules = self._outermost
        if directory:
            above = self._rules_in[directory.rpartition(b"/")[0]]
            if above is None or self.is_ignored(directory, is_dir=True):
                return None
            rules = above
        content = self._read(directory)
        return rules if not content else self._with_rules(rules, directory, content)

    def _with_rules(self, outer: tuple[IgnoreRules, ...], base: TreePath, content: bytes) -> tuple[IgnoreRules, ...]:
        if len(content) > IGNORE_FILE_MAX:
            content = b"*"
        # The same file often stands in many directories (caches hold a `.gitignore` of `*`).
        table = self._tables.get(content)
        if table is None:
            table = self._tables[content] = _Table(content, self._git_version, folds_case=self._folds_case)
        return outer if table.is_empty else (IgnoreRules(table, base), *outer)


class IgnoreRules:
    """The rules of one ignore file, for paths below the directory that it stands in."""

    __slots__ = ("_skip", "_table")

    def __init__(self, table: _Table, base: TreePath) -> None:
        self._table = table
        self._skip = len(base) + 1 if base else 0

    @classmethod
    def parse(cls, content: bytes, base: TreePath = ROOT, *, git_version: GitVersion | None = None) -> IgnoreRules:
        """Read an ignore file that stands in the directory `base`."""
        return cls(_Table(content, git_version), base)

    def decide(self, path: TreePath, name: bytes, *, is_dir: bool) -> bool | None:
        """Tell what the last rule that matches a path below the base says: ignored, taken back, or None without any.

        The caller sees to it that no directory above the path is ignored.
        """
        return self._table.find(path[self._skip :], name, is_dir)


# --- matching --------------------------------------------------------------------------------------------


class _Rule(NamedTuple):
    """One line of an ignore file, without its marks."""

    text: bytes
    negative: bool
    directories_only: bool
    anchored: bool
    """It holds a slash, so it is about the path from the file's directory, not about a name."""


class _Table:
    """The rules of one file, arranged for look-up; for directories and for all else separately."""

    __slots__ = ("_directories", "_folds_case", "_others", "_verdicts", "is_empty")

    def __init__(self, content: bytes, git_version: GitVersion | None, *, folds_case: bool = False) -> None:
        self._folds_case = folds_case
        rules = list(_parse_rules(content))
        self.is_empty = not rules
        self._verdicts = [not rule.negative for rule in rules]
        self._directories = _Matchers(rules, git_version, folds_case)
        plain = [rule if not rule.directories_only else None for rule in rules]
        self._others = self._directories if None not in plain else _Matchers(plain, git_version, folds_case)

    def find(self, path: bytes, name: bytes, is_dir: bool) -> bool | None:
        if self._folds_case:
            path, name = path.lower(), name.lower()
        number = (self._directories if is_dir else self._others).find(path, name)
        return None if number < 0 else self._verdicts[number]


class _Matchers:
    """Rules by number, most of them found without a regular expression; the highest that matches wins."""

    __slots__ = ("_names", "_path_numbers", "_path_patterns", "_paths", "_pattern_numbers", "_patterns", "_suffixes")

    def __init__(
        self, rules: list[_Rule] | list[_Rule | None], git_version: GitVersion | None, folds_case: bool
    ) -> None:
        self._names: dict[bytes, int] = {}
        self._paths: dict[bytes, int] = {}
        suffixes: dict[int, dict[bytes, int]] = {}
        patterns: list[tuple[int, bytes]] = []
        path_patterns: list[tuple[int, bytes]] = []
        for number, rule in enumerate(rules):
            if rule is None:
                continue
            text = rule.text
            if folds_case and not _MAGIC.search(text, text.startswith(b"*")):
                text = text.lower()
            if rule.anchored:
                text = text.removeprefix(b"/")
                if not _MAGIC.search(text):
                    self._paths[text] = number
                elif (pattern := _translate_path(text, git_version, folds_case)) is not None:
                    path_patterns.append((number, pattern))
            elif not _MAGIC.search(text):
                self._names[text] = number
            elif text[:1] == b"*" and not _MAGIC.search(text, 1):
                suffixes.setdefault(len(text) - 1, {})[text[1:]] = number
            elif (pattern := _translate_name(text, folds_case)) is not None:
                patterns.append((number, pattern))
        self._suffixes = list(suffixes.items())
        self._pattern_numbers, self._patterns = _join(patterns)
        self._path_numbers, self._path_patterns = _join(path_patterns)

    def find(self, path: bytes, name: bytes) -> int:
        """Return the number of the last rule that matches, or -1."""
        best = self._names.get(name, -1)
        for size, endings in self._suffixes:
            # A name shorter than the ending comes out whole and is not in the table.
            number = endings.get(name[-size:] if size else b"", -1)
            if number > best:  # noqa: PLR1730 - this loop runs for each path; max() makes it half as slow again
                best = number
        if self._patterns is not None and (match := self._patterns.fullmatch(name)) is not None:
            best = max(best, self._pattern_numbers[match.lastindex or 0])
        if self._paths:
            best = max(best, self._paths.get(path, -1))
        if self._path_patterns is not None and (match := self._path_patterns.fullmatch(path)) is not None:
            best = max(best, self._path_numbers[match.lastindex or 0])
        return best


def _join(patterns: list[tuple[int, bytes]]) -> tuple[list[int], re.Pattern[bytes] | None]:
    """Make one expression of several, the last rule first; the group that took part tells the rule."""
    if not patterns:
        return [], None
    last_first = patterns[::-1]
    expression = b"|".join([b"(%b)" % text for _, text in last_first])
    return [-1, *(number for number, _ in last_first)], re.compile(expression, re.DOTALL)


# --- reading ---------------------------------------------------------------------------------------------


def _parse_rules(content: bytes) -> Iterator[_Rule]:
    """Read the lines of an ignore file; rules that can match nothing are left out."""
    for line in content.removeprefix(BOM).split(b"\n"):
        if line.startswith(b"#"):
            continue
        # Git holds a line as a C string: it ends at a NUL byte.
        text = _trim(line.removesuffix(b"\r").partition(b"\0")[0])
        negative = text.startswith(b"!")
        text = text[negative:]
        directories_only = text.endswith(b"/")
        text = text[: len(text) - directories_only]
        if text not in (b"", b"/"):
            yield _Rule(text, negative, directories_only, b"/" in text)


def _trim(line: bytes) -> bytes:
    """Remove the spaces at the end of a line, except a space after a backslash."""
    bare = line.rstrip(b" ")
    if len(bare) == len(line):
        return line
    backslashes = len(bare) - len(bare.rstrip(b"\\"))
    return line[: len(bare) + backslashes % 2]


# --- translation to `re` ---------------------------------------------------------------------------------
#
# A rule is a row of pieces of fixed length (literal bytes, `?`, brackets) with stars between them. A star
# is best given as little as possible: if the piece after it fits at some place, and the rest of the rule
# fits from a later place on, then the rest fits after the first place as well, for what stands between can
# go to the next star. So each star with the piece after it is an atomic group, except the last one,
# whose piece is bound to the end. The same holds for `**/`, whose piece runs up to the next `**`: pieces
# start and end at slashes, and a star does not cross those.

_STAR: Final = object()
_DEEP: Final = object()
"""`**/` where a component may start: any number of components, or none."""
_DEEP_ESCAPED: Final = object()
r"""The same written `**\/`, which git takes for at least one slash."""
_REST: Final = object()
"""`**` at the end: all that is left."""


def _translate_name(text: bytes, folds_case: bool) -> bytes | None:
    """Translate a rule about a name; None if nothing can match it."""
    tokens = _scan(text, in_path=False, most=NAME_MAX, folds_case=folds_case)
    return None if tokens is None else _emit(tokens, star=b".*")


def _translate_path(text: bytes, git_version: GitVersion | None, folds_case: bool) -> bytes | None:
    """Translate a rule about a path from the file's directory; None if nothing can match it."""
    prefix = b""
    magic = _MAGIC.search(text)
    if magic and _STARS_AFTER_TEXT.match(text, magic.start() - 1) and (git_version or installed_git()) < (2, 52):
        # That git compares the literal start of a rule by itself and matches the remainder as a rule of its own.
        prefix = text[: magic.start()]
    tokens = _scan(text[len(prefix) :], in_path=True, most=_PATH_MAX, folds_case=folds_case)
    prefix = prefix.lower() if folds_case else prefix
    return None if tokens is None else re.escape(prefix) + _emit(tokens, star=b"[^/]*")


def _scan(text: bytes, *, in_path: bool, most: int, folds_case: bool) -> list[bytes | object] | None:
    """Split a rule into pieces of an expression and stars; None if nothing can match it, or nothing of `most` bytes.

    With `folds_case` it is for names in small letters. A capital one after a backslash, or by itself in a bracket,
    matches nothing then, as in git (its wildmatch.c).
    """
    tokens: list[bytes | object] = []
    anything = b"[^/]" if in_path else b"."
    at = 0
    stars = 0
    while at < len(text):
        if len(tokens) - stars > most:
            return None
        byte = text[at]
        if byte == _BACKSLASH:
            if at + 1 == len(text):
                return None
            tokens.append(re.escape(text[at + 1 : at + 2]))
            at += 2
        elif byte == ord("?"):
            tokens.append(anything)
            at += 1
        elif byte == ord("["):
            bracket = _scan_bracket(text, at + 1, folds_case=folds_case)
            if bracket is None:
                return None
            members, at = bracket
            if in_path:
                members.discard(_SLASH)
            if not members:
                return None
            tokens.append(_spell_set(members))
        elif byte == ord("*"):
            star, at = _scan_stars(text, at, in_path=in_path)
            tokens.append(star)
            stars += 1
        else:
            char = text[at : at + 1]
            tokens.append(re.escape(char.lower() if folds_case else char))
            at += 1
    return tokens


def _scan_stars(text: bytes, at: int, *, in_path: bool) -> tuple[object, int]:
    """Read a run of stars; return what it is and where the rule goes on."""
    start = at
    while text[at : at + 1] == b"*":
        at += 1
    if not in_path or at - start == 1 or (start and text[start - 1] != _SLASH):
        return _STAR, at
    if at == len(text):
        return _REST, at
    if text[at] == _SLASH:
        return _DEEP, at + 1
    if text[at : at + 2] == b"\\/":
        return _DEEP_ESCAPED, at + 2
    return _STAR, at


def _emit(tokens: list[bytes | object], *, star: bytes) -> bytes:
    """Write the expression: groups between `**`, in them groups between stars, each atomic but the last."""
    groups: list[bytes] = []
    lead = b""
    pieces: list[bytes | object] = []
    for token in tokens:
        if token is _DEEP or token is _DEEP_ESCAPED or token is _REST:
            groups.append(lead + _emit_piece(pieces, star))
            lead = b".*" if token is _REST else b"(?:.*?/)??" if token is _DEEP else b".*?/"
            pieces = []
        else:
            pieces.append(token)
    groups.append(lead + _emit_piece(pieces, star))
    return b"".join([*(b"(?>%b)" % group for group in groups[:-1]), groups[-1]])


def _emit_piece(tokens: list[bytes | object], star: bytes) -> bytes:
    runs = [b""]
    for token in tokens:
        if token is _STAR:
            runs.append(b"")
        elif isinstance(token, bytes):
            runs[-1] += token
    first, *others = runs
    if not others:
        return first
    return b"".join([first, *(b"(?>%b?%b)" % (star, run) for run in others[:-1]), star, others[-1]])


# --- brackets --------------------------------------------------------------------------------------------


def _characters(*ranges: bytes) -> frozenset[int]:
    """List bytes, given the first and the last of each range."""
    return frozenset(byte for first, last in ranges for byte in range(first, last + 1))


_CLASSES: Final = {
    # Git's own, which do not depend on the locale; its white space has no vertical tab and no form feed.
    b"alnum": _characters(b"09", b"AZ", b"az"),
    b"alpha": _characters(b"AZ", b"az"),
    b"blank": frozenset(b" \t"),
    b"cntrl": _characters(b"\x00\x1f", b"\x7f\x7f"),
    b"digit": _characters(b"09"),
    b"graph": _characters(b"!~"),
    b"lower": _characters(b"az"),
    b"print": _characters(b" ~"),
    b"punct": _characters(b"!/", b":@", b"[`", b"{~"),
    b"space": frozenset(b" \t\r\n"),
    b"upper": _characters(b"AZ"),
    b"xdigit": _characters(b"09", b"AF", b"af"),
}


def _scan_bracket(text: bytes, at: int, *, folds_case: bool) -> tuple[set[int], int] | None:
    """Read a bracket from behind its `[`: which bytes it takes and where the rule goes on; None if it is broken."""
    inverted = text[at : at + 1] in (b"!", b"^")
    at += inverted
    members: set[int] = set()
    before: int | None = None  # the byte that a range may start from
    first = True
    while True:
        if at >= len(text):
            return None
        byte = text[at]
        if byte == ord("]") and not first:
            break
        first = False
        if byte == ord("[") and text[at + 1 : at + 2] == b":":
            end = text.find(b"]", at + 2)
            if end < 0:
                return None
            if end > at + 2 and text[end - 1] == ord(":"):
                named = _CLASSES.get(text[at + 2 : end - 1])
                if named is None:
                    return None
                members |= _fold(named) if folds_case else named
                before = None
                at = end + 1
                continue
        is_range = byte == ord("-") and before is not None and at + 1 < len(text) and text[at + 1] != ord("]")
        at += is_range
        if text[at] == _BACKSLASH:
            at += 1
            if at == len(text):
                return None
        byte = text[at]
        if is_range and before is not None:
            span = frozenset(range(before, byte + 1))
            members |= _fold(span) if folds_case else span
            before = None
        else:
            members.add(byte)
            before = byte
        at += 1
    return (set(range(256)) - members if inverted else members), at + 1


def _fold(members: frozenset[int]) -> frozenset[int]:
    """Add the small letter of each capital one."""
    return members | {byte + 32 for byte in members & _CLASSES[b"upper"]}


def _spell_set(members: set[int]) -> bytes:
    """Spell a set of bytes by its ranges: most brackets name few of them, or all but a few."""
    firsts = sorted(byte for byte in members if byte - 1 not in members)
    lasts = sorted(byte for byte in members if byte + 1 not in members)
    return b"[" + b"".join(b"\\x%02x-\\x%02x" % bounds for bounds in zip(firsts, lasts, strict=True)) + b"]"
