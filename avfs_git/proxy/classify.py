"""What a command may do, as far as its text tells.

Decided here: how what is known of programs (`commands`) and what a text says (`shell`) become findings. `policy.decide` calls
`classify`; nothing is run, looked up or read, so that the same request always gives the same findings. May be called from any
thread.

This is a coarse boundary. It is made so that it errs on the strict side: what is proven to read only is `read_only`, a
program that is not known changes files, a command whose name or text is not known before it runs may do everything. What a
program that is let in does of its own accord, a symbolic link that leads outside, a program of the workspace that has the name
of a known one in a directory of the search path: that no text tells, and the layers below (mount, isolation) are there for it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from avfs_git.proxy import commands as known
from avfs_git.proxy import shell
from avfs_git.proxy.arguments import Arguments, effects, take_apart
from avfs_git.proxy.checks import CHECKS, LOOKS, Call
from avfs_git.proxy.commands import Program
from avfs_git.proxy.request import Category, Finding, Request
from avfs_git.proxy.shell import Redirect, SimpleCommand
from avfs_git.proxy.words import AMBIENT, HOME, UNKNOWN, Word
from avfs_git.values import record_class, replace

_LETTERS = {
    "r": Category.READ_ONLY,
    "w": Category.MUTATING,
    "d": Category.DESTRUCTIVE,
    "n": Category.NETWORKED,
    "h": Category.HOST_ESCAPE_RISK,
    "i": Category.INTERACTIVE,
}
_WORST = "wdnh"
_MAX_DEPTH = 24
"""Commands in commands deeper than this are not followed."""
_MAX_FINDINGS = 2000
_MAX_SHOWN = 200

_UNKNOWN_WORD = Word(UNKNOWN, exact=False, text="")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}://\S*")
_VERSIONED = re.compile(r"(.*?[A-Za-z+])[-.0-9]+")
_REMOTE = re.compile(r"[^/\s]+::?[^:]|rsync://")


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


@record_class
class Place:
    """Where a simple command stands, and what is true there."""

    text: str
    start: int | None
    end: int | None
    directories: frozenset[str]
    stdin: Word | None
    is_fed: bool
    words: tuple[Word, ...] = ()
    paths: tuple[str, ...] = ()


class Classifier:
    """Classifies one request. Used once, by one thread."""

    def __init__(self, request: Request) -> None:
        self.findings: list[Finding] = []
        self._request = request
        self._depth = 0
        self._seen: set[tuple[object, ...]] = set()
        self.aliases: dict[str, str] = {}
        self._mountpoint = posixpath.normpath(request.mountpoint) if request.mountpoint else None

    def run(self) -> None:
        """Classify the request's environment and its command."""
        request = self._request
        cwd = frozenset({posixpath.normpath("/" + request.cwd.strip("/"))})
        place = Place("", None, None, cwd, None, is_fed=request.has_stdin)
        for name, value in request.env:
            self.assignment(name, Word(value, exact=True, text=f"{name}={value}"), replace(place, text=f"{name}={value}"))
        if request.shell is not None:
            self.text(request.shell, place)
        elif request.argv:
            words = tuple(Word(value, exact="\0" not in value, text=value) for value in request.argv)
            self.program(words, replace(place, text=request.command()))
        if not self.findings:
            self.add("r", "it does nothing", place)

    # --- findings --------------------------------------------------------------------------------

    def add(
        self, letters: str, reason: str, place: Place, *, paths: tuple[str, ...] | None = None, exact: bool | None = None
    ) -> None:
        """Add one finding for each letter, about the command at a place, or about some paths of it."""
        words = place.words
        finding = Finding(
            category=Category.READ_ONLY,
            reason=reason,
            text=_shorten(place.text),
            start=place.start,
            end=place.end,
            command=tuple(_show(word) for word in words[:64]),
            paths=place.paths if paths is None else paths,
            exact=all(word.exact for word in words) and len(words) <= 64 if exact is None else exact,
        )
        for letter in letters:
            # Not by comparing findings, which would load `dataclasses`.
            key = (letter, reason, finding.text, finding.start, finding.paths, finding.command)
            if key in self._seen or len(self.findings) > _MAX_FINDINGS:
                continue
            self._seen.add(key)
            self.findings.append(replace(finding, category=_LETTERS[letter]))
            if len(self.findings) == _MAX_FINDINGS:  # what stands behind must not hide there
                reason = "there is more in the text than is looked at"
                self.findings += [replace(finding, category=_LETTERS[each], reason=reason, exact=False) for each in _WORST]

    def unseen(self, reason: str, place: Place) -> None:
        """Add that something may do everything."""
        self.add(_WORST, f"{reason}, so that it may do anything", place, exact=False)

    # --- text ------------------------------------------------------------------------------------

    def text(self, text: str, place: Place) -> None:
        """Classify text for a shell; `place` is that of the command that hands it to one."""
        if self._depth >= _MAX_DEPTH:
            self.unseen("commands stand too deeply in commands", place)
            return
        self._depth += 1
        try:
            self._parsed(text, place)
        finally:
            self._depth -= 1

    def _parsed(self, text: str, place: Place) -> None:
        is_top = place.start is None and text is self._request.shell
        variables = dict(self._request.env)
        directory = next(iter(place.directories)) if len(place.directories) == 1 else "/"
        script = shell.parse(text, directory=directory, variables=variables)
        for problem in script.problems:
            shown = replace(place, text=text, start=0 if is_top else place.start, end=len(text) if is_top else place.end)
            self.add("wh", f"the text cannot be read: {problem}", shown, exact=False)
            self.add("dn", "what cannot be read may do anything", shown, exact=False)
        if script.problems:
            return
        for command in script.commands:
            self._simple(command, place, script.functions, is_top=is_top)
        for word in script.named:
            self.path(word, replace(place, text=word.text or place.text), writes=False)
        if not script.commands:
            self.add("r", "it does nothing", replace(place, text=text))

    def _simple(self, command: SimpleCommand, outer: Place, functions: dict[str, int], *, is_top: bool) -> None:
        place = Place(
            text=command.text,
            start=command.start if is_top else outer.start,
            end=command.end if is_top else outer.end,
            directories=command.directories,
            stdin=command.stdin,
            is_fed=command.is_fed or (outer.is_fed and not command.is_fed),
            words=command.words,
        )
        for name, value in command.assignments:
            self.assignment(name, value, place)
        for redirect in command.redirects:
            self._redirect(redirect, place)
        if command.words and command.words[0].exact and functions.get(command.words[0].value, command.start + 1) <= command.start:
            # Only the shell itself calls functions: `env f` and its like start a program of that name.
            self.add("r", f"calls '{command.words[0].value}', which the text defines", place)
            self.words_as_paths(command.words[1:], place, writes=True)
        elif command.words:
            self.program(command.words, place)
        elif not command.redirects:
            self.add("r", "sets a variable of the shell", place)

    def assignment(self, name: str, value: Word, place: Place) -> None:
        """Look at a variable: some make programs run something."""
        if name in known.COMMAND_VARIABLES:
            reason = f"{name} names a command to run"
            if not value.exact:
                self.unseen(f"{reason} that is not known", place)
            elif value.value:
                self.add("r", reason, place)
                self.text(value.value.lstrip("|-"), replace(place, is_fed=True))
        elif name in known.CODE_VARIABLES_WHOLE or (
            name.startswith(known.CODE_VARIABLES) and not any(name.startswith(whole) for whole in known.CODE_VARIABLES_WHOLE)
        ):
            self.add("w", f"{name} makes programs load code or options", place)
        if value.exact and re.search(r"\$\(|`", value.value):
            self.expanded(value.value, place)  # arithmetic runs what stands in the value of a variable
        self.path(value, place, writes=False)

    def expanded(self, text: str, place: Place) -> None:
        """Classify the substitutions in a value that the shell expands once more."""
        plain = re.sub(r'["\\]', "", text)  # what they would hide counts
        self.text(f'echo "{plain}"', place)

    def _redirect(self, redirect: Redirect, place: Place) -> None:
        target = redirect.target
        if target.value.startswith(("/dev/tcp/", "/dev/udp/")):
            self.add("n", "connects to another machine", place)
            return
        if redirect.operator in {"<", "<&"}:
            self.path(target, place, writes=False)
            return
        if target.exact and (target.value in known.DEVICES or re.fullmatch(r"/dev/fd/\d+", target.value)):
            return
        self.add("w", "writes to a file", place, paths=self._resolve(target, place), exact=target.exact)
        self.path(target, place, writes=True)

    # --- programs --------------------------------------------------------------------------------

    def program(self, words: tuple[Word, ...], place: Place) -> None:
        """Classify a command with its arguments."""
        if self._depth >= _MAX_DEPTH:
            self.unseen("commands stand too deeply in commands", place)
            return
        self._depth += 1
        try:
            self._named_program(words, replace(place, words=words))
        finally:
            self._depth -= 1

    def _named_program(self, words: tuple[Word, ...], place: Place) -> None:
        first = words[0]
        name = first.value
        if not first.exact:
            if name.startswith((HOME, AMBIENT)) and UNKNOWN not in name and "/" in name[1:]:
                self.add("wh", "runs a program from outside of the workspace", place)
                self.words_as_paths(words[1:], place, writes=True)
            else:
                self.unseen("the name of the program is not known before it runs", place)
            return
        if name in self.aliases:
            rest = " ".join(word.text for word in words[1:])
            alias = self.aliases.pop(name)  # not again inside of itself
            self.text(f"{alias} {rest}", place)
            self.aliases[name] = alias  # and the program of that name: not every shell expands aliases
        program, base = self._find(name, place)
        if program is None:
            place = replace(place, paths=self._all_paths(words[1:], place))
            self.add(
                "w",
                f"'{base}' is not a program that avfs knows" if "/" not in name else "runs a program that is not looked into",
                place,
            )
            self.words_as_paths(words[1:], place, writes=True)
            return
        if len(words) == 2 and words[1].value in known.SAFE_ENDINGS and "h" not in program.does and program.check != "eval":
            self.add("r", f"{base} only tells about itself", place)
            return
        self._known_program(base, program, words, place)

    def _find(self, name: str, place: Place) -> tuple[Program | None, str]:
        base = posixpath.basename(name)
        if "/" in name and posixpath.dirname(name) + "/" not in known.SYSTEM_PROGRAMS:
            self.path(Word(name, exact=True, text=name), place, writes=False)
            return None, base
        found = known.PROGRAMS.get(base)
        if found is None and (match := _VERSIONED.fullmatch(base)):  # python3.12, gcc-13
            found = known.PROGRAMS.get(match[1])
            base = match[1] if found else base
        return found, base

    def _known_program(self, name: str, program: Program, words: tuple[Word, ...], place: Place) -> None:
        """Classify a program of the table."""
        stops = program.runs >= 0 or bool(program.subcommands)
        arguments = take_apart(words[1:], program, stops=stops)
        if arguments.is_unclear and program.runs >= 0:
            self.unseen(f"{name} has an option that avfs does not know", place)
        has_subcommand = bool(program.subcommands) and bool(arguments.operands)  # then that one says what it does
        letters = "" if has_subcommand else program.does.replace("r", "")
        path_words = arguments.operands[program.text :] if program.runs < 0 and not program.subcommands else []
        place = replace(place, paths=self._all_paths(path_words, place))
        before = len(self.findings)
        call = Call(name, program, words, arguments, place)
        if letters and not (program.check in LOOKS and LOOKS[program.check](call)):
            self.add(letters, f"{name} {program.why}" if program.why else name, place)
        self._options(name, program, arguments, place)
        if program.runs < 0 and not program.subcommands:
            for number, word in enumerate(path_words, program.text):
                if number >= program.reads:
                    self.add("w", f"{name} changes what it names", place)
                self.path(word, place, writes=program.writes or number >= program.reads)
        if (check := CHECKS.get(program.check)) is not None:
            check(self, call)
        elif program.subcommands:
            self.subcommand(name, program, arguments, place)
        elif program.runs >= 0:
            self.inner(name, arguments.operands[program.runs :], place)
        if len(self.findings) == before:
            self.add("r", f"{name} only reads", place)

    def _options(self, name: str, program: Program, arguments: Arguments, place: Place) -> None:
        table = known.read_options(program.options) if program.options else {}
        texts = program.texts.split()
        for option, value in arguments.options:
            if value is not None and option not in texts:
                self.path(value, place, writes=program.writes)
            for effect in effects(option, table):
                if effect.does == "x":
                    self._command_value(name, option, value, place)
                else:
                    self.add(effect.does, f"{name} {option} {effect.why}".strip(), place)
                    if value is not None and effect.does == "w":
                        self.path(value, place, writes=True)
        if arguments.may_be_option:
            letters = {letter for effect in table.values() for letter in effect.does.replace("x", "w").replace("r", "")}
            if letters:
                self.add("".join(sorted(letters)), f"a word that is not known may be an option of {name}", place, exact=False)

    def _command_value(self, name: str, option: str, value: Word | None, place: Place) -> None:
        """An option whose value is a command."""
        if value is None or not value.exact:
            self.unseen(f"{name} {option} runs a command that is not known", place)
            return
        text = value.value
        if option == "--checkpoint-action":
            if not text.startswith("exec="):
                return
            text = text.removeprefix("exec=")
        if text:
            self.text(text, replace(place, is_fed=True, stdin=None))

    def subcommand(self, name: str, program: Program, arguments: Arguments, place: Place) -> None:
        """Classify what stands behind the name of a program that has subcommands."""
        """Classify what stands behind the name of a program that has subcommands."""
        operands = [word for word in arguments.operands if not (word.exact and word.value.startswith("+"))]  # cargo +nightly
        if not operands:
            return
        word = operands[0]
        label = f"{name} {_show(word)}"
        if not word.exact:
            self.unseen(f"what {name} is to do is not known", place)
            return
        found = program.subcommands.get(word.value)
        if found is None:
            other = program.other.replace("r", "")
            if other:
                self.add(other, f"{label} is not known to only read", place)
            self.words_as_paths(operands[1:], place, writes=True)
            return
        index = arguments.operands.index(word)
        self._known_program(label, found, (word, *arguments.operands[index + 1 :]), place)

    def inner(self, name: str, words: Sequence[Word], place: Place) -> None:
        """Classify a command that another one runs."""
        if words:
            self.program(tuple(words), place)
        else:
            self.add("r", f"{name} runs nothing", place)

    # --- paths -----------------------------------------------------------------------------------

    def words_as_paths(self, words: Sequence[Word], place: Place, *, writes: bool) -> None:
        """Look at every word as `path` does."""
        for word in words:
            self.path(word, place, writes=writes)

    def _all_paths(self, words: Iterable[Word], place: Place) -> tuple[str, ...]:
        paths: list[str] = []
        for word in words:
            if not word.value.startswith("-") and not _URL.match(word.value):
                paths += self._resolve(word, place)
        return tuple(dict.fromkeys(paths))[:64]

    def _resolve(self, word: Word, place: Place) -> tuple[str, ...]:
        """Give the paths that a word may mean: from the root of the workspace, absolute if outside."""
        return tuple(_shown_path(self._locate(word.value, directory)) for directory in sorted(place.directories))

    def _locate(self, value: str, directory: str) -> str:
        """Make a path of a word: `:` and a path inside of the workspace, or an absolute path outside."""
        if value.startswith("/"):
            path = posixpath.normpath("/" + value.lstrip("/"))
            if self._mountpoint is not None and (path + "/").startswith(self._mountpoint.rstrip("/") + "/"):
                return ":" + path[len(self._mountpoint.rstrip("/")) :].strip("/")
            return path
        parts = [part for part in directory.split("/") if part]
        for part in value.split("/"):
            if part == "..":
                if not parts or UNKNOWN in parts[-1]:
                    return "/.."
                parts.pop()
            elif part not in {"", "."}:
                parts.append(part)
        return ":" + "/".join(parts)

    def path(self, word: Word, place: Place, *, writes: bool) -> None:
        """Look whether a word names something outside of the workspace, as a whole or behind `=`, `:` or an option's letter."""
        value = word.value
        if not value or value in {"/dev/stdin", "-"}:
            return
        for match in _URL.finditer(value):
            if match[0].lower().startswith("file://"):
                self._outside(match[0][7:] or "/", word, place, writes=writes)
        value = _URL.sub("", value)
        pieces = {value}
        if value.startswith("-"):
            pieces = {value[2:]} if not value.startswith("--") else set()
        pieces |= {piece for piece in re.split(r"[=:,@]", value)[1:] if piece.startswith(("/", "~", ".."))}
        pieces.discard("")
        for piece in sorted(pieces):
            self._outside(piece, word, place, writes=writes)

    def _outside(self, value: str, word: Word, place: Place, *, writes: bool) -> None:
        if value.startswith("~") and value != word.value:
            value = HOME + value[1:]
        if UNKNOWN in value and not value.startswith("/") and ".." not in value:
            return  # it may be anything, and nothing says that it is outside
        for directory in sorted(place.directories):
            path = self._locate(value, directory)
            if path.startswith(":") or path in known.DEVICES or re.fullmatch(r"/dev/fd/\d+", path):
                continue
            if not writes and (path + "/").startswith(tuple(each + "/" for each in known.SYSTEM_FILES)):
                continue
            what = "writes to" if writes else "names"
            self.add("h", f"{what} a path outside of the workspace", place, paths=(_shown_path(path),), exact=word.exact)
            return


def _show(word: Word) -> str:
    return word.value if word.exact else word.text or "…"


def _shown_path(path: str) -> str:
    shown = path.removeprefix(":") if path.startswith(":") else path
    if shown.startswith(HOME):
        shown = "~" + shown[2:]
    elif shown.startswith(AMBIENT):
        shown = shown[1:]
    return shown.replace(UNKNOWN, "*")


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
