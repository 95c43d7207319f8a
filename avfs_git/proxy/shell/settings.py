"""The variables that a shell text sets, where their values are known, and the names of the functions it defines.

Decided here: when a variable has, at some place of a text, the one value that the text gives it: it is set once, by a
plain assignment that has surely happened there, and nothing else in the text can set it. Everything else that sets
variables (loops, defaults, arithmetic, `read`, `printf -v`, `eval`, …) makes its value unknown. `shell` alone calls
this. Used by one thread.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from avfs_git.patterns import compiled

if TYPE_CHECKING:
    from tree_sitter import Node

_SETTERS = frozenset(
    """read mapfile readarray getopts printf local declare typeset export readonly let
    unset wait""".split()  # noqa: SIM905 - reads best as one text
)
"""Commands that give values to variables which they are told the names of."""
_HIDDEN_SETTERS = frozenset("eval source . trap alias coproc enable".split())  # noqa: SIM905 - the same
"""Commands behind which the value of no variable is known."""
_PREFIXES = frozenset({"command", "builtin", "time", "noglob", "nocorrect"})
"""Commands that run another one in the same shell."""
_HARMLESS_OPTIONS = frozenset({"-r", "-x", "-a", "-g", "-s", "-t", "-f", "-rx", "-gx"})
_QUOTES = compiled(r"[\\'\"]")
_SET_BY_SHELL = compiled(r"_|REPLY|MAPFILE|OPT\w+|BASH\w*|COPROC|PIPESTATUS|DIRSTACK|FUNCNAME|HIST\w+|IFS")


class Settings:
    """What one text sets."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.values: dict[str, list[Node | None]] = {}
        """What each variable is given: a node for a plain assignment, None for anything else."""
        self.hidden: set[str] = set()
        """Variables that are set without an assignment: by loops, defaults and arithmetic."""
        self.functions: set[str] = set()
        self._are_known = True

    def note_all(self, root: Node, max_depth: int) -> None:
        """Note what the text sets, before any of it is used.

        Raises:
            RecursionError: If it is nested more deeply than `max_depth`.
        """
        pending = [(root, 0)]
        while pending:
            node, depth = pending.pop()
            if depth > max_depth:
                raise RecursionError
            self._note_setting(node)
            if node.type == "function_definition" and (name := node.child_by_field_name("name")) is not None:
                self.functions.add(self._text(name))
            pending.extend((child, depth + 1) for child in node.children)

    def _note_setting(self, node: Node) -> None:
        """Note which variables a part of the text may set."""
        name = node.child_by_field_name("name")
        if node.type == "variable_assignment":
            value = node.child_by_field_name("value")
            # Neither an element of an array nor an addition to what was there.
            plain = (
                name is not None and name.type == "variable_name" and all(self._text(c) != "+=" for c in node.children)
            )
            self._set(self._text(name).partition("[")[0] if name else "", value if plain else None)
        elif node.type == "for_statement":
            variable = node.child_by_field_name("variable")
            self._set(self._text(variable) if variable else "", None, is_hidden=True)
        elif node.type == "expansion" and re.match(r"\s*\$\{![^}]*=", self._text(node)):
            self._are_known = False
        elif node.type == "expansion" and (match := re.match(r"\s*\$\{(\w+)[^}]*?:?=", self._text(node))):
            self._set(match[1], None, is_hidden=True)
        elif node.type in {"arithmetic_expansion", "subscript", "c_style_for_statement", "compound_statement"}:
            text = self._text(node)
            if node.type != "compound_statement" or text.startswith("(("):
                for word in re.findall(r"[A-Za-z_]\w*", text.partition("do")[0] if node.type[0] == "c" else text):
                    self._set(word, None, is_hidden=True)
        elif node.type in {"command", "declaration_command", "unset_command"}:
            self._note_setter(node)

    def _note_setter(self, node: Node) -> None:
        """Note what a command may set: what is not plainly the name of a variable may be the name of any."""
        words = [child for child in node.named_children if child.type not in {"file_redirect", "herestring_redirect"}]
        if node.type == "command":
            words = [child for child in words if child.type != "variable_assignment"]
        else:
            words = [node.children[0], *words]
        texts = [_QUOTES.sub("", self._text(word)) for word in words]
        while texts and (texts[0] in _PREFIXES or (texts[0].startswith("-") and len(texts) < len(words))):
            del texts[0]
        called, rest = (texts[0], texts[1:]) if texts else ("", [])
        is_named = re.search(r"[$`{}*?\[\]~]", called.strip("[")) is None
        if called in _HIDDEN_SETTERS or not is_named:
            self._are_known = False
        if called not in _SETTERS or (called == "printf" and not (rest and re.match(r"[-$`*?]", rest[0]))):
            return
        for word, text in zip(words[len(words) - len(rest) :], rest, strict=True):
            if re.fullmatch(r"[A-Za-z_]\w*", text):
                self._set(text, None)
            elif word.type != "variable_assignment" and text not in _HARMLESS_OPTIONS:
                self._are_known = False

    def _set(self, name: str, value: Node | None, *, is_hidden: bool = False) -> None:
        if is_hidden:
            self.hidden.add(name)
        self.values.setdefault(name, []).append(value)

    def knows(self, name: str, use: Node) -> bool:
        """Whether a variable has the one value that the text gives it, wherever it is used there."""
        found = self.values.get(name, [])
        if len(found) != 1 or found[0] is None or not self._are_known or "IFS" in self.values:
            return False
        if _SET_BY_SHELL.fullmatch(name):
            return False
        setting = found[0].parent
        return setting is not None and _comes_before(setting, use)

    def is_plain_loop(self, name: str) -> bool:
        """Whether a variable is that of one loop, and nothing else sets it."""
        return self.values.get(name) == [None] and self._are_known and not _SET_BY_SHELL.fullmatch(name)

    def _text(self, node: Node) -> str:
        return self._source[node.start_byte : node.end_byte]


_BLOCKS = frozenset({"program", "subshell", "compound_statement", "do_group"})


def _comes_before(setting: Node, use: Node) -> bool:
    """Whether an assignment has surely happened, in the same shell, where something else stands."""
    node = setting
    if node.parent is not None and node.parent.type in {"variable_assignments", "declaration_command"}:
        node = node.parent
    is_sure = True
    while (parent := node.parent) is not None:
        following = node.next_sibling
        if following is not None and following.type in {"&", "|", "|&", "||"}:
            return False
        is_behind = parent.start_byte <= use.start_byte < parent.end_byte and use.start_byte >= node.end_byte
        if parent.type in _BLOCKS:
            return is_sure and is_behind
        if parent.type != "list" or all(child.type != "&&" for child in parent.children):
            return False
        if is_behind:
            return True
        is_sure = is_sure and node.start_byte == parent.start_byte
        node = parent
    return False
