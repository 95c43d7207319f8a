"""What some programs do with their words that no table can say.

Decided here: one function a kind of program, named in its entry of `programs.txt`. `classify` calls them, each with the
command taken apart. What a function does not know for harmless, it reports. Functions without state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from avfs_git.patterns import compiled
from avfs_git.proxy.policy.commands import foreign, gitchecks, programs, scripts, shellbuiltins
from avfs_git.proxy.policy.commands.arguments import may_be_option
from avfs_git.proxy.policy.commands.findings import Call, Findings
from avfs_git.proxy.shell.words import PLAIN, UNKNOWN, Word
from avfs_git.values import replace

_ASSIGNMENT = compiled(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_REMOTE = compiled(r"[^/\s]+:")
_UNKNOWN_WORD = Word(UNKNOWN, exact=False, text="", splits=True)


# --- what runs other commands ------------------------------------------------------------------------------


def _check_command(c: Findings, call: Call) -> None:
    """Only tell what a name means, with `-v` and `-V`; else run it."""
    if not call.arguments.has("-v", "-V"):
        c.inner(call.name, call.arguments.operands, call.place)


def _check_env(c: Findings, call: Call) -> None:
    rest = list(call.arguments.operands)
    while rest and (match := _ASSIGNMENT.fullmatch(rest[0].value)):
        word = rest.pop(0)
        c.assignment(match[1], Word(match[2], exact=word.exact, text=word.text), call.place)
    splits = call.arguments.values("-S", "--split-string")
    if not splits:
        c.inner(call.name, rest, call.place)
    elif len(splits) == 1 and splits[0] is not None and splits[0].exact and not set(splits[0].value) & set("$\\"):
        c.text(" ".join(["env", splits[0].value, *(word.text for word in rest)]), call.place)
    else:
        c.unseen("what env runs is not known", call.place)


def _check_xargs(c: Findings, call: Call) -> None:
    inner = call.arguments.operands
    if call.arguments.has("-I", "-i", "--replace"):
        marks = [value.value for value in call.arguments.values("-I", "-i", "--replace") if value is not None]
        mark = marks[0] if marks and marks[0] else "{}"
        inner = [_with_unknown(word, mark) for word in inner]
    else:
        inner = [*inner, _UNKNOWN_WORD]
    if call.arguments.operands:
        c.program(tuple(inner), replace(call.place, is_fed=True, stdin=None))


def _with_unknown(word: Word, mark: str) -> Word:
    if mark not in word.value:
        return word
    return replace(word, value=word.value.replace(mark, UNKNOWN), exact=False)


def _check_flock(c: Findings, call: Call) -> None:
    inner = call.arguments.operands[1:]
    if inner and inner[0].value in {"-c", "--command"}:
        shellbuiltins.check_shell(c, replace(call, words=(_UNKNOWN_WORD, *inner)))
    else:
        c.inner(call.name, inner, call.place)


def _check_parallel(c: Findings, call: Call) -> None:
    inner = list(call.arguments.operands)
    at = next((number for number, word in enumerate(inner) if word.value.startswith(":::")), len(inner))
    if call.name == "watch":
        c.add("i", "watch shows pages", call.place)
    if at == 0 or call.arguments.unknown or not all(word.exact for word in inner[:at]):
        c.unseen("the commands are not known", call.place)
        return
    text = " ".join(word.value for word in inner[:at])  # a shell reads it
    c.text(text if call.name == "watch" else re.sub(r"\{[^{}]*\}", '"$1"', text) + ' "$1"', call.place)


# --- find and its like -------------------------------------------------------------------------------------

_IS_SCRATCH = compiled(r"/+(?:var/+)?tmp[/.]*")
"""What is found there is everybody's."""


