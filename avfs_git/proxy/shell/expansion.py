"""What a shell text comes to, and its words as bash would expand them.

Decided here: which expansions are understood, what is known of a word that holds some, and what of them evaluates a
variable's value. `shell` alone calls this: its reader of statements is the only subclass of `WordReader`. Used by one
thread.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from avfs_git.patterns import compiled
from avfs_git.proxy.shell.settings import Settings
from avfs_git.proxy.shell.words import (
    AMBIENT,
    HOME,
    PLAIN,
    ROOT,
    STARTS,
    TEMPORARY,
    UNKNOWN,
    Word,
    decode_ansi,
    expand_braces,
    finish,
    quoted,
)
from avfs_git.values import field, record_class, value_class

if TYPE_CHECKING:
    from tree_sitter import Node

HIDDEN = compiled(r"`|\$\(|<\(|>\(|\$\{")
"""What begins a substitution, or an expansion."""
_HOST_VARIABLES = compiled(r"HOME|PWD|OLDPWD|TMP|TEMP|TMPDIR|XDG_\w+|PATH|SHELL|USER|LOGNAME|MAIL|[A-Z]+_HOME")
"""Variables that hold places of the machine."""
_NUMBERS = frozenset({"?", "#", "$", "!", "RANDOM", "SECONDS", "LINENO", "UID", "EUID", "PPID"})
"""Variables that the shell gives numbers."""
_ARITHMETIC = compiled(r"[\d\s+\-*/%()<>=!&|^~?:,]*")
"""Arithmetic without variables: what those hold would be evaluated, with the substitutions in it."""
_EXPANSION = compiled(
    r"\$\{(?:#?[A-Za-z_]\w*(?:\[(?:@|\*|\d+)\])?|[A-Za-z_]\w*(?:\[[@*]\])?(?::?[-+?=].*|##?.*|%%?.*|//?.*|\^\^?|,,?|:\d+(?::\d+)?)"
    r"|[\d@*#?$!-](?::?[-+?].*)?|\d+|@:\d+(?::\d+)?|#[@*\d])\}",
    re.DOTALL,
)
"""The forms of `${…}` that do no more than put a value in its place, or change one."""
_NUMBERS_ONLY = compiled(
    r"\$\(\s*(?:seq(?: \d+)+|nproc|date(?: -u)? ['\"]?\+(?:%[YmdHMSFTjsN]|[-_.T])+['\"]?"
    r"|git rev-parse --short HEAD)\s*\)"
)
"""Substitutions that come to numbers, times and the like."""
_ROOT_OF_REPOSITORY = compiled(r"\$\(\s*git rev-parse --show-toplevel(?: 2>\s*/dev/null)?\s*\)")


@value_class
class Redirect:
    """A redirection to or from a file."""

    operator: str
    """Such as `>` or `<`, without the descriptor."""
    target: Word


@record_class
class SimpleCommand:
    """One command: assignments, words, redirections; also assignments or redirections alone."""

    words: tuple[Word, ...]
    assignments: tuple[tuple[str, Word], ...] = ()
    redirects: tuple[Redirect, ...] = ()
    text: str = ""
    start: int = 0
    """Where it begins in the text, in characters."""
    end: int = 0
    stdin: Word | None = None
    """What it reads, where that stands in the text."""
    is_fed: bool = False
    """Whether its standard input is a pipe or a file."""
    directories: frozenset[str] = frozenset({":"})
    """Where it may run: the locations that `cd` before it may have made the working directory."""


@record_class
class Script:
    """What was found in a text."""

    commands: list[SimpleCommand] = field(default_factory=list)
    named: list[Word] = field(default_factory=list)
    """Words that stand elsewhere than in a command: in tests, in defaults of variables, in lists of loops."""
    functions: set[str] = field(default_factory=set)
    """The names of functions that the text defines."""
    problems: list[str] = field(default_factory=list)
    """Why the text cannot be seen through; empty if it can."""
    sets: set[str] = field(default_factory=set)
    """Variables that are set without an assignment: by loops, defaults and arithmetic."""
    evaluated: list[tuple[str, int, int]] = field(default_factory=list)
    """Parts that evaluate, as arithmetic does, what a variable holds: their text, and where it stands."""


class NotUnderstood(Exception):
    """A construct that is not in the table."""


class WordReader(ABC):
    """Reads the words of one tree."""

    def __init__(self, source: str, script: Script, variables: Mapping[str, str]) -> None:
        self._source = source
        self._script = script
        self._variables = variables
        self._bound: dict[str, str] = {}
        self._resolving: set[str] = set()
        self._settings = Settings(source)
        self._directories = frozenset({":"})
        self._reached: frozenset[str] = frozenset()
        self._stdin: Word | None = None
        self._is_fed = False

    @abstractmethod
    def _children(self, node: Node, depth: int) -> None:
        """Read the statements in a node."""

    def _arithmetic(self, node: Node) -> None:
        """Note arithmetic that evaluates what a variable holds."""
        text = self._text(node)
        if node.type == "subscript":
            text = text.partition("[")[2].removesuffix("]")
            if text in {"@", "*"}:
                return
        if not _ARITHMETIC.fullmatch(re.sub(r"^\$(\(\(|\[)|(\)\)|\])$", "", text.strip())):
            self._evaluates(node)

    def _evaluates(self, node: Node) -> None:
        """Note a part that evaluates what a variable holds."""
        self._script.evaluated.append((self._text(node), node.start_byte, node.end_byte))

    def _words(self, node: Node) -> list[Word]:
        """Read a word; braces make several of it."""
        marked = self._read_word(node)
        text = self._text(node)
        return [finish(each, text, splits=self._splits(node)) for each in expand_braces(marked)]

    def _word(self, node: Node) -> Word:
        """Read a word where braces do not count."""
        return finish(self._read_word(node), self._text(node), splits=self._splits(node))

    def _splits(self, node: Node) -> bool:
        """Whether a word can become several: an unquoted expansion, or one like `"$@"`."""
        if node.type in {"string", "translated_string"}:
            return re.search(r"\$@|\[@\]|\$\{[@!]", self._text(node)) is not None
        if node.type == "concatenation":
            return any(map(self._splits, node.named_children))
        return node.type not in {"word", "number", "raw_string", "ansi_c_string"}

    def _read_word(self, node: Node) -> str:
        """Give a word with what is quoted marked as such."""
        kind = node.type
        if kind in {"word", "number", "variable_name"} and not node.named_child_count:
            text = self._text(node)
            if HIDDEN.search(re.sub(r"\\.", "", text, flags=re.DOTALL)):
                raise NotUnderstood("it hides a substitution in a word")
            text = re.sub(r"\\(.)", lambda match: quoted(match[1]) if match[1] != "\n" else "", text, flags=re.DOTALL)
            return HOME + text[1:] if text.startswith("~") else text
        if kind == "raw_string":
            return quoted(self._text(node)[1:-1])
        if kind == "ansi_c_string":
            return quoted(decode_ansi(self._text(node)[2:-1]))
        if kind in {"string", "translated_string"}:
            return self._read_string(node)
        if kind == "concatenation":
            return self._join(node)
        if kind == "simple_expansion":
            return self._read_variable(self._text(node).strip()[1:], node)
        if kind == "expansion":
            return self._read_expansion(node)
        if kind in {"command_substitution", "process_substitution"}:
            return self._read_substitution(node)
        if kind in {"arithmetic_expansion", "array", "subscript", "number", "word"}:
            if kind in {"arithmetic_expansion", "subscript"}:
                self._arithmetic(node)
            elif kind == "array" and any(re.match(r"\[(?!\d+\]=)", self._text(child)) for child in node.named_children):
                self._evaluates(node)
            self._children(node, 0)
            return PLAIN if kind == "arithmetic_expansion" else UNKNOWN
        if not node.is_named:
            return "" if self._text(node) == "$" else self._text(node)  # `$` in front of a translated string
        return self._read_pattern(node)

    def _read_pattern(self, node: Node) -> str:
        """Read a word that never is more than unknown text."""
        kind = node.type
        if kind in {"regex", "extglob_pattern"}:
            if HIDDEN.search(self._text(node)):
                raise NotUnderstood("it hides a substitution in a pattern")
            return UNKNOWN
        if kind == "brace_expression":
            return PLAIN if re.fullmatch(r"\{\d+\.\.\d+\}", self._text(node)) else UNKNOWN
        if kind in {"special_variable_name", "test_operator", "string_content"}:
            return UNKNOWN
        raise NotUnderstood(f"it holds a word that avfs does not know ({kind})")

    def _join(self, node: Node) -> str:
        parts: list[str] = []
        at = node.start_byte
        for child in node.children:
            if child.start_byte != at:
                raise NotUnderstood("a word has a gap")
            part = self._read_word(child)
            parts.append(part if not parts or not part.startswith(STARTS) else UNKNOWN)
            at = child.end_byte
        return "".join(parts)

    def _read_string(self, node: Node) -> str:
        """Read what stands in double quotes, also what the grammar passes over between its parts."""
        parts: list[str] = []
        children = node.children
        if children and children[0].type == "string":  # of a translated string
            children = children[0].children
        start = next((child for child in children if self._text(child) in {'"', '$"'}), None)
        if start is None:
            raise NotUnderstood("a string has no beginning")
        at = start.end_byte
        for child in children:
            if child.start_byte < at:
                continue
            parts.append(self._literal(self._source[at : child.start_byte]))
            at = child.end_byte
            if child.type == "string_content":
                parts.append(self._literal(self._text(child)))
                continue
            # The grammar counts blanks in front of a part to the part.
            text = self._text(child)
            parts.append(text[: len(text) - len(text.lstrip())])
            if child.is_named:
                part = self._read_word(child)
                parts.append(quoted(part) if not any(parts) or not part.startswith(STARTS) else UNKNOWN)
            elif text.strip() != '"':
                parts.append(self._literal(text.strip()))
        return "".join(parts)

    def _literal(self, text: str) -> str:
        if "`" in re.sub(r"\\.", "", text, flags=re.DOTALL) or "$(" in re.sub(r"\\.", "", text, flags=re.DOTALL):
            raise NotUnderstood("it hides a substitution in a string")
        return quoted(re.sub(r'\\([\\$`"\n])', lambda match: match[1] if match[1] != "\n" else "", text))

    def _read_variable(self, name: str, node: Node) -> str:
        found = self._settings.values.get(name)
        if name in _NUMBERS and found is None:
            return PLAIN
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            return UNKNOWN  # arguments
        if name in self._bound:
            return self._bound[name]
        if name not in self._resolving and name not in self._variables and self._settings.knows(name, node):
            return self._read_value(name, self._settings.values[name][0])
        if found is None or _HOST_VARIABLES.fullmatch(name):
            if name == "PWD" and found is None:
                return "."
            if name in self._variables and found is None:
                value = self._variables[name]
                return quoted(value) if not re.search(r"[\s*?\[]", value) else UNKNOWN
            return HOME if name == "HOME" else AMBIENT + name
        return UNKNOWN

    def _read_value(self, name: str, value: Node | None) -> str:
        if value is None:
            return UNKNOWN
        self._resolving.add(name)
        try:
            script = self._script
            counts = len(script.commands), len(script.named), len(script.evaluated)
            text = self._read_word(value)
            has_pwd = "pwd" in self._text(value).lower()
            # They are listed where they stand.
            del script.commands[counts[0] :], script.named[counts[1] :], script.evaluated[counts[2] :]
        finally:
            self._resolving.discard(name)
        if has_pwd and self._reached != self._directories:
            return UNKNOWN
        return text if not re.search(r"[\s*?\[{]", text) else UNKNOWN

    def _read_expansion(self, node: Node) -> str:
        """Read `${…}`: only a plain name is known; what stands inside is looked at."""
        text = self._text(node).strip()
        if match := re.fullmatch(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", text):
            return self._read_variable(match[1], node)
        if not _EXPANSION.fullmatch(text):
            if re.search(r"@[A-Za-z]\}$", text):
                raise NotUnderstood("it expands a variable as a prompt, which may run commands")
            self._evaluates(node)
        for child in node.named_children:
            if child.type not in {"variable_name", "special_variable_name"}:
                self._script.named.append(self._word(child))
        if re.fullmatch(r"\$\{#.*\}", text):
            return PLAIN
        if cut := re.fullmatch(r"\$\{(\w+)(%|##)(\.\w+|/\*|\*/)\}", text):
            return _cut(self._read_variable(cut[1], node), cut[2], cut[3])
        match = re.match(r"\$\{([A-Za-z_][A-Za-z0-9_]*)", text)
        known = match is None or match[1] in self._settings.values or match[1] in self._variables
        return UNKNOWN if known or match is None else self._read_variable(match[1], node) + UNKNOWN

    def _read_substitution(self, node: Node) -> str:
        directories, fed, stdin = self._directories, self._is_fed, self._stdin
        self._is_fed, self._stdin = False, None
        self._children(node, 0)
        self._directories, self._is_fed, self._stdin = directories, fed, stdin
        if node.type == "process_substitution":
            return "/dev/fd/63"
        text = self._text(node)
        if self._script.functions:
            return UNKNOWN
        if _NUMBERS_ONLY.fullmatch(text):
            return PLAIN
        if _ROOT_OF_REPOSITORY.fullmatch(text):
            return ROOT
        if re.fullmatch(r"\$\(\s*mktemp( -d)?\s*\)", text):
            return TEMPORARY
        return "." if re.fullmatch(r"\$\(\s*pwd\s*\)", text) else UNKNOWN

    def _text(self, node: Node) -> str:
        return self._source[node.start_byte : node.end_byte]


def _cut(value: str, how: str, pattern: str) -> str:
    """Cut an ending, a directory or a name off a value, where that is what is there."""
    if UNKNOWN in value or value.startswith("/"):
        return UNKNOWN
    if value == ".":  # of `PWD`
        return ".." if pattern == "/*" else UNKNOWN
    if how == "##" and pattern == "*/":
        return value.rpartition("/")[2] or UNKNOWN
    if how == "%" and pattern == "/*":
        return value.rpartition("/")[0] or UNKNOWN
    is_ending = how == "%" and "/" not in pattern and value.endswith(pattern)
    return value.removesuffix(pattern) or UNKNOWN if is_ending else UNKNOWN
