"""What a shell's builtins do with their words: texts that they run, variables they set, values they evaluate.

Decided here: which forms of them are harmless; all others are reported. `checks` names these functions, beside those
for other programs. Functions without state.
"""

from __future__ import annotations

import re

from avfs_git.patterns import compiled
from avfs_git.proxy.policy.commands.arguments import may_be_option
from avfs_git.proxy.policy.commands.findings import Call, Findings
from avfs_git.proxy.shell import variables
from avfs_git.proxy.shell.words import UNKNOWN, Word
from avfs_git.values import replace

_ASSIGNMENT = compiled(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_NAME = compiled(r"[A-Za-z_][A-Za-z0-9_]*")


# --- shells ------------------------------------------------------------------------------------------------


def check_shell(c: Findings, call: Call) -> None:
    """Find what a shell runs: a text, a file, or what it reads."""
    rest = list(call.words[1:])
    takes_text = reads = False
    while rest and rest[0].exact and re.match(r"[-+].", rest[0].value) and rest[0].value != "--":
        option = rest.pop(0).value
        if option.startswith("--"):
            if option in {"--rcfile", "--init-file"}:
                c.add("w", f"{call.name} {option} runs a file that is not looked into", call.place)
                del rest[:1]
            elif option not in {
                "--login",
                "--norc",
                "--noprofile",
                "--posix",
                "--restricted",
                "--noediting",
                "--verbose",
            }:
                c.unseen(f"{call.name} has an option that avfs does not know", call.place)
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
        c.words_as_paths(rest[1:], call.place)
    elif rest and not reads and rest[0].value not in {"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}:
        _run_file(c, call, rest[0])
        c.words_as_paths(rest, call.place)
    elif call.place.stdin is not None and call.place.stdin.exact:
        c.text(call.place.stdin.value, replace(call.place, stdin=None, is_fed=True))
    elif call.place.is_fed:
        c.unseen(f"{call.name} runs what it reads", call.place)
    else:
        c.add("wi", f"{call.name} waits for commands", call.place)


def _run_file(c: Findings, call: Call, word: Word) -> None:
    """A file of shell text: one of the workspace is as opaque as any program; what is made on the fly is hidden."""
    if word.value.startswith(("/dev/", "/proc/")) or (word.value.startswith(UNKNOWN) and "/" not in word.value):
        c.unseen(f"what {call.name} runs is not known", call.place)
    else:
        c.add("w", f"{call.name} runs a file that is not looked into", call.place, paths=c.resolve(word, call.place))
        c.path(word, call.place)


def check_source(c: Findings, call: Call) -> None:
    """Look at the file that is read into the shell."""
    if len(call.words) > 1:
        _run_file(c, call, call.words[1])
        c.words_as_paths(call.words[2:], call.place)


def check_other_shell(c: Findings, call: Call) -> None:
    """Say when a shell waits for a person."""
    if len(call.words) == 1 and not call.place.is_fed:
        c.add("i", f"{call.name} waits for commands", call.place)


def check_busybox(c: Findings, call: Call) -> None:
    """Look at the command behind `busybox`."""
    if len(call.words) > 1:
        c.program(call.words[1:], call.place)


def check_eval(c: Findings, call: Call) -> None:
    """Read the text that is evaluated."""
    words = tuple(call.arguments.operands) if call.name != "eval" else call.words[1:]
    if not all(word.exact for word in words):
        c.unseen(f"the text for {call.name} is not known", call.place)
    elif words:
        c.text(" ".join(word.value for word in words), call.place)


def check_trap(c: Findings, call: Call) -> None:
    """Read the text that a signal runs."""
    operands = [word for word in call.words[1:] if not (word.exact and word.value in {"--", "-l", "-p"})]
    if not operands:
        return
    if not operands[0].exact:
        c.unseen("the command of a trap is not known", call.place)
    elif operands[0].value not in {"", "-"} and len(operands) > 1:
        c.text(operands[0].value, call.place)


def check_alias(c: Findings, call: Call) -> None:
    """Read what an alias stands for, and remember it."""
    for word in call.words[1:]:
        alias, equals, text = word.value.partition("=")
        if not equals:
            continue
        if not word.exact:
            c.unseen("an alias is not known", call.place)
            continue
        c.text(text, replace(call.place, is_fed=True))
        c.aliases[alias] = text


def check_runs(c: Findings, call: Call) -> None:
    """A program whose options are not all known, with a command somewhere behind them."""
    for word in call.words[1:]:
        c.expanded(word.value, call.place)  # `let` evaluates
        if word.exact and " " in word.value:  # such as the value of `compgen -C`
            c.text(word.value, replace(call.place, is_fed=True, stdin=None))
    starts = [at for at, word in enumerate(call.words) if at and not word.value.startswith("-")]
    for at in starts[:3]:
        c.program(call.words[at:], call.place)


# --- builtins of shells that set variables or evaluate what those hold -----------------------------------------


def check_any(c: Findings, call: Call) -> None:
    """Every word is harmless: a place to go to counts as a path, a text does not."""
    if call.name in {"cd", "pushd"}:
        c.words_as_paths([word for word in call.words[1:] if not re.match(r"[-+]", word.value)], call.place)
        if len(call.words) == 1 and call.name == "cd":
            c.path(Word("/~", exact=False, text="~"), call.place)


def check_bare(c: Findings, call: Call) -> None:
    """Every word is harmless, if it is known."""
    if not all(word.exact for word in call.words):
        c.add("w", f"a word that is not known may be an option of {call.name}", call.place, exact=False)


def check_printf(c: Findings, call: Call) -> None:
    """Report `printf -v`, and what may be it."""
    if len(call.words) > 1 and (may_be_option(call.words[1]) or re.match(r"-[^-]", call.words[1].value)):
        c.add("w", "printf may set a variable", call.place)
        for word in call.words[1:3]:
            c.expanded(word.value, call.place)


def check_test(c: Findings, call: Call) -> None:
    """Check the command `test`: it evaluates an array index for `-v`, and an unknown word may be an operator."""
    words = list(call.words[1:])
    while words and words[0].exact and words[0].value == "!":
        del words[0]
    if words and words[-1].exact and words[-1].value == "]":
        del words[-1]
    shapes = {
        0: True,
        1: words[:1] and _is_one(words[0]),
        2: len(words) == 2
        and words[0].exact
        and _is_one(words[1])
        and re.fullmatch(r"-[a-zA-Z]", words[0].value) is not None,
        3: len(words) == 3 and words[1].exact and _is_one(words[0]) and _is_one(words[2]),
    }
    reads_index = any(word.exact and word.value in {"-v", "-R"} for word in words)
    if reads_index and not all(re.fullmatch(r"-\w|\w+", word.value) for word in words):
        c.unseen("test evaluates the index of an array", call.place)
    elif not (shapes.get(len(words)) or all(word.exact for word in words)):
        c.add("w", "a word that is not known may be an operator of test", call.place, exact=False)
    c.words_as_paths([word for word in words if not word.value.startswith("-")], call.place)


def _is_one(word: Word) -> bool:
    """Whether it is surely one word."""
    return not word.splits


def check_set(c: Findings, call: Call) -> None:
    """Report options of the shell that change how it reads commands."""
    for word in call.words[1:]:
        if word.exact and word.value == "--":
            return
        known = re.fullmatch(r"[-+][efuxvEo]+|pipefail|errexit|nounset|xtrace|errtrace|noglob", word.value)
        if not (word.exact and known):
            c.add("w", "set changes how the shell reads commands", call.place)


def check_shopt(c: Findings, call: Call) -> None:
    """Report further options of the shell that do."""
    for word in call.words[1:]:
        if not (
            word.exact
            and re.fullmatch(r"-[squp]+|nullglob|globstar|dotglob|failglob|nocaseglob|inherit_errexit", word.value)
        ):
            c.add("w", "shopt changes how the shell reads commands", call.place)


def check_declare(c: Findings, call: Call) -> None:
    """`export` and its like: assignments are looked at where they stand; the words beside them are here."""
    for word in call.words[1:]:
        if not word.exact:
            c.add("w", f"{call.name} sets a variable that is not known", call.place, exact=False)
        elif (match := _ASSIGNMENT.fullmatch(word.value)) and not match[2].startswith("("):
            c.assignment(match[1], replace(word, value=match[2]), call.place)
        elif _NAME.fullmatch(word.value):
            _set_variable(c, call, word.value)
        elif word.value not in {"-r", "-x", "-g", "-p", "-rx", "-gx", "--"} | (
            {"-v"} if call.name == "unset" else set()
        ):
            c.add("w", f"{call.name} {word.value} may evaluate what a variable holds", call.place)
            c.expanded(word.value, call.place)


def check_read(c: Findings, call: Call) -> None:
    """Look at the variables that a line, or lines, are read into."""
    for word in call.arguments.operands:
        if word.exact and _NAME.fullmatch(word.value):
            _set_variable(c, call, word.value)
        else:
            c.add("w", f"{call.name} sets a variable that is not known", call.place, exact=False)
            if word.exact:
                c.expanded(word.value, call.place)
    for value in call.arguments.values("-C"):
        c.command_value(call.name, "-C", value, call.place)


def _set_variable(c: Findings, call: Call, name: str) -> None:
    if variables.names_a_command(name) or variables.changes_programs(name):
        c.add("w", f"{call.name} sets {name}, which makes programs load code or options", call.place)