def _check_find(c: Findings, call: Call) -> None:
    rest = list(call.words[1:])
    starts: list[Word] = []
    follows = any(word.value in {"-L", "-H", "-follow"} for word in rest)
    has_begun = False
    while rest:
        word = rest.pop(0)
        value = word.value
        known = call.program.options.get(value) if word.exact else None
        if word.exact and value in {"!", "(", ")", ","}:
            has_begun = True
        elif known is not None:
            has_begun = has_begun or value not in {"-P", "-L", "-H"}
            if known.takes == "value":
                if known.means == "path":
                    c.words_as_paths(rest[:1], call.place)
                if rest and rest[0].splits:
                    c.add("w", "a word that is not known may be an action of find", call.place, exact=False)
                del rest[:1]
        elif value.startswith("-") and word.exact:
            has_begun = True
            _find_action(c, call, value, rest, starts, follows=follows)
        elif not has_begun and not word.splits:
            starts.append(word)
            c.path(word, call.place)
            if may_be_option(word):
                c.add("w", "a word that is not known may be an action of find", call.place, exact=False)
        else:
            c.add("w", "a word that is not known may be an action of find", call.place, exact=False)
            c.path(word, call.place)
            starts.append(_UNKNOWN_WORD)
    c.add("r", "find only reads", replace(call.place, paths=c.all_paths(starts, call.place)))


def _find_action(c: Findings, call: Call, action: str, rest: list[Word], starts: list[Word], *, follows: bool) -> None:
    found = starts or [Word(".", exact=True, text=".")]
    if action in {"-exec", "-execdir", "-ok", "-okdir"}:
        ends = [
            at
            for at, each in enumerate(rest)
            if each.value == ";" or (each.value == "+" and at and rest[at - 1].value == "{}")
        ]
        end = ends[0] if ends else len(rest)
        inner = rest[:end]
        del rest[: end + 1]
        if action.startswith("-ok"):
            c.add("i", "find asks", call.place)
        # What is found lies below where the search starts, unless it follows links.
        below = None if follows or len(found) != 1 or not found[0].exact else found[0].value
        c.inner(call.name, [_with_found(each, below) for each in inner], replace(call.place, is_fed=True, stdin=None))
    elif action == "-delete":
        c.add("d", "find -delete removes files", call.place, paths=c.all_paths(found, call.place))
        for word in found:
            c.target(_UNKNOWN_WORD if follows else word, call.place, removes=True)
    elif action in {"-fprint", "-fprint0", "-fls", "-fprintf"}:
        c.add("w", f"find {action} writes a file", call.place, paths=c.all_paths(rest[:1], call.place))
        for word in rest[:1]:
            c.target(word, call.place)
        del rest[: 2 if action == "-fprintf" else 1]
    elif action == "-files0-from":
        starts.append(_UNKNOWN_WORD)
        c.words_as_paths(rest[:1], call.place)
        del rest[:1]
    else:
        c.add("w", f"find has an option that avfs does not know ('{action}')", call.place)


def _with_found(word: Word, below: str | None) -> Word:
    if "{}" not in word.value:
        return word
    if word.value == "{}" and below is not None and not below.startswith("-") and not _IS_SCRATCH.fullmatch(below):
        return replace(word, value=f"{below.rstrip('/') or '/'}/{PLAIN}", exact=False)
    # Alone, it begins as the directory does that find was given, and is no option.
    return replace(word, value=word.value.replace("{}", UNKNOWN), exact=False)


def _check_grep(c: Findings, call: Call) -> None:
    """Where the pattern is given by an option, all operands are paths."""
    given = call.arguments.has("-e", "--regexp", "-f", "--file", "--files", "--type-list")
    if given and call.arguments.operands:
        c.path(call.arguments.operands[0], call.place)
    for number, option in enumerate(call.arguments.options):
        if option.is_one_of("-O", "--open-files-in-pager"):
            _open_in_pager(c, call, number)


def _open_in_pager(c: Findings, call: Call, number: int) -> None:
    value = call.arguments.options[number].value
    if value is not None:
        c.command_value(call.name, "-O", value, call.place)


