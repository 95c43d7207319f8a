"""Shell text taken apart into the simple commands that it may run.

Decided here: which statements of bash are understood, where each command may run, and what it reads. `grammar` parses
the text, `expansion` reads its words. Only `classify` calls this. What the commands mean is not known here.

The reader would rather give up than guess: text that does not parse, a construct that is not in its table, a
substitution that the grammar hides in a word, each is a `problem`, and whoever has one must expect anything. Every
command that stands anywhere is listed, in the order of the text, whether it would run or not: those in substitutions,
functions, branches, here-documents.

Pure functions, safe from any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from avfs_git.proxy.shell import locations
from avfs_git.proxy.shell.expansion import HIDDEN, NotUnderstood, Redirect, Script, SimpleCommand, WordReader
from avfs_git.proxy.shell.grammar import read_tree
from avfs_git.proxy.shell.words import HOME, PLAIN, RESERVED, UNKNOWN, Word, expand_braces, finish, name_part

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_TEXT = 1 << 20
"""Longer texts are not read."""
MAX_DEPTH = 60
"""Text that is nested deeper is not read."""
_MAX_NODES = 20_000
"""Text of more parts is not read: a word costs some tenths of a millisecond until it is judged."""
_MAX_DIRECTORIES = 16


def parse(
    text: str,
    *,
    directories: frozenset[str] = frozenset({":"}),
    variables: Mapping[str, str] | None = None,
    mountpoint: str | None = None,
) -> Script:
    """Take a text apart."""
    script = Script()
    if len(text) > MAX_TEXT or "\0" in text or RESERVED.search(text):
        script.problems.append(
            "it is too long" if len(text) > MAX_TEXT else "it holds characters that no command needs"
        )
        return script
    tree = read_tree(text)
    if tree is None or tree.root_node.descendant_count > _MAX_NODES:
        script.problems.append("it takes too long to read")
    else:
        _Reader(text, script, variables or {}, mountpoint).read(tree.root_node, directories)
    return script


_STATEMENTS = frozenset(
    """program redirected_statement for_statement c_style_for_statement while_statement do_group if_statement
    elif_clause else_clause case_statement case_item function_definition compound_statement subshell pipeline
    list negated_command test_command variable_assignments unary_expression binary_expression postfix_expression
    parenthesized_expression ternary_expression subscript arithmetic_expansion heredoc_body
    comment""".split()  # noqa: SIM905 - names read best as one text
)
_WORDS = frozenset(
    """word number string translated_string raw_string ansi_c_string concatenation simple_expansion expansion
    command_substitution process_substitution arithmetic_expansion brace_expression regex extglob_pattern array
    variable_name special_variable_name string_content test_operator heredoc_content subscript""".split()  # noqa: SIM905 - the same
)
_REPEATED = frozenset({"for_statement", "c_style_for_statement", "while_statement", "function_definition"})
_SILENT = frozenset({"comment", "test_operator", "heredoc_start", "heredoc_end", "file_descriptor", "heredoc_content"})
_MAY_CHANGE_DIRECTORY = frozenset({"eval", "source", ".", "trap", "builtin", "command"})
_AGAIN = "again "
_MAX_ROUNDS = 16
_MAX_UNROLLED = 400
"""A loop is read once for each word of its list, unless there are more words, or commands, than this."""


class _Reader(WordReader):
    """Walks one tree. Used once, by one thread."""

    def __init__(self, source: str, script: Script, variables: Mapping[str, str], mountpoint: str | None) -> None:
        super().__init__(source, script, variables)
        self._mountpoint = mountpoint
        self._visits: dict[str, Callable[[Node, int], object]] = {
            "command": self._command,
            "declaration_command": self._declaration,
            "unset_command": self._unset,
            "variable_assignment": lambda node, _depth: self._add(node, assignments=(self._assignment(node),)),
            "file_redirect": lambda node, _depth: self._add(node, redirects=self._redirect(node)),
            "list": self._list,
            "pipeline": self._pipeline,
            "for_statement": self._for,
            "test_command": self._test,
            "subshell": self._subshell,
            "redirected_statement": self._redirected,
        }

    def read(self, root: Node, directories: frozenset[str]) -> None:
        """Fill the script from a whole tree."""
        self._directories = self._reached = directories
        try:
            if root.has_error:
                raise NotUnderstood("it does not parse as a shell would need it")
            self._settings.note_all(root, MAX_DEPTH * 4)
            self._check_gaps(root)
            self._script.sets, self._script.functions = self._settings.hidden, self._settings.functions
            self._visit(root, 0)
        except NotUnderstood as problem:
            self._script.problems.append(str(problem))
        except RecursionError:
            self._script.problems.append("it is nested too deeply")

    def _check_gaps(self, root: Node) -> None:
        """Give up where the grammar passes over a substitution between two parts.

        Quoted texts and documents look themselves.
        """
        pending = [root]
        while pending:
            node = pending.pop()
            children = node.children
            pending += children
            if node.type == "heredoc_redirect":
                self._check_end(node)
            if not children or node.type in {"string", "translated_string", "heredoc_body"}:
                continue
            at, passed = node.start_byte, []
            for child in children:
                passed.append(self._source[at : child.start_byte])
                at = child.end_byte
            if HIDDEN.search(" ".join([*passed, self._source[at : node.end_byte]])):
                raise NotUnderstood("it hides a substitution between its parts")

    def _check_end(self, node: Node) -> None:
        """Give up where a here-document ends at another line for the grammar than for bash: what follows is hidden.

        The grammar gets some letters as others (`grammar.read_tree`), and joins no lines.
        """
        parts = {child.type: child for child in node.children}
        start, end = parts.get("heredoc_start"), parts.get("heredoc_end")
        if start is None or end is None:
            raise NotUnderstood("it has a here-document without an end")
        named = self._text(start)
        name = re.sub(r"['\"\\]", "", named)
        body = parts.get("heredoc_body", end)
        text = self._source[body.start_byte : end.end_byte] + self._source[end.end_byte :].partition("\n")[0]
        if name == named:
            text = re.sub(r"\\(.)", lambda match: "" if match[1] == "\n" else match[0], text, flags=re.DOTALL)
        lines = [line.lstrip("\t") if "<<-" in parts else line for line in text.split("\n")]
        if lines[-1] != name or name in lines[:-1]:
            raise NotUnderstood("it has a here-document whose end is not certain")

    # --- statements ------------------------------------------------------------------------------

    def _visit(self, node: Node, depth: int) -> None:
        if depth > MAX_DEPTH * 2:
            raise NotUnderstood("it is nested too deeply")
        kind = node.type
        if (visit := self._visits.get(kind)) is not None:
            visit(node, depth)
        elif kind in _STATEMENTS:
            if kind in _REPEATED:
                self._directories |= {":"}  # a `cd ..` in it may happen more than once: then it counts from the root
            self._arithmetic_of(node)
            self._children(node, depth)
        elif kind in _SILENT or not node.is_named:
            pass
        elif kind in _WORDS:
            self._script.named.append(self._word(node))
        else:
            raise NotUnderstood(f"it holds a construct that avfs does not know ({kind})")

    def _subshell(self, node: Node, depth: int) -> None:
        before = self._directories
        self._children(node, depth)
        self._directories = before

    def _unset(self, node: Node, _depth: int) -> None:
        words = [word for child in node.children[1:] for word in self._words(child)]
        self._add(node, words=(Word("unset", exact=True, text="unset"), *words))

    def _children(self, node: Node, depth: int) -> None:
        names = [node.child_by_field_name("name"), node.child_by_field_name("variable")]
        for child in node.children:
            if child.is_named and child not in names:
                before = self._directories
                self._visit(child, depth + 1)
                self._directories |= before  # any of it may not have happened
                if len(self._directories) > _MAX_DIRECTORIES:
                    raise NotUnderstood("it changes its directory too often")

    def _arithmetic_of(self, node: Node) -> None:
        """Look at the arithmetic that a statement is, or has in its head."""
        if (node.type == "compound_statement" and self._text(node).startswith("((")) or node.type in {
            "subscript",
            "arithmetic_expansion",
        }:
            self._arithmetic(node)
        elif node.type == "c_style_for_statement":
            for name in ("initializer", "condition", "update"):
                for part in node.children_by_field_name(name):
                    self._arithmetic(part)

    def _for(self, node: Node, depth: int) -> None:
        """Read a loop once for each word of its list, where these are known, else once."""
        variable = node.child_by_field_name("variable")
        name = self._text(variable) if variable else ""
        body = node.child_by_field_name("body")
        rounds: list[str] = []
        self._directories |= {":"}
        for value in node.children_by_field_name("value"):
            before = len(self._script.commands)
            marked = expand_braces(self._read_word(value))
            self._script.named += [finish(each, self._text(value)) for each in marked]
            is_fixed = len(self._script.commands) == before or all(PLAIN in each for each in marked)
            rounds += [name_part(each) if is_fixed else UNKNOWN for each in marked]
        is_plain = self._settings.is_plain_loop(name) and self._text(node).startswith("for")
        if not is_plain or not rounds or len(rounds) > _MAX_ROUNDS or len(self._script.commands) > _MAX_UNROLLED:
            rounds = [UNKNOWN]
        outer = self._bound.get(name)
        for each in dict.fromkeys(rounds):
            self._bound[name] = UNKNOWN if re.search(r"\s", each) else each
            start = self._directories
            if body is not None:
                self._visit(body, depth + 1)
            self._directories |= start
        # behind the loop it is one of them, or was never set
        self._bound[name] = outer if outer is not None else UNKNOWN

    def _test(self, node: Node, depth: int) -> None:
        """`[ … ]` and `[[ … ]]`: which of them evaluate what a variable holds."""
        is_single = not self._text(node).startswith("[[")
        pending = list(node.named_children)
        while pending:
            part = pending.pop()
            operator = next((self._text(child) for child in part.children if child.type == "test_operator"), "")
            operands = [child for child in part.named_children if child.type != "test_operator"]
            if operator in {"-v", "-R"} and not all(
                re.fullmatch(r"[A-Za-z_]\w*", self._text(each)) for each in operands
            ):
                self._evaluates(part)
            elif operator in {"-eq", "-ne", "-lt", "-le", "-gt", "-ge"} and not is_single:
                if not all(re.fullmatch(r"\d+|\$[?#]|\$\{#\w+\}", self._text(each)) for each in operands):
                    self._evaluates(part)
            elif operator in {"-a", "-o"} and len(operands) > 1 and "$" in self._text(part):
                self._evaluates(part)
            if is_single and part.type in {"simple_expansion", "expansion", "command_substitution", "concatenation"}:
                if "$" in self._text(part) and not re.fullmatch(r"\$[?#$!]|\$\{#\w+\}", self._text(part)):
                    self._evaluates(part)  # it may come to several words, and operators
            elif part.type in {"unary_expression", "binary_expression", "parenthesized_expression", "negated_command"}:
                pending += part.named_children
        self._children(node, depth)

    def _list(self, node: Node, depth: int) -> None:
        """`a && b`: where `b` runs, `a` has succeeded."""
        named = [child for child in node.children if child.is_named]
        operators = {child.type for child in node.children if not child.is_named}
        before = self._directories
        for child in named:
            if operators != {"&&"}:
                self._directories |= before
            self._visit(child, depth + 1)

    def _pipeline(self, node: Node, depth: int) -> None:
        fed, stdin, directories = self._is_fed, self._stdin, self._directories
        for child in node.children:
            if child.is_named:
                self._visit(child, depth + 1)
                self._is_fed, self._stdin = True, None
                self._directories = directories  # each part is a process of its own
        self._is_fed, self._stdin = fed, stdin

    def _redirected(self, node: Node, depth: int) -> None:
        body = node.child_by_field_name("body")
        redirects: list[Redirect] = []
        rest: list[Node] = []
        fed, stdin = self._is_fed, self._stdin
        for child in node.children_by_field_name("redirect"):
            if child.type == "heredoc_redirect":
                self._stdin, self._is_fed = self._heredoc(child, redirects, rest), True
            elif child.type == "herestring_redirect":
                self._stdin, self._is_fed = self._word(child.named_children[-1]), True
            elif child.type == "file_redirect":
                redirects += self._redirect(child)
                if redirects and redirects[-1].operator == "<":
                    self._stdin, self._is_fed = None, True
            else:
                raise NotUnderstood(f"it holds a redirection that avfs does not know ({child.type})")
        first = len(self._script.commands)
        if body is not None:
            self._visit(body, depth + 1)
        if body is not None and body.type == "command" and len(self._script.commands) > first:
            last = self._script.commands[-1]
            last.redirects += tuple(redirects)
            last.end = node.end_byte if not rest else last.end
        elif redirects:
            self._add(node, redirects=tuple(redirects))
        self._stdin, self._is_fed = None, True  # what stands behind `<<END` may be the next part of a pipe
        for part in rest:
            self._visit(part, depth + 1)
        self._stdin, self._is_fed = stdin, fed

    def _heredoc(self, node: Node, redirects: list[Redirect], rest: list[Node]) -> Word:
        """Give a here-document's text; collect what the grammar puts inside it but stands on its first line."""
        text: Word | None = None
        for child in node.children:
            if child.type == "heredoc_body":
                text = self._heredoc_body(node, child)
            elif child.type == "file_redirect":
                redirects += self._redirect(child)
            elif child.type in {"heredoc_start", "heredoc_end", "file_descriptor"} or not child.is_named:
                pass
            elif child.type == "herestring_redirect":
                raise NotUnderstood("it holds two inputs at once")
            elif node.field_name_for_child(node.children.index(child)) == "argument":
                raise NotUnderstood("a command goes on behind a here-document")
            else:
                rest.append(child)
        return text or Word("", exact=True, text="")

    def _heredoc_body(self, node: Node, body: Node) -> Word:
        start = next((child for child in node.children if child.type == "heredoc_start"), None)
        literal = start is not None and bool(set(self._text(start)) & set("'\"\\"))
        text = self._text(body)
        if literal:
            return Word(text, exact=True, text=text)
        before = len(self._script.named)
        self._children(body, 0)
        del self._script.named[before:]  # text, not names of files
        at, plain = body.start_byte, ""
        for child in body.named_children:  # what the grammar passes over, it has not looked into
            plain += self._source[at : child.start_byte] + (
                self._text(child) if child.type == "heredoc_content" else " "
            )
            at = child.end_byte
        if HIDDEN.search(re.sub(r"\\.", "", plain + self._source[at : body.end_byte], flags=re.DOTALL)):
            self._read_again(body)
        if "$" in text or "`" in text:
            return Word(UNKNOWN, exact=False, text=text)
        return Word(text.replace("\\\n", ""), exact=True, text=text)

    def _read_again(self, body: Node) -> None:
        """Read a here-document whose first substitution the grammar passes over, with letters in front of it."""
        text = self._text(body)
        if text.startswith(_AGAIN):
            raise NotUnderstood("it hides a substitution in a here-document")
        end = next(name for name in map("END_{}".format, range(len(text) + 1)) if name not in text)
        inner = parse(
            f": <<{end}\n{_AGAIN}{text}\n{end}\n",
            directories=self._directories,
            variables=self._variables,
            mountpoint=self._mountpoint,
        )
        self._script.problems += inner.problems
        self._script.sets |= inner.sets
        self._script.evaluated += [(part, body.start_byte, body.end_byte) for part, _, _ in inner.evaluated]
        for command in inner.commands[:-1]:  # the last is `:`
            command.start, command.end = body.start_byte, body.end_byte
            self._script.commands.append(command)

    # --- commands --------------------------------------------------------------------------------

    def _command(self, node: Node, _depth: int) -> None:
        words: list[Word] = []
        assignments: list[tuple[str, Word]] = []
        redirects: list[Redirect] = []
        stdin, is_fed = self._stdin, self._is_fed
        for child in node.children:
            if child.type == "variable_assignment":
                assignments.append(self._assignment(child))
            elif child.type == "file_redirect":
                redirects += self._redirect(child)
                is_fed = is_fed or any(redirect.operator == "<" for redirect in redirects)
            elif child.type == "herestring_redirect":
                stdin, is_fed = self._word(child.named_children[-1]), True
            elif child.type == "heredoc_redirect":
                raise NotUnderstood("a here-document stands where avfs does not know it")
            elif child.type == "command_name":
                words += self._words(child.children[0])
            elif child.type == "subshell":
                raise NotUnderstood("it holds a bracket that avfs does not know")
            elif self._text(child) != "$":  # of a translated string
                words += self._words(child)
        made = self._add(node, words=tuple(words), assignments=tuple(assignments), redirects=tuple(redirects))
        made.stdin, made.is_fed = stdin, is_fed
        called = words
        while called and called[0].value in {"command", "builtin"}:
            called = called[1:]
        if called and called[0].value in {"cd", "pushd", "popd"}:
            self._change_directory(called)
        elif called and (called[0].value in _MAY_CHANGE_DIRECTORY or called[0].value in self._script.functions):
            self._directories |= {":"} | self._reached

    def _change_directory(self, words: list[Word]) -> None:
        operands = [word for word in words[1:] if not (word.exact and re.fullmatch(r"-[LPe@n]+|--", word.value))]
        target = operands[0].value if operands else HOME
        if words[0].value != "cd" and not operands:
            target = UNKNOWN
        if len(operands) > 1 or target == "-" or re.match(r"[-+]\d", target) or (operands and operands[0].is_pattern):
            target = UNKNOWN
        if not re.match(r"\.{0,2}/|\.{1,2}$", target) and (
            "CDPATH" in self._settings.values or "CDPATH" in self._variables
        ):
            target = UNKNOWN
        self._directories = frozenset(locations.locate(target, each, self._mountpoint) for each in self._directories)
        if any(UNKNOWN in each for each in self._directories):
            self._directories |= {locations.NOWHERE}
        self._reached |= self._directories

    def _declaration(self, node: Node, _depth: int) -> None:
        """`export`, `declare` and their like."""
        words = [Word(self._text(node.children[0]), exact=True, text=self._text(node.children[0]))]
        assignments = []
        for child in node.children[1:]:
            if child.type == "variable_assignment":
                assignments.append(self._assignment(child))
            elif child.is_named:
                words += self._words(child)
        self._add(node, words=tuple(words), assignments=tuple(assignments))

    def _assignment(self, node: Node) -> tuple[str, Word]:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is not None and name.type == "subscript":
            self._word(name)
        text = self._text(name).partition("[")[0] if name is not None else ""
        return text, self._word(value) if value is not None else Word("", exact=True, text="")

    def _redirect(self, node: Node) -> tuple[Redirect, ...]:
        operator = next((self._text(child) for child in node.children if not child.is_named), "")
        if operator in {">&-", "<&-"}:
            return ()
        made = []
        for target in node.children_by_field_name("destination"):
            if operator in {">&", "<&"} and target.type == "number":
                continue
            made += [Redirect(operator, word) for word in self._words(target)]
        return tuple(made[:1]) + tuple(Redirect(operator, redirect.target) for redirect in made[1:])

    def _add(
        self,
        node: Node,
        *,
        words: tuple[Word, ...] = (),
        assignments: tuple[tuple[str, Word], ...] = (),
        redirects: tuple[Redirect, ...] = (),
    ) -> SimpleCommand:
        made = SimpleCommand(
            words=words,
            assignments=assignments,
            redirects=redirects,
            text=self._text(node),
            start=node.start_byte,
            end=node.end_byte,
            directories=self._directories,
        )
        self._script.commands.append(made)
        return made
