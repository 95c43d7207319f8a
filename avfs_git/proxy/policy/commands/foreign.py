"""What a program is told in a language of its own: how far its text reaches outside.

Decided here: what of such a text counts, for programs that `programs.txt` names: editors, debuggers, databases and
interpreters with a program on their command line, build tools with targets. avfs reads none of these languages: the
paths and addresses in a text count, and what stands in quotes where most languages would hand it to a shell. `checks`
and `classify` call this. Functions without state.
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
SHELL = compiled(
    r"(?:system|passthru|proc_open|popen|exec\w{0,8}|spawn\w{0,8}|call|run|check_output|Popen)"
    r"[ \t]{0,4}\(?\s{0,8}[\"'`]([^\"'`]+)[\"'`]"
)
"""A literal text that most languages would hand to a shell there."""
_ESCAPE = compiled(
    r"(?:^\+?|(?<!\|)\|)[ \t]*+"
    r"(?::?(?>(?:sil(?:ent)?!?[ \t]+)?)[\d%,$]*+(?:[rw][ \t]?)?!|\.(?:shell|system)[ \t]"
    r"|(?:platform[ \t]+)?shell[ \t](?![=:]))([^\n]+)",
    re.MULTILINE,
)
"""The same in editors, pagers, databases and debuggers."""
_EDITOR_RUNS = compiled(
    r"(?:(?<![A-Za-z])|\bre?a?d?|'[A-Za-z])![ \t]*+([^\n]+)"
    r"|(?:^|[\s:|\"'])ter(?:m(?:inal)?)?!?[ \t]++(?>(?:\+\+\S++[ \t]++)*)([^\n]+)",
    re.MULTILINE,
)
_EDITOR_HIDES = compiled(
    r"systemlist|job_?start|term(?:open|_start)|feedkeys|fn\.system|(?:prg|\bsh|shell\w{0,8})\s?[+^]?=|&shell"
)
_DEBUGGER_RUNS = compiled(
    r"(?:^|[\s\"'=])(?:!|sh(?:e(?:ll?)?)?\b)[ \t]*+(?>(?:-\S++[ \t]++(?:\d++[ \t]++)?)*)([^\n]+)|\|[ \t]*+([^\n]+)",
    re.MULTILINE,
)
_DEBUGGER_HIDES = compiled(r"\bal(?:ias)?\b|(?:\bpip?e?|\|)[ \t]++-")
_DATABASE_RUNS = compiled(
    r"^[ \t]*+\.(?:sh(?:e(?:ll?)?)?|sys?\w*)[ \t]([^\n]+)|^[ \t]*+\.\w+[ \t]++[\"']?\|([^\n\"']+)", re.MULTILINE
)
_DATABASE_HIDES = compiled(r"\bedit\s?\(")
_LISP_HIDES = compiled(r"(?:start|make|call)-process|process-file|shell-command|-shell\b")
_SCRIPT_RUNS = compiled(
    r"`([^`]+)`|(?:\bqx|%x)\s?\W([^)}\]|!/]+)|[\"']\|-?([^\"'|]+)|[\"']([^\"'|]+)\|[\"']"
    r"|\b(?:system|exec)[ (]{0,4}qw\W([^)}\]]+)"
)
_NOTHING = compiled(r"(?!)")
_LANGUAGES: dict[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    "vi": (_EDITOR_RUNS, _EDITOR_HIDES),
    "gdb": (_DEBUGGER_RUNS, _DEBUGGER_HIDES),
    "sqlite3": (_DATABASE_RUNS, _DATABASE_HIDES),
    "nano": (_NOTHING, _LISP_HIDES),
    "perl": (_SCRIPT_RUNS, _NOTHING),
}
"""By the first name of an entry: what its own commands hand to a shell, and which of them hide that."""

_TASK = compiled(r"(?:.*[:_-])?(?:publish|deploy|upload)(?:[A-Z:_-].*)?|release:\w+|semantic-release|goreleaser")
_INSTALLERS = frozenset({"make", "gmake", "bmake", "ninja", "meson", "scons", "nmake", "cmake", "python", "python3"})
_INSTALLS = frozenset({"install", "uninstall", "--install", "install-strip"})
_PREFIX = compiled(r"(?:--)?(?:DESTDIR|PREFIX|prefix|destdir|root|home|user)=?(.*)", re.DOTALL)


def look_at_program(c: Findings, call: Call, text: Word, place: Place) -> None:
    """Look at a text in the language of a program."""
    entry = call.program.name
    is_other = entry == "perl" and not call.name.startswith(("perl", "ruby", "php"))  # they share an entry
    runs, hides = (_NOTHING, _NOTHING) if is_other else _LANGUAGES.get(entry, (_NOTHING, _NOTHING))
    look_at_text(c, text, place, (SHELL, _ESCAPE, runs))
    if hides.search(text.value):
        c.unseen(f"{call.name} runs what is not known", place)


# --- paths and addresses -----------------------------------------------------------------------------------


def look_at_text(c: Findings, word: Word, place: Place, runs: Sequence[re.Pattern[str]] = (SHELL, _ESCAPE)) -> None:
    """Look at a text in a language unknown to avfs: what it names outside, and what `runs` finds in it for a shell."""
    text = word.value
    for match in _PLACE.finditer(text):
        value = HOME + match[0][1:] if match[0].startswith("~") else match[0]
        c.path(Word(value, exact=True, text=match[0]), place)
    if _ADDRESS.search(text) and _ASKS.search(text):
        c.add("n", "a text names the address of another machine", place)
    for match in (match for pattern in runs for match in pattern.finditer(text)):
        c.text(match[match.lastindex or 0], replace(place, is_fed=True, stdin=None))


def look_at_words(c: Findings, name: str, words: Sequence[Word], place: Place) -> None:
    """Look at the words of a program unknown to avfs: an address is there to be contacted, a task to be run."""
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
    if (
        name in _INSTALLERS
        and not _INSTALLS.isdisjoint(values)
        and not {"-n", "--dry-run", "--just-print"} & set(values)
    ):
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