def _check_jq(c: Findings, call: Call) -> None:
    """`--arg NAME VALUE` takes two words.

    The option is not in the table, so that each of them would be one too many.
    """
    if call.arguments.has("-f", "--from-file") and call.arguments.operands:
        c.path(call.arguments.operands[0], call.place)


# --- languages ---------------------------------------------------------------------------------------------


def _check_interpreter(c: Findings, call: Call) -> None:
    if len(call.words) == 1 and not call.place.is_fed:
        c.add("i", f"{call.name} waits for commands", call.place)
    if call.place.is_typed and "i" not in call.program.does and _takes_typed(call):
        c.unseen(f"{call.name} runs what is typed", call.place)
    for text in (*call.words[1:], call.place.stdin):
        if text is not None:
            foreign.look_at_program(c, call, text, call.place)
    if call.name != "python" and any(re.fullmatch(r"-[A-Za-z]*i.*|-i|inplace", word.value) for word in call.words):
        for word in call.arguments.operands:
            c.target(word, call.place, may_be_unknown=True)
    if any(re.match(r"(?:https?|jsr|npm):", word.value) for word in call.arguments.operands[:1]):
        c.add("n", f"{call.name} fetches what it runs", call.place)


def _takes_typed(call: Call) -> bool:
    """Whether an interpreter asks for its program: it is given none, or a prompt comes behind it."""
    words = [word.value for word in call.words[1:]]
    if call.program.name == "python":
        return _python_prompts(words)
    if not re.match(r"perl|ruby", call.name) and not {"-i", "--interactive"}.isdisjoint(words):
        return True  # in these two, the option changes files in place
    is_given = call.arguments.has("-e", "-E", "--eval", "--print")
    return not is_given and all(word.value in _TYPED for word in call.arguments.operands)


def _python_prompts(words: list[str]) -> bool:
    rest = list(words)
    while rest and (match := _PYTHON_OPTION.fullmatch(rest[0])) and rest[0] != "-":
        option = rest.pop(0)
        if "i" in option[: match.start(1) if match[1] else None]:
            return True
        if match[1] == "m":
            module = programs.find(f"python -m {match[2] or ''.join(rest[:1])}")
            return module is not None and "i" in module.does
        if match[1] == "c":
            return False
        if match[1] and not match[2]:
            del rest[:1]
    return not rest or rest[0] in _TYPED


def _check_go_run(c: Findings, call: Call) -> None:
    if any("@" in word.value for word in call.arguments.operands[:1]):
        c.add("n", "go run fetches a version of a package", call.place)


def _check_npm_config(c: Findings, call: Call) -> None:
    if not any(word.exact and word.value in {"get", "list", "ls"} for word in call.arguments.operands[:1]):
        c.add("h", f"{call.name} changes settings outside of the workspace", call.place)


_PYTHON_OPTION = compiled(r"-[bBdEhiIOPqsSuvVx?]*(?:([mcWX])(.*))?", re.DOTALL)
_TYPED = frozenset({"-", "/dev/stdin", "/dev/tty", "/dev/fd/0", "/proc/self/fd/0"})
"""Names of what is typed."""


def _check_python(c: Findings, call: Call) -> None:
    rest = list(call.words[1:])
    while rest and rest[0].exact and (match := _PYTHON_OPTION.fullmatch(rest[0].value)):
        word = rest.pop(0)
        if match[1] and match[2]:
            rest.insert(0, replace(word, value=match[2]))  # the value of the last letter is attached
        if match[1] == "m":
            _python_module(c, call, tuple(rest))
        if match[1] in {"m", "c"}:
            break
        if match[1]:
            del rest[:1]
    if rest and rest[0].exact and rest[0].value.rpartition("/")[2] == "setup.py":
        foreign.look_at_tasks(c, call.name, rest[1:], call.place)
    _check_interpreter(c, call)


