"""What some programs do with their words that no table can say.

Decided here: one function a kind of program, named in its entry of the table (`commands.Program.check`). `classify` calls them,
each with the command taken apart. Functions without state.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from avfs_git.proxy import commands as known
from avfs_git.proxy import scripts
from avfs_git.proxy.arguments import Arguments
from avfs_git.proxy.commands import Program
from avfs_git.proxy.words import UNKNOWN, Word
from avfs_git.values import record_class, replace

if TYPE_CHECKING:
    from avfs_git.proxy.classify import Classifier, Place


_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_REMOTE = re.compile(r"[^/\s]+::?[^:]|rsync://")
_UNKNOWN_WORD = Word(UNKNOWN, exact=False, text="")


@record_class
class Call:
    """A known program with its words."""

    name: str
    program: Program
    words: tuple[Word, ...]
    arguments: Arguments
    place: Place


def _check_shell(c: Classifier, call: Call) -> None:
    rest = list(call.words[1:])
    takes_text = reads = False
    while rest and rest[0].exact and re.match(r"[-+].", rest[0].value) and rest[0].value != "--":
        option = rest.pop(0).value
        if option.startswith("--"):
            if option in {"--rcfile", "--init-file"}:
                c.add("w", f"{call.name} {option} runs a file that is not looked into", call.place)
                del rest[:1]
            elif "=" in option:
                c.unseen(f"{call.name} has an option that is not known", call.place)
            continue
        takes_text = takes_text or (option[0] == "-" and "c" in option)
        reads = reads or (option[0] == "-" and "s" in option)
        if option[-1] in "oO":
            del rest[:1]
    if rest and rest[0].exact and rest[0].value == "--":
        del rest[:1]
    if takes_text:
        if not rest or not rest[0].exact:
            c.unseen(f"the text for {call.name} is not known", call.place)
        else:
            c.text(rest[0].value, call.place)
        c.words_as_paths(rest[1:], call.place, writes=True)
    elif rest and not reads and rest[0].value not in {"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}:
        _run_file(c, call, rest[0])
        c.words_as_paths(rest, call.place, writes=True)
    elif call.place.stdin is not None and call.place.stdin.exact:
        c.text(call.place.stdin.value, replace(call.place, stdin=None, is_fed=True))
    elif call.place.is_fed:
        c.unseen(f"{call.name} runs what it reads", call.place)
    else:
        c.add("wi", f"{call.name} waits for commands", call.place)


def _run_file(c: Classifier, call: Call, word: Word) -> None:
    """A file of shell text: one of the workspace is as opaque as any program; what is made on the fly is hidden."""
    if word.value.startswith(("/dev/", "/proc/")) or (word.value.startswith(UNKNOWN) and "/" not in word.value):
        c.unseen(f"what {call.name} runs is not known", call.place)
    else:
        c.add("w", f"{call.name} runs a file that is not looked into", call.place)


def _check_source(c: Classifier, call: Call) -> None:
    if len(call.words) > 1:
        _run_file(c, call, call.words[1])


def _check_other_shell(c: Classifier, call: Call) -> None:
    if len(call.words) == 1 and not call.place.is_fed:
        c.add("i", f"{call.name} waits for commands", call.place)


def _check_busybox(c: Classifier, call: Call) -> None:
    if len(call.words) > 1:
        c.program(call.words[1:], call.place)


def _check_eval(c: Classifier, call: Call) -> None:
    call.words = tuple(call.arguments.operands) if call.name != "eval" else call.words[1:]
    if not all(word.exact for word in call.words):
        c.unseen(f"the text for {call.name} is not known", call.place)
    elif call.words:
        c.text(" ".join(word.value for word in call.words), call.place)


def _check_trap(c: Classifier, call: Call) -> None:
    if not call.arguments.operands:
        return
    first = call.arguments.operands[0]
    if not first.exact:
        c.unseen("the command of a trap is not known", call.place)
    elif first.value not in {"", "-"} and len(call.arguments.operands) > 1:
        c.text(first.value, call.place)


def _check_alias(c: Classifier, call: Call) -> None:
    for word in call.words[1:]:
        alias, equals, text = word.value.partition("=")
        if not equals:
            continue
        if not word.exact:
            c.unseen("an alias is not known", call.place)
            continue
        c.text(text, replace(call.place, is_fed=True))
        c.aliases[alias] = text


def _check_test(c: Classifier, call: Call) -> None:
    for word in call.words[1:]:
        if word.exact and re.search(r"\$\(|`", word.value):
            c.expanded(word.value, call.place)  # an index of an array is expanded once more


def _check_command(c: Classifier, call: Call) -> None:
    """Only tell what a name means, with `-v` and `-V`; else run it."""
    if not any(option in {"-v", "-V"} for option, _ in call.arguments.options):
        c.inner(call.name, call.arguments.operands, call.place)


def _check_env(c: Classifier, call: Call) -> None:
    rest = list(call.arguments.operands)
    while rest and (match := _ASSIGNMENT.fullmatch(rest[0].value)):
        word = rest.pop(0)
        value = Word(match[2], exact=word.exact, text=word.text)
        c.assignment(match[1], value, call.place)
    split = next((value for option, value in call.arguments.options if option in {"-S", "--split-string"}), None)
    if split is not None and split.exact:
        text = " ".join([split.value, *(word.text for word in rest)])
        c.text(text if not _ASSIGNMENT.match(split.value) else f"env {text}", call.place)
    else:
        c.inner(call.name, rest, call.place)


def _check_xargs(c: Classifier, call: Call) -> None:
    inner = call.arguments.operands
    marks = [value.value for option, value in call.arguments.options if option in {"-I", "-i", "--replace"} and value is not None]
    if any(option in {"-I", "-i", "--replace"} for option, _ in call.arguments.options):
        mark = marks[0] if marks and marks[0] else "{}"
        inner = [
            replace(word, value=word.value.replace(mark, UNKNOWN), exact=word.exact and mark not in word.value) for word in inner
        ]
    else:
        inner = [*inner, _UNKNOWN_WORD]
    if call.arguments.operands:
        c.program(tuple(inner), replace(call.place, is_fed=True, stdin=None))


def _check_flock(c: Classifier, call: Call) -> None:
    inner = call.arguments.operands[1:]
    if inner and inner[0].value in {"-c", "--command"}:
        _check_shell(c, replace(call, words=(_UNKNOWN_WORD, *inner)))
    else:
        c.inner(call.name, inner, call.place)


def _check_parallel(c: Classifier, call: Call) -> None:
    inner = list(call.arguments.operands)
    at = next((number for number, word in enumerate(inner) if word.value.startswith(":::")), len(inner))
    if at == 0 or not all(word.exact for word in inner[:at]):
        c.unseen("the commands are not known", call.place)
        return
    text = " ".join(word.value for word in inner[:at])  # a shell reads it
    c.text(re.sub(r"\{[^{}]*\}", '"$1"', text) + ' "$1"', call.place)


def _check_find(c: Classifier, call: Call) -> None:
    rest = list(call.words[1:])
    while rest:
        word = rest.pop(0)
        if (
            not word.exact
            and (word.value.startswith((UNKNOWN, "-")) or not call.place.text.startswith('"'))
            and UNKNOWN in word.value
        ):
            c.add("wd", "a word that is not known may be an action of find", call.place, exact=False)
        if word.value in {"-exec", "-execdir", "-ok", "-okdir"}:
            end = next(
                (
                    n
                    for n, each in enumerate(rest)
                    if each.value == ";" or (each.value == "+" and n and rest[n - 1].value == "{}")
                ),
                len(rest),
            )
            inner = [
                replace(each, value=each.value.replace("{}", UNKNOWN), exact=each.exact and "{}" not in each.value)
                for each in rest[:end]
            ]
            del rest[: end + 1]
            c.inner(call.name, inner, replace(call.place, is_fed=True, stdin=None))
            if word.value.startswith("-ok"):
                c.add("i", "find asks", call.place)
        elif word.value == "-delete":
            c.add("d", "find -delete removes files", call.place)
        elif word.value in {"-fprint", "-fprint0", "-fls", "-fprintf"}:
            c.add("w", f"find {word.value} writes a file", call.place)
            if rest:
                c.path(rest.pop(0), call.place, writes=True)
        elif word.value in {
            "-name",
            "-iname",
            "-path",
            "-ipath",
            "-wholename",
            "-regex",
            "-iregex",
            "-printf",
            "-lname",
            "-ilname",
        }:
            del rest[:1]  # patterns
        else:
            c.path(word, call.place, writes=False)


def _check_fd(c: Classifier, call: Call) -> None:
    for number, word in enumerate(call.words):
        if re.fullmatch(r"-[A-Za-z]*[xX]|--exec|--exec-batch", word.value):
            inner = [
                replace(each, value=re.sub(r"\{.?.?\}", UNKNOWN, each.value), exact=each.exact and "{" not in each.value)
                for each in call.words[number + 1 :]
            ]
            c.inner(call.name, [*inner, _UNKNOWN_WORD] if inner else [], replace(call.place, is_fed=True, stdin=None))
            return
        if word.value.startswith(("--exec", "-x", "-X")):
            c.unseen(f"{call.name} runs a command that is not known", call.place)


def _check_interpreter(c: Classifier, call: Call) -> None:
    if len(call.words) == 1 and not call.place.is_fed:
        c.add("i", f"{call.name} waits for commands", call.place)


def _check_python(c: Classifier, call: Call) -> None:
    rest = list(call.words[1:])
    while rest and rest[0].exact and re.fullmatch(r"-[bBdEhiIOPqsSuvVx]+", rest[0].value):
        rest.pop(0)
    if len(rest) > 1 and rest[0].exact and rest[0].value == "-m" and rest[1].exact:
        if rest[1].value in known.PROGRAMS:
            c.program(tuple(rest[1:]), call.place)
        elif rest[1].value in {"http.server", "ensurepip", "smtplib", "ftplib", "telnetlib", "urllib.request"}:
            c.add("n", f"python -m {rest[1].value} talks to other machines", call.place)
    _check_interpreter(c, call)


def _check_sed(c: Classifier, call: Call) -> None:
    given: list[Word | None] = [value for option, value in call.arguments.options if option in {"-e", "--expression"}]
    files = [value for option, value in call.arguments.options if option in {"-f", "--file"}]
    operands = list(call.arguments.operands)
    if any(option.startswith("-i") for option, _ in call.arguments.options):
        for word in operands:
            c.path(word, call.place, writes=True)
    if files:
        c.add("w", "a script of sed stands in a file that is not looked into", call.place)
    if not given and not files and operands:
        given = [operands.pop(0)]
    _scripts(c, "sed", scripts.read_sed, given, call.place)
    for word in operands:
        c.path(word, call.place, writes=False)


def _check_awk(c: Classifier, call: Call) -> None:
    given: list[Word | None] = [value for option, value in call.arguments.options if option in {"-e", "--source"}]
    operands = list(call.arguments.operands)
    if any(option in {"-f", "--file"} for option, _ in call.arguments.options):
        c.add("w", "a program of awk stands in a file that is not looked into", call.place)
    elif not given and operands:
        given = [operands.pop(0)]
    _scripts(c, "awk", scripts.read_awk, given, call.place)
    for word in operands:
        c.path(word, call.place, writes=False)


def _lists_archive(call: Call) -> bool:
    """`tar -t`."""
    options = _tar_options(call)
    changing = {
        "-x",
        "-c",
        "-r",
        "-u",
        "-A",
        "--extract",
        "--get",
        "--create",
        "--append",
        "--update",
        "--delete",
        "--concatenate",
    }
    long = {option for option in options if option.startswith("--")}
    is_list = bool(options & {"-t", "--list"}) and not options & changing
    return is_list and long <= {"--list", "--file", "--verbose"} and all(word.exact for word in call.words)


def _tar_options(call: Call) -> set[str]:
    """Collect the options, also those of the old style, without a dash."""
    first = call.words[1].value if len(call.words) > 1 and call.words[1].exact else ""
    letters = "" if first.startswith("-") else first
    return {option for option, _ in call.arguments.options} | {f"-{letter}" for letter in letters}


def _check_tar(c: Classifier, call: Call) -> None:
    if any(_REMOTE.match(word.value) for word in call.arguments.operands[:2]) and "--force-local" not in _tar_options(call):
        c.add("n", "tar reads an archive of another machine", call.place)


def _check_remote(c: Classifier, call: Call) -> None:
    if any(_REMOTE.match(word.value) or not word.exact for word in call.arguments.operands):
        c.add("n", f"{call.name} talks to another machine", call.place)


def _lists_signals(call: Call) -> bool:
    """`kill -l`."""
    return len(call.words) > 1 and call.words[1].value in {"-l", "-L"} and all(word.exact for word in call.words)


def _check_kill(c: Classifier, call: Call) -> None:
    numbers = [word for word in call.words[1:] if re.fullmatch(r"-?\d+", word.value)]
    if len(numbers) > (1 if len(call.words) > 2 and re.fullmatch(r"-\d+", call.words[1].value) else 0):
        c.add("h", "kill ends a process that is named by its number", call.place)


def _check_hostname(c: Classifier, call: Call) -> None:
    if call.arguments.operands:
        c.add("h", f"{call.name} names the machine", call.place)


def _check_bc(c: Classifier, call: Call) -> None:
    text = " ".join(word.value for word in call.words[1:]) + (call.place.stdin.value if call.place.stdin else "")
    if call.name == "dc" and ("!" in text or UNKNOWN in text or (call.place.is_fed and call.place.stdin is None)):
        c.unseen("dc may run commands", call.place)
    elif len(call.words) == 1 and not call.place.is_fed:
        c.add("i", f"{call.name} waits for input", call.place)


_GIT_CONFIG_LOOKS = frozenset({"--get", "--get-all", "--get-regexp", "--get-urlmatch", "-l", "--list", "--get-color"})
_GIT_CONFIG_SCOPES = frozenset(
    {
        "--local",
        "--global",
        "--system",
        "--worktree",
        "--show-origin",
        "--show-scope",
        "--name-only",
        "-z",
        "--null",
        "--type",
        "--bool",
    }
)


def _shows_config(call: Call) -> bool:
    """`git config --get` and its like."""
    options = {option for option, _ in call.arguments.options}
    operands = call.arguments.operands
    first = operands[0].value if operands else ""
    is_look = bool(options & _GIT_CONFIG_LOOKS) or first in {"get", "list"} or (len(operands) == 1 and first != "edit")
    return is_look and options <= _GIT_CONFIG_LOOKS | _GIT_CONFIG_SCOPES and all(word.exact for word in call.words)


def _check_git_config(c: Classifier, call: Call) -> None:
    options = {option for option, _ in call.arguments.options}
    if options & {"--global", "--system", "-f", "--file"} and not _shows_config(call):
        c.add("h", "git config changes settings outside of the workspace", call.place)


def _check_git(c: Classifier, call: Call) -> None:
    for option, value in call.arguments.options:
        if option == "-c":
            _git_setting(c, value, call.place)
        elif option in {"--config-env", "--exec-path"} and value is not None:
            c.add("w", f"git {option} changes what git runs", call.place)
    if any(word.value.startswith("ext::") for word in call.words):
        c.unseen("git runs the command of an ext:: address", call.place)
    c.subcommand(call.name, call.program, call.arguments, call.place)


def _scripts(c: Classifier, name: str, read: Callable[[str], scripts.Script], given: list[Word | None], place: Place) -> None:
    """Look into scripts that stand in the command; one that is known in part is a program that is not looked into."""
    for text in given:
        script = read(text.value) if text is not None else None
        if script is None or text is None or not text.exact:
            c.add("w", f"not all of a script of {name} is known", place, exact=False)
        if script is not None and (script.is_clear or (text is not None and text.exact)):
            _script(c, name, script, place)


def _script(c: Classifier, name: str, script: scripts.Script, place: Place) -> None:
    if not script.is_clear:
        c.unseen(f"the script of {name} is not understood", place)
    for command in script.commands:
        if command and "$" not in command:
            c.add("r", f"{name} runs a command", place)
            c.text(command, replace(place, is_fed=True, stdin=None))
        else:
            c.unseen(f"{name} runs a command that is not known", place)
    for path in script.writes:
        if path in known.DEVICES:
            continue
        c.add("w", f"{name} writes a file", place)
        c.path(Word(path, exact=bool(path), text=path) if path else _UNKNOWN_WORD, place, writes=True)
    for path in script.reads:
        c.path(Word(path, exact=True, text=path), place, writes=False)


def _git_setting(c: Classifier, value: Word | None, place: Place) -> None:
    """A setting given with `git -c`."""
    if value is None or not value.exact:
        c.unseen("a setting of git is not known", place)
        return
    key, _, text = value.value.partition("=")
    key = key.lower()
    if key.startswith("alias."):
        c.text(text[1:] if text.startswith("!") else f"git {text}", place)
    elif key.startswith(known.GIT_COMMAND_KEYS):
        if text not in {"", "true", "false"}:
            c.text(text, replace(place, is_fed=True, stdin=None))
    elif not key.startswith(known.GIT_HARMLESS_KEYS):
        c.unseen(f"git's setting '{key}' may name a command", place)


CHECKS: dict[str, Callable[[Classifier, Call], None]] = {
    "shell": _check_shell,
    "source": _check_source,
    "other-shell": _check_other_shell,
    "busybox": _check_busybox,
    "eval": _check_eval,
    "trap": _check_trap,
    "alias": _check_alias,
    "test": _check_test,
    "command": _check_command,
    "env": _check_env,
    "xargs": _check_xargs,
    "flock": _check_flock,
    "parallel": _check_parallel,
    "find": _check_find,
    "fd": _check_fd,
    "interpreter": _check_interpreter,
    "python": _check_python,
    "sed": _check_sed,
    "awk": _check_awk,
    "tar": _check_tar,
    "remote": _check_remote,
    "kill": _check_kill,
    "hostname": _check_hostname,
    "bc": _check_bc,
    "git-config": _check_git_config,
    "git": _check_git,
}
"""By the name that the table gives."""

LOOKS: dict[str, Callable[[Call], bool]] = {"kill": _lists_signals, "tar": _lists_archive, "git-config": _shows_config}
"""Whether a program that writes is only asked to show something."""
