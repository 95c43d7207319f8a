"""What a program is told in a language of its own: how far its text reaches outside.

Decided here: what of such a text counts, for programs that `programs.txt` names: editors, pagers, debuggers and databases with a
shell of their own, interpreters with a program on their command line, build tools with targets. avfs reads none of these
languages. A program with a shell of its own may do anything unless it is told something that is known to be harmless; of other
texts, the paths and addresses in them count. `checks` and `classify` call this. Functions without state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from avfs_git.patterns import compiled
from avfs_git.proxy.policy.commands.findings import Call, Findings, Place
from avfs_git.proxy.shell.words import HOME, Word
from avfs_git.values import replace

_LOOPBACK = r"(?:[^/@]*@)?(?:localhost|127\.[\d.]+|\[::1\]|0\.0\.0\.0)(?:[:/?]|$)"
_ADDRESS = compiled(rf"(?:https?|wss?|ftps?|sftp|ssh|git|s3|gs)://(?!{_LOOPBACK})[^\s/]", re.IGNORECASE)
_ASKS = compiled(
    r"urlopen|urlretrieve|requests?\b|httpx|fetch|\.get\(|\.post\(|axios|socket|HTTP|open-uri|LWP|file_get_contents|curl|wget"
)
_PLACE = compiled(
    r"(?:(?<=[\s\"'`(=:<>|,!])|^)"
    r"(?:~(?=/)|/(?:home|root|etc|proc|sys|dev|boot|var|srv|run|mnt|media|Users)(?=/))[^\s\"'`)\]};,<>|&\\]*"
)
_SHELL = compiled(
    r"(?:system|popen|exec\w{0,8}|spawn\w{0,8}|call|run|check_output|Popen)[ \t]{0,4}\(?\s{0,8}[\"'`]([^\"'`]+)[\"'`]"
)
"""A literal text that most languages would hand to a shell there."""

_EX = compiled(
    r":*\s*(?:[%\d,.$+-]*(?:(?:w|wq|x|q|qa|wa|wqa|xa|up|noh|d|j|>+|<+|retab|sort|p)!?|set(?:l|local)? [\w =,:.+-]*"
    r"|(?:syntax|filetype|colorscheme) [\w ]+|s(?P<by>[/#,@])(?:(?!\\=)[^|!\n])*|[gv]/[^/|!\n]*/[dj])?|[/?][^|!\n]*)"
)
_PAGES = compiled(r"\d*[gGF%p]?|[/?].*")
_GDB = compiled(
    r"(?:run|r|start|c|continue|q|quit|where|list|up|down|next|n|step|s|finish|frame|bt|backtrace|info|thread|break|b|tbreak|watch|x"
    r"|disassemble|set (?:pagination|confirm|width|height|args|print|breakpoint))(?:[/ ][^|!$()]*)?"
)
_SQL_HARM = compiled(r"load_extension|writefile|readfile|edit\s*\(|fsdir|tokenizer", re.IGNORECASE)
_SQL_DOT = compiled(
    r"\.(?:tables?|schema|fullschema|mode|headers?|dump|ind\w*|databases|width|separator|nullvalue|timer|stats|show|changes|bail|echo"
    r"|eqp|explain|quit|exit|help|print|lint|version|limit)(?:\s[^|]*)?"
)
_ED_HARM = compiled(r"^[ \t]{0,8}(?:[\d,.$;%+-]*|'[a-z]|[gv]?/[^/\n]*/)[ \t]{0,8}(?:[rwWefE][ \t]{1,8})?!", re.MULTILINE)

_TASK = compiled(r"(?:.*[:_-])?(?:publish|deploy|upload)(?:[A-Z:_-].*)?|release:\w+|semantic-release|goreleaser")
_INSTALLERS = frozenset({"make", "gmake", "bmake", "ninja", "meson", "scons", "nmake", "cmake", "python", "python3"})
_INSTALLS = frozenset({"install", "uninstall", "--install", "install-strip"})
_PREFIX = compiled(r"(?:--)?(?:DESTDIR|PREFIX|prefix|destdir|root|home|user)=?(.*)", re.DOTALL)


# --- paths and addresses -----------------------------------------------------------------------------------


def look_at_text(c: Findings, word: Word, place: Place) -> None:
    """Look at a text in a language that avfs does not read: what it names outside, and what it hands to a shell."""
    text = word.value
    for match in _PLACE.finditer(text):
        value = HOME + match[0][1:] if match[0].startswith("~") else match[0]
        c.path(Word(value, exact=True, text=match[0]), place)
    if _ADDRESS.search(text) and _ASKS.search(text):
        c.add("n", "a text names the address of another machine", place)
    for match in _SHELL.finditer(text):
        c.text(match[1], replace(place, is_fed=True, stdin=None))


def look_at_words(c: Findings, name: str, words: Sequence[Word], place: Place) -> None:
    """Look at the words of a program that avfs does not know: an address is there to be talked to, a task to be done."""
    if any(_ADDRESS.match(re.sub(r"^-+[\w-]+=", "", word.value)) for word in words):
        c.add("n", "names the address of another machine", place)
    if name:
        look_at_tasks(c, name, words, place)


# --- build tools -------------------------------------------------------------------------------------------


def check_tasks(c: Findings, call: Call) -> None:
    """Look at what a build tool is told to do."""
    look_at_tasks(c, call.name, call.words[1:], call.place)


def look_at_tasks(c: Findings, name: str, words: Sequence[Word], place: Place) -> None:
    """Look for targets that reach outside by their name: what is published, deployed, or installed into the machine."""
    values = [word.value for word in words if word.exact]
    if any(map(_TASK.fullmatch, (name.partition(".")[0], *values))):
        c.add("n", f"{name} publishes or deploys something", place)
    if name in _INSTALLERS and not _INSTALLS.isdisjoint(values) and not {"-n", "--dry-run", "--just-print"} & set(values):
        places = list(_prefixes(words))
        for word in places:
            c.target(word, place)
        if not places:
            c.add("h", f"{name} installs into the machine", place)


def _prefixes(words: Sequence[Word]) -> Iterable[Word]:
    for number, word in enumerate(words):
        match = _PREFIX.fullmatch(word.value)
        if match and match[1]:
            yield replace(word, value=match[1])
        elif match and word.value.startswith("--"):
            yield from words[number + 1 : number + 2]


# --- programs with a shell of their own -----------------------------------------------------------------------


def check_own_shell(c: Findings, call: Call) -> None:
    """Look at what a program with a shell of its own is told: by options, by words with a plus, by its input."""
    for word in _told(call):
        look_at_text(c, word, call.place)
        if not _is_harmless(call.program.name, call.name, word):
            c.unseen(f"{call.name} has a shell of its own, and is told '{word.text}'", call.place)
    if call.name in {"ed", "red", "ex"} and call.place.is_fed and call.place.stdin is None:
        c.unseen(f"what {call.name} is told is not known", call.place)
    if call.place.is_typed and _takes_typed(call):
        c.unseen(f"{call.name} runs what is typed", call.place)
    if call.program.name == "sqlite3":
        for word in call.arguments.operands[:1]:
            c.target(word, call.place, may_be_unknown=True)


def _takes_typed(call: Call) -> bool:
    """Whether a debugger or a database asks for commands; an editor and a pager are there to be typed into."""
    if call.program.name == "sqlite3":
        return len(call.arguments.operands) < 2
    return call.program.name == "gdb" and not call.arguments.has("-batch", "--batch")


def _told(call: Call) -> Iterable[Word]:
    """Give the words that are commands of the program."""
    operands = call.arguments.operands
    told = (given for given in call.arguments.options if any(option.means == "told" for _, option in given.may_be))
    yield from (given.value for given in told if given.value is not None)
    yield from (replace(word, value=word.value[1:]) for word in operands if word.value.startswith("+"))
    if call.program.name == "sqlite3":
        yield from operands[1:]
    if call.name in {"ed", "red"}:
        yield from (word for word in operands if word.value.startswith("!"))
    if call.name in {"ed", "red", "ex", "sqlite3", "gdb", "lldb"} and call.place.stdin is not None:
        yield call.place.stdin


def _is_harmless(kind: str, name: str, word: Word) -> bool:
    text = word.value
    if kind == "sqlite3":
        dots = [line.strip() for line in text.splitlines() if line.lstrip().startswith(".")]
        return _SQL_HARM.search(text) is None and all(map(_SQL_DOT.fullmatch, dots))
    if name in {"ed", "red"}:
        return _ED_HARM.search(text) is None
    known = {"less": _PAGES, "gdb": _GDB}.get(kind, _EX)
    return all(known.fullmatch(line.strip()) for line in text.splitlines())