def _python_module(c: Findings, call: Call, words: tuple[Word, ...]) -> None:
    """A module is run as the program of its name is."""
    name = words[0].value if words and words[0].exact else ""
    main = name.partition(".")[0]
    if programs.find_program(main) is not None:
        c.program((replace(words[0], value=main), *words[1:]), call.place)
    elif (module := programs.find(f"python -m {name}")) is not None and "n" in module.does:
        c.add("n", f"python -m {name} {module.why}", call.place)


# --- others ------------------------------------------------------------------------------------------------


def _lists_archive(call: Call) -> bool:
    """`tar -t`."""
    options = _tar_options(call)
    harmless = {"-t", "--list", "-f", "--file", "-v", "--verbose", "-z", "-j", "-J", "--gzip", "--xz", "--bzip2"}
    return bool(options & {"-t", "--list"}) and options <= harmless and all(word.exact for word in call.words)


def _tar_options(call: Call) -> set[str]:
    """Collect the options, also those of the old style, without a dash."""
    first = call.words[1].value if len(call.words) > 1 and call.words[1].exact else ""
    letters = "" if first.startswith("-") else first
    given = {name for option in call.arguments.options for name, _ in option.may_be} | set(call.arguments.unknown)
    return given | {f"-{letter}" for letter in letters}


def _check_tar(c: Findings, call: Call) -> None:
    if _tar_options(call) & {"-c", "-r", "-u", "-A", "--create", "--append", "--update", "--concatenate", "--delete"}:
        for value in call.arguments.values("-f", "--file"):
            if value is not None:
                c.target(value, call.place)
        if not call.words[1].value.startswith("-"):  # the old style: letters, then their values
            for word in call.arguments.operands[1:2]:
                c.target(word, call.place)
    if _tar_options(call) & {"-P", "--absolute-names"} and _tar_options(call) & {"-x", "--extract", "--get"}:
        c.add("h", "tar writes to where the archive says", call.place)
    _look_for_remote_archive(c, call, [*call.arguments.values("-f", "--file"), *call.arguments.operands[:2]])


def _check_cpio(c: Findings, call: Call) -> None:
    _look_for_remote_archive(c, call, call.arguments.values("-F", "-I", "-O", "--file"))


def _look_for_remote_archive(c: Findings, call: Call, archives: Iterable[Word | None]) -> None:
    """HOST:FILE is an archive there, to the programs that GNU's rmt serves."""
    if any(word is not None and _REMOTE.match(word.value) for word in archives):
        c.add("n", f"{call.name} works on an archive of another machine", call.place)


def _check_remote(c: Findings, call: Call) -> None:
    if any(_REMOTE.match(word.value) or not word.exact for word in call.arguments.operands):
        c.add("n", f"{call.name} talks to another machine", call.place)


def _lists_signals(call: Call) -> bool:
    """`kill -l`."""
    return len(call.words) > 1 and call.words[1].value in {"-l", "-L"} and all(word.exact for word in call.words)


def _check_kill(c: Findings, call: Call) -> None:
    words = list(call.words[1:])
    if words and words[0].value in {"-s", "-n"}:
        del words[:2]
    elif words and words[0].value.startswith("-"):
        del words[:1]
    if any(re.fullmatch(r"-?\d+", word.value) for word in words):
        c.add("h", "kill ends a process that is named by its number", call.place)


def _check_hostname(c: Findings, call: Call) -> None:
    if call.arguments.operands:
        c.add("h", f"{call.name} names the machine", call.place)


def _check_date(c: Findings, call: Call) -> None:
    if any(not word.value.startswith("+") for word in call.arguments.operands):
        c.add("h", "date sets the clock", call.place)


def _check_ps(c: Findings, call: Call) -> None:
    """`ps e` shows the variables of other processes."""
    shellbuiltins.check_bare(c, call)
    for before, word in zip(call.words, call.words[1:], strict=False):
        is_letters = not before.value.startswith("-") and re.fullmatch(r"[A-Za-z]*e[A-Za-z]*", word.value)
        if is_letters or "environ" in word.value:
            c.add("h", "ps shows the variables of other processes", call.place)
            return


