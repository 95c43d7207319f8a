"""What a command may do, as far as its text tells.

Decided here: how what is known of programs (`programs`) and what a text says (`shell`) become findings. `policy.decide`
calls `classify`; nothing is run, looked up or read, so that the same request always gives the same findings. May be
called from any thread.

This is a coarse boundary. It is made so that it errs on the strict side: what is proven to read only is `read_only`, a
program or an option that is not known changes files, a command whose name or text is not known before it runs may do
everything, and the target of a command that destroys or overwrites lies outside until it is proven to lie inside. What
a program that is let in does of its own accord, a symbolic link that leads outside, a program of the workspace that has
the name of a known one in a directory of the search path: that no text tells, and the layers below (read-only view,
isolation) are there for it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable

from avfs_git.proxy.policy.commands import foreign, programs
from avfs_git.proxy.policy.commands.arguments import Arguments, Given, take_apart
from avfs_git.proxy.policy.commands.checks import CHECKS, LOOKS, TAKES_ALL_WORDS
from avfs_git.proxy.policy.commands.findings import Call, Findings, Place, show
from avfs_git.proxy.policy.commands.programs import Option, Program
from avfs_git.proxy.policy.decision import Category, Finding, Request
from avfs_git.proxy.shell import locations, shell, variables
from avfs_git.proxy.shell.expansion import Redirect, SimpleCommand
from avfs_git.proxy.shell.words import AMBIENT, HOME, TEMPORARY, UNKNOWN, Word
from avfs_git.values import replace

_MAX_DEPTH = 24
"""Commands in commands deeper than this are not followed."""
_SYSTEM_PROGRAMS = frozenset(
    {"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin"}
)
"""Where a program with a path is the one of that name."""
_RESERVED = frozenset("! { } [[ ]] (( if then elif else fi for while until do done case esac select function".split())  # noqa: SIM905 - reads best as one text
"""Words of bash's grammar: where one is taken for a program's name, as behind `time`, what it begins is not seen."""
_MOVES = ("-C", "--chdir", "--directory", "--work-tree", "--git-dir", "--cwd", "--prefix")
"""Options that make a program work in another directory."""


def classify(request: Request) -> list[Finding]:
    """Find what a command may do; at least one finding, in the order of the text."""
    classifier = Classifier(request)
    classifier.run()
    return classifier.findings


def categories_of(findings: Iterable[Finding]) -> tuple[Category, ...]:
    """Join findings: a command that does more than read is not `read_only`."""
    present = {finding.category for finding in findings}
    if present - {Category.READ_ONLY, Category.INTERACTIVE}:
        present.discard(Category.READ_ONLY)
    if Category.DESTRUCTIVE in present:
        present.add(Category.MUTATING)
    return tuple(category for category in Category if category in present)


class Classifier(Findings):
    """Classifies one request. Used once, by one thread."""

    def __init__(self, request: Request) -> None:
        super().__init__(request.mountpoint)
        self._request = request
        self._depth = 0

    def run(self) -> None:
        """Classify the request's environment and its command."""
        request = self._request
        cwd = frozenset({locations.start(request.cwd)})
        place = Place("", None, None, cwd, None, is_fed=request.has_stdin, is_typed=request.has_terminal)
        for name, value in request.env:
            self.assignment(
                name, Word(value, exact=True, text=f"{name}={value}"), replace(place, text=f"{name}={value}")
            )
        if request.shell is not None:
            self.text(request.shell, place)
        elif request.argv:
            words = tuple(Word(value, exact="\0" not in value, text=value) for value in request.argv)
            self.program(words, replace(place, text=request.command()))
        if not self.findings:
            self.add("r", "it does nothing", place)

    # --- text ------------------------------------------------------------------------------------

    def text(self, text: str, place: Place) -> None:
        """Classify text for a shell; `place` is that of the command that hands it to one."""
        self._go_deeper(place, lambda: self._parsed(text, place))

    def _parsed(self, text: str, place: Place) -> None:
        is_top = place.start is None and text is self._request.shell
        variables_of_request = dict(self._request.env)
        script = shell.parse(
            text, directories=place.directories, variables=variables_of_request, mountpoint=self._mountpoint
        )
        for problem in script.problems:
            shown = replace(
                place, text=text, start=0 if is_top else place.start, end=len(text) if is_top else place.end
            )
            self.add("wh", f"the text cannot be read: {problem}", shown, exact=False)
            self.add("dn", "what cannot be read may do anything", shown, exact=False)
        if script.problems:
            return
        for command in script.commands:
            self._simple(command, place, script.functions, is_top=is_top)
        for part, start, end in script.evaluated:
            shown = replace(
                place, text=part, start=start if is_top else place.start, end=end if is_top else place.end, words=()
            )
            self.add("w", "evaluates what a variable holds, which may hold commands", shown, exact=False)
            for quoted in re.findall(r"'([^']*)'", part):
                self.expanded(quoted, shown)
        for name in sorted(script.sets):
            if variables.names_a_command(name) or variables.changes_programs(name):
                self.add(
                    "w", f"sets {name}, which makes programs load code or options", replace(place, text=name, words=())
                )
        for word in script.named:
            shown = replace(place, text=word.text or place.text, words=(), paths=self.resolve(word, place))
            self.path(word, shown)
            if word.value and not word.value.startswith("-"):
                self.add("r", "names a file or a text", shown, exact=word.exact)
        if not script.commands:
            self.add("r", "it does nothing", replace(place, text=text))

    def _simple(self, command: SimpleCommand, outer: Place, functions: set[str], *, is_top: bool) -> None:
        place = Place(
            text=command.text,
            start=command.start if is_top else outer.start,
            end=command.end if is_top else outer.end,
            directories=command.directories,
            stdin=command.stdin,
            is_fed=command.is_fed or (outer.is_fed and not command.is_fed),
            is_typed=outer.is_typed and not command.is_fed,
            words=command.words,
        )
        is_read = bool(command.words) and command.words[0].value == "read"
        for name, value in command.assignments:
            if not (is_read and name == "IFS"):  # it counts for that one line that is read
                self.assignment(name, value, place)
        for redirect in command.redirects:
            self._redirect(redirect, place)
        if command.words:
            self.program(command.words, place)
            if command.words[0].value in functions:  # which may take for a path what a program of that name does not
                self.words_as_paths(command.words[1:], place)
        elif not command.redirects:
            self.add("r", "sets a variable of the shell", place)

    def assignment(self, name: str, value: Word, place: Place) -> None:
        """Look at a variable: some make programs run something."""
        if variables.names_a_command(name):
            reason = f"{name} names a command to run"
            if not value.exact:
                self.unseen(f"{reason} that is not known", place)
            elif value.value not in {"", "cat", "true", "false"}:
                self.add("w", reason, place)
                self.text(value.value.lstrip("|-"), replace(place, is_fed=True))
            return
        if variables.changes_programs(name):
            self.add("w", f"{name} makes programs load code or options", place)
            if name in {"GIT_DIR", "GIT_WORK_TREE"}:
                self.target(value, place)
        if value.exact and re.search(r"\$\(|`", value.value):
            self.expanded(value.value, place)  # arithmetic runs what stands in the value of a variable
        if value.value:
            self.add("r", f"sets {name}", replace(place, paths=self.all_paths([value], place)))
        if not name.endswith("PATH"):  # a list of directories, some of which are always outside
            self.path(value, place)

    def _redirect(self, redirect: Redirect, place: Place) -> None:
        target = redirect.target
        place = replace(place, paths=self.resolve(target, place))
        if target.value.startswith(("/dev/tcp/", "/dev/udp/")):
            self.add("n", "connects to another machine", place)
        elif redirect.operator in {"<", "<&"}:
            self.add("r", "reads a file", place, exact=target.exact)
            self.path(target, place)
        elif not (target.exact and locations.DEVICES.fullmatch(target.value)):
            self.add("w", "writes to a file", place, exact=target.exact)
            self.target(target, place)

    # --- programs --------------------------------------------------------------------------------

    def program(self, words: tuple[Word, ...], place: Place) -> None:
        """Classify a command with its arguments."""
        self._go_deeper(place, lambda: self._named_program(words, replace(place, words=words)))

    def _go_deeper(self, place: Place, classify: Callable[[], None]) -> None:
        if self._depth >= _MAX_DEPTH:
            self.unseen("commands stand too deeply in commands", place)
            return
        self._depth += 1
        try:
            classify()
        finally:
            self._depth -= 1

    def _named_program(self, words: tuple[Word, ...], place: Place) -> None:
        first = words[0]
        name = first.value
        if not first.exact:
            if name.startswith((HOME, AMBIENT)) and UNKNOWN not in name and "/" in name[1:]:
                self._other_program(name, words, place)
            else:
                self.unseen("the name of the program is not known before it runs", place)
            return
        if name in self.aliases:
            rest = " ".join(word.text for word in words[1:])
            alias = self.aliases.pop(name)  # not again inside of itself
            self.text(f"{alias} {rest}", place)
            self.aliases[name] = alias  # and the program of that name: not every shell expands aliases
        if name in _RESERVED:
            self.unseen(f"'{name}' begins a statement, which avfs does not see", place)
            return
        base = posixpath.basename(name)
        program = programs.find_program(base) if "/" not in name or _directory_of(name) in _SYSTEM_PROGRAMS else None
        if program is None:
            self._other_program(name, words, place)
        elif len(words) == 2 and words[1].value in (
            program.about or ({"--version", "--help"} if not program.does else ())
        ):
            self.add("r", f"{base} only tells about itself", place)
        elif len(words) == 2 and words[1].value in {"--version", "--help"} and "h" not in program.does:
            self.add("w", f"{base} may be another version of it, which the project names", place)
        else:
            self.known_program(base, program, words, place)

    def _other_program(self, name: str, words: tuple[Word, ...], place: Place) -> None:
        """A program that is not in the table does what it likes; what it is given counts as paths, each word."""
        place = replace(place, paths=self.all_paths(words[1:], place))
        if "/" not in name:
            self.add("w", f"'{name}' is not a program that avfs knows", place)
        else:
            place = replace(place, paths=(*self.resolve(words[0], place), *place.paths))
            self.add("w", "runs a program that is not looked into", place)
            self.path(words[0], place)
        self.words_as_paths(words[1:], place)
        self._works_in(place)
        self.written_options(words[1:], place)
        foreign.look_at_words(self, posixpath.basename(name), words[1:], place)

    def known_program(self, name: str, program: Program, words: tuple[Word, ...], place: Place) -> None:
        """Classify a program of the table."""
        arguments = Arguments(operands=list(words[1:]))
        if program.check not in TAKES_ALL_WORDS:
            arguments = take_apart(words[1:], program, stops=program.runs is not None or bool(program.other))
        place = self._placed(program, arguments, place)
        call = Call(name, program, words, arguments, place)
        before = len(self.findings)
        outer, self._looked_at = self._looked_at, []
        only_looks = program.check in LOOKS and LOOKS[program.check](call)
        has_subcommand = bool(program.other) and bool(arguments.operands)  # then that one says what it does
        letters = "" if only_looks or has_subcommand else program.does
        if letters:
            self.add(letters, f"{name} {program.why}" if program.why else name, place)
        if "w" in letters:
            self._works_in(place)
        letters += self._options(call)
        names_targets = "written" in program.operands and arguments.operands  # which are looked at one by one
        if "d" in letters and not names_targets and not all(map(self._may_be_emptied, place.directories)):
            self.add(
                "h", f"{name} destroys something in a directory that is not known to be inside of the workspace", place
            )
        self._operands(call)
        if (check := CHECKS.get(program.check)) is not None:
            check(self, call)
        elif program.other:
            self.subcommand(call)
        elif program.runs is not None:
            self.inner(name, arguments.operands[program.runs :], place)
        if len(self.findings) == before:
            self.add("r", f"{name} only reads", place)
        told = {path for finding in self.findings[before:] for path in finding.paths}
        named = tuple(dict.fromkeys(path for path in (*place.paths, *self._looked_at) if path not in told))
        if named:  # rules about paths are to see all of them
            self.add("r", f"{name} names files", replace(place, paths=named[:64]))
        self._looked_at = outer

    def _works_in(self, place: Place) -> None:
        """Look where a program works that may write: what lies there may be read without a question, and no more."""
        for location in sorted(place.directories):
            is_known = locations.is_outside(location) and UNKNOWN not in location
            if is_known and not locations.may_be_written(location, self._mountpoint):
                shown = (locations.shown(location),)
                self.add("h", "works in a directory outside of the workspace", place, paths=shown)

    def _may_be_emptied(self, location: str) -> bool:
        return locations.is_inside(location) or locations.may_be_written(location, self._mountpoint, removes=True)

    def _placed(self, program: Program, arguments: Arguments, place: Place) -> Place:
        """Find the paths that a command names, and where it runs after `-C DIRECTORY` and the like."""
        words = [*_paths_of(program, arguments), *(given.value for given in arguments.options if _is_path(given))]
        paths = self.all_paths([word for word in words if word is not None], place)
        directories = place.directories
        for given in arguments.options:
            if given.value is not None and (given.name in _MOVES or given.is_one_of(*_MOVES)):
                moved = {locations.locate(given.value.value, each, self._mountpoint) for each in place.directories}
                directories = frozenset(moved) if given.name == "-C" else directories | moved
        moved_place = replace(place, directories=directories)
        if directories != place.directories:
            paths = tuple(dict.fromkeys([*paths, *self.all_paths(_paths_of(program, arguments), moved_place)]))
        return replace(moved_place, paths=paths)

    def _options(self, call: Call) -> str:
        """Look at options; returns the letters that they add."""
        name, program, arguments, place = call.name, call.program, call.arguments, call.place
        letters = ""
        if not program.only_reads and program.operands[:1] in {("tool",), ("changed",)}:
            self.written_options(call.words[1:], place)
            if "n" not in program.does:
                foreign.look_at_words(self, "", arguments.operands, place)
        for given in arguments.options:
            if not given.may_be and given.value is not None:
                self.path(given.value, place)
            for whole, option in given.may_be:
                letters += option.does
                self._option(call, whole, option, given)
        shifts = program.runs is not None or bool(program.other)
        if arguments.unknown and shifts:
            self.unseen(f"{name} has an option that avfs does not know ('{arguments.unknown[0]}')", place)
        elif arguments.unknown and program.only_reads:
            self.add("w", f"{name} has an option that avfs does not know ('{arguments.unknown[0]}')", place)
        if arguments.may_be_option and shifts:
            self.unseen(f"a word that is not known may be an option of {name}", place)
        elif arguments.may_be_option:
            possible = {letter for option in program.options.values() for letter in option.does}
            possible |= {"w" for option in program.options.values() if option.means == "command"}
            if possible:
                self.add(
                    "".join(sorted(possible - {"h"})),
                    f"a word that is not known may be an option of {name}",
                    place,
                    exact=False,
                )
        return letters

    def _option(self, call: Call, whole: str, option: Option, given: Given) -> None:
        if option.means == "command":
            self.command_value(call.name, whole, given.value, call.place)
            return
        if option.does:
            self.add(option.does, f"{call.name} {whole} {option.why}".strip(), call.place)
        if given.value is not None and option.means == "written":
            self.target(given.value, call.place)
        elif given.value is not None and option.means == "path":
            self.path(given.value, call.place)

    def _operands(self, call: Call) -> None:
        program, operands = call.program, call.arguments.operands
        if program.runs is not None or program.other or program.check in TAKES_ALL_WORDS:
            return
        kind = program.operands
        first, count = (int(kind[1]) if kind[1:2] and kind[1].isdigit() else 0), len(operands)
        for number, word in enumerate(operands):
            if kind[:1] == ("text",) and (len(kind) == 1 or number < first):
                continue
            is_written = "written" in kind and (
                number == count - 1 and count > 1
                if kind[-1] == "last"
                else number >= (first if kind[0] == "written" else 0)
            )
            if kind[:1] in {("created",), ("changed",)}:
                self.target(word, call.place, may_be_unknown=True)
            elif is_written:
                if program.only_reads:
                    self.add("w", f"{call.name} writes what it names", call.place)
                removes = any("d" in option.does for option in program.options.values()) or "d" in program.does
                if program.name == "chmod" and not word.value.startswith(TEMPORARY):
                    removes = True  # a directory that everybody uses keeps its modes
                removes = removes and not (program.name == "mv" and number == count - 1 > 0)  # to where it moves
                self.target(word, call.place, removes=removes)
            else:
                self.path(word, call.place)

    def subcommand(self, call: Call) -> None:
        """Classify what stands behind the name of a program that has subcommands."""
        program, place = call.program, call.place
        # cargo +nightly
        operands = [word for word in call.arguments.operands if not (word.exact and word.value.startswith("+"))]
        if not operands:
            return
        word = operands[0]
        if not word.exact:
            self.unseen(f"what {call.name} is to do is not known", place)
            return
        label = f"{call.name} {show(word)}"
        found = programs.find(label) or programs.find(f"{program.name} {word.value}")
        if found is not None:
            self.known_program(label, found, tuple(operands), place)
            return
        if program.name == "git reflog":  # `git reflog REF`
            self.known_program(label, programs.find("git log") or program, (word, *operands), place)
            return
        place = replace(place, paths=(*place.paths, *self.all_paths(operands[1:], place)))
        what = "may talk to other machines" if "n" in program.other else "is not known to only read"
        self.add(program.other, f"{label} {what}", place)
        self.words_as_paths(operands[1:], place)


def _is_path(given: Given) -> bool:
    """Whether the value of an option may be a path."""
    return not given.may_be or any(option.means in {"path", "written"} for _, option in given.may_be)


def _paths_of(program: Program, arguments: Arguments) -> list[Word]:
    """Give the operands that are paths."""
    if program.runs is not None or program.other or program.check in TAKES_ALL_WORDS:
        return []
    if program.operands[:1] == ("text",):
        return arguments.operands[int(program.operands[1]) :] if program.operands[1:] else []
    return arguments.operands


def _directory_of(program: str) -> str:
    """Give the directory of a program that is named by its path; two slashes at the start are one here."""
    return re.sub(r"^/+", "/", posixpath.normpath(posixpath.dirname(program)))