def _shows_alone(call: Call) -> bool:
    """Without a word it shows what is."""
    return len(call.words) == 1


def _check_links(c: Findings, call: Call) -> None:
    """The text of a symbolic link is a path from where the link lies."""
    operands = call.arguments.operands
    for word in operands[1:][-1:]:
        c.target(word, call.place)
    is_symbolic = call.arguments.has("-s", "--symbolic")
    is_symbolic = is_symbolic and not call.arguments.has("-r", "--relative", "-t", "--target-directory")
    if len(operands) != 2 or not is_symbolic:
        c.words_as_paths(operands[:-1] or operands, call.place)
        return
    text, link = operands
    lies_in = link.value.rpartition("/")[0]
    is_relative = text.exact and not text.value.startswith("/") and lies_in and link.exact
    c.path(replace(text, value=f"{lies_in}/{text.value}") if is_relative else text, call.place)


def _check_dd(c: Findings, call: Call) -> None:
    for word in call.words[1:]:
        key, equals, value = word.value.partition("=")
        named = replace(word, value=value)
        if not equals or UNKNOWN in key or key == "of":
            c.target(named if equals and UNKNOWN not in key else _UNKNOWN_WORD, call.place)
        elif key == "if":
            c.path(named, call.place)


CHECKS: dict[str, Callable[[Findings, Call], None]] = {
    "shell": shellbuiltins.check_shell,
    "source": shellbuiltins.check_source,
    "other-shell": shellbuiltins.check_other_shell,
    "busybox": shellbuiltins.check_busybox,
    "eval": shellbuiltins.check_eval,
    "trap": shellbuiltins.check_trap,
    "alias": shellbuiltins.check_alias,
    "runs": shellbuiltins.check_runs,
    "any": shellbuiltins.check_any,
    "bare": shellbuiltins.check_bare,
    "printf": shellbuiltins.check_printf,
    "test": shellbuiltins.check_test,
    "set": shellbuiltins.check_set,
    "shopt": shellbuiltins.check_shopt,
    "declare": shellbuiltins.check_declare,
    "read": shellbuiltins.check_read,
    "command": _check_command,
    "env": _check_env,
    "xargs": _check_xargs,
    "flock": _check_flock,
    "parallel": _check_parallel,
    "find": _check_find,
    "grep": _check_grep,
    "jq": _check_jq,
    "interpreter": _check_interpreter,
    "tasks": foreign.check_tasks,
    "ps": _check_ps,
    "links": _check_links,
    "alone": lambda _classifier, _call: None,
    "go-run": _check_go_run,
    "npm-config": _check_npm_config,
    "python": _check_python,
    "sed": scripts.check_sed,
    "awk": scripts.check_awk,
    "tar": _check_tar,
    "cpio": _check_cpio,
    "remote": _check_remote,
    "kill": _check_kill,
    "hostname": _check_hostname,
    "date": _check_date,
    "dd": _check_dd,
    "git-config": gitchecks.check_config,
    "git-list": gitchecks.check_list,
    "git": gitchecks.check_git,
    "git-format": gitchecks.check_format,
}
"""By the name that the table gives."""

TAKES_ALL_WORDS = frozenset(
    {
        "any",
        "bare",
        "ps",
        "printf",
        "set",
        "shopt",
        "declare",
        "shell",
        "eval",
        "trap",
        "source",
        "busybox",
        "find",
        "test",
    }
)
"""Checks that look at every word themselves, so that options are none of the table's."""

LOOKS: dict[str, Callable[[Call], bool]] = {
    "kill": _lists_signals,
    "tar": _lists_archive,
    "git-config": gitchecks.shows_config,
    "alone": _shows_alone,
}
"""Whether a program that writes is only asked to show something."""
