"""What commands may do is told from their text, and never lower than it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.proxy.policy.commands import programs
from avfs_git.proxy.policy.commands.checks import CHECKS
from avfs_git.proxy.policy.commands.classify import categories_of, classify
from avfs_git.proxy.policy.decision import Category, Request

_LETTERS = {
    "r": Category.READ_ONLY,
    "w": Category.MUTATING,
    "d": Category.DESTRUCTIVE,
    "n": Category.NETWORKED,
    "h": Category.HOST_ESCAPE_RISK,
    "i": Category.INTERACTIVE,
}
_WORST = {Category.MUTATING, Category.DESTRUCTIVE, Category.NETWORKED, Category.HOST_ESCAPE_RISK}


def _read_corpus() -> list[tuple[str, frozenset[Category]]]:
    found = []
    for line in (Path(__file__).with_name("corpus") / "categories.txt").read_text("utf-8").splitlines():
        letters, bar, command = line.partition(" | ")
        if bar and not line.startswith("#"):
            found.append((command.replace("⏎", "\n"), frozenset(_LETTERS[letter] for letter in letters.strip())))
    return found


CORPUS = _read_corpus()


def categories(shell: str, **more: object) -> frozenset[Category]:
    """Classify a text for a shell."""
    return frozenset(categories_of(classify(Request("/v", "f", shell=shell, **more))))  # type: ignore[arg-type]  # as `Request` has them


def test_the_corpus_is_large() -> None:
    """It holds each category, and hundreds of commands."""
    assert len(CORPUS) > 400
    assert len({command for command, _ in CORPUS}) > 400


@pytest.mark.parametrize(("command", "expected"), CORPUS, ids=[command[:50] for command, _ in CORPUS])
def test_commands_of_the_corpus(command: str, expected: frozenset[Category]) -> None:
    """Each command is exactly what the corpus says."""
    assert categories(command) == expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("ls", "-l"), "r"),
        (("echo", "$(rm -rf a)"), "r"),  # no shell reads it
        (("cat", "a; rm -rf b"), "r"),
        (("rm", "-rf", "a"), "wd"),
        (("sh", "-c", "rm -rf a"), "wd"),
        (("bash", "-lc", "curl x"), "n"),
        (("env", "A=b", "curl", "x"), "n"),
        (("find", ".", "-exec", "rm", "-r", "{}", ";"), "wd"),
        (("cat", "/etc/passwd"), "h"),
        (("cat", "~/x"), "r"),  # without a shell, a directory of that name
        (("git", "-c", "alias.x=!rm -rf a", "x"), "wd"),
        (("",), "w"),
        (("cat", "\udcff"), "r"),
        (("python3.12", "-c", "1"), "w"),
        (("/opt/x/ls",), "w"),
        (("./ls",), "w"),
        (("sort", "-o", "/etc/x", "a"), "wh"),
    ],
)
def test_programs_with_arguments(argv: tuple[str, ...], expected: str) -> None:
    """Without a shell, words are what they are."""
    assert categories_of(classify(Request("/v", "f", argv=argv))) == tuple(
        category for category in Category if category in {_LETTERS[letter] for letter in expected}
    )


def test_the_environment_of_a_request_counts() -> None:
    """A variable that makes a program run something is as good as the command."""
    assert categories("ls", env=(("PAGER", "rm -rf a"),)) == {Category.MUTATING, Category.DESTRUCTIVE}
    assert categories("git log", env=(("GIT_EXTERNAL_DIFF", "$(x)"),)) >= {Category.MUTATING}
    assert categories("ls", env=(("BASH_FUNC_ls%%", "() { rm -rf a; }"),)) == {Category.MUTATING}
    assert categories("ls", env=(("LD_PRELOAD", "/x.so"),)) >= {Category.MUTATING}
    assert categories("ls", env=(("FOO", "bar"),)) == {Category.READ_ONLY}
    assert categories("cat $F", env=(("F", "/etc/passwd"),)) == {Category.HOST_ESCAPE_RISK}


def test_a_shell_runs_what_it_reads() -> None:
    """A shell that is given something to read may do anything; another program may not."""
    assert set(categories_of(classify(Request("/v", "f", argv=("bash",), has_stdin=True)))) >= _WORST
    assert categories("bash", has_stdin=True) == _WORST
    assert categories("ls; bash", has_stdin=True) == _WORST
    assert categories("bash -s a", has_stdin=True) >= _WORST
    assert categories("cat", has_stdin=True) == {Category.READ_ONLY}
    assert categories("bash") == {Category.MUTATING, Category.INTERACTIVE}


@pytest.mark.parametrize(
    ("command", "is_asked"),
    [
        ("bash -i", True),
        ("python3", True),
        ("python3 -i", True),
        ("python3 -qi script.py", True),
        ("python3 -", True),
        ("python3 -W ignore", True),
        ("python3 -m pdb script.py", True),
        ("ls; python3", True),
        ("node", True),
        ("node -i", True),
        ("perl", True),
        ("irb", True),
        ("python3 script.py", False),
        ("python3 -u -c 1", False),
        ("python3 -cimport", False),
        ("python3 -m json.tool a.json", False),
        ("echo 1 | python3 -", False),
        ("python3 <script.py", False),
        ("node script.js", False),
        ("perl -i -pe s/a/b/ file", False),
        ("ruby -e 1", False),
        ("sqlite3 app.db 'select 1'", False),
        ("gdb -batch -ex run ./program", False),
        ("vim file", False),
        ("nano", False),
        ("less file", False),
    ],
)
def test_an_interpreter_at_a_terminal_runs_what_is_typed(command: str, is_asked: bool) -> None:
    """Without a program of its own it is as unknown as a shell there; away from a terminal it is not."""
    typed = categories(command, has_stdin=True, options=(("terminal", "True"),))
    assert (typed >= _WORST) is is_asked
    if not command.startswith("bash"):
        assert not categories(command) >= _WORST


def test_paths_are_seen_from_where_the_command_runs() -> None:
    """`..` may stay inside, and the mount's own path is inside."""
    assert categories("cat ../a", cwd="/src") == {Category.READ_ONLY}
    assert categories("cat ../../a", cwd="/src") == {Category.HOST_ESCAPE_RISK}
    assert categories("cat /mnt/x/a", mountpoint="/mnt/x") == {Category.READ_ONLY}
    assert categories("cat /mnt/x/../a", mountpoint="/mnt/x") == {Category.HOST_ESCAPE_RISK}
    assert categories("cat /mnt/xy", mountpoint="/mnt/x") == {Category.HOST_ESCAPE_RISK}
    assert categories("rm -r /mnt/x/a", mountpoint="/mnt/x") == {Category.MUTATING, Category.DESTRUCTIVE}
    assert categories("cd missing; cat ../../a", cwd="/src") == {Category.HOST_ESCAPE_RISK}  # it may not be there


def test_findings_say_where_they_are() -> None:
    """Each names its part of the text, its program and its paths."""
    text = "ls; rm -rf build && cat ../x"
    findings = classify(Request("/v", "f", shell=text))

    for finding in findings:
        assert finding.start is not None
        assert finding.end is not None
        assert text[finding.start : finding.end] == finding.text
    assert [(finding.category.value, finding.command[0], finding.paths) for finding in findings] == [
        ("read_only", "ls", ()),
        ("mutating", "rm", ("build",)),
        ("destructive", "rm", ("build",)),
        ("destructive", "rm", ("build",)),
        ("host_escape_risk", "cat", ("/..",)),
    ]


def test_spans_are_counted_in_characters() -> None:
    """Also behind letters that take several bytes."""
    text = "echo 'äöü€😀'; rm a"
    finding = classify(Request("/v", "f", shell=text))[-1]

    assert text[finding.start : finding.end] == "rm a"


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "$(" * 500 + "ls" + ")" * 500,
        "sh -c " * 200 + "ls",
        "'" * 10001,
        "a" * (1 << 20) + "b",
        "{a,b}" * 30,
        "eval " * 300 + "rm",
    ],
    ids=lambda text: text[:10],
)
def test_texts_that_would_exhaust_a_reader(text: str) -> None:
    """They are read to their end or given up, as the worst; never as harmless."""
    assert Category.READ_ONLY not in categories(text)


@pytest.mark.slow
def test_nothing_hides_behind_many_commands() -> None:
    """A text of more commands than are told one by one counts as the worst."""
    many = "".join(f"ls a{number}\n" for number in range(1000))

    assert categories(many) == {Category.READ_ONLY}
    assert categories(many + "rm -rf a") == {Category.MUTATING, Category.DESTRUCTIVE}
    assert categories(many * 2 + "".join(f"ls b{number}\n" for number in range(1500)) + "curl x") == _WORST


@pytest.mark.parametrize(
    "text",
    [
        ":{\U0010fffd@`",
        "{\U0010fffd",
        "/+\U0010fffd|\u014b@\n\u026b\u0330{\U0010fffd\u0458",
        "$\U0010ffff{a",
        "<<\U000e0001\n",
    ],
)
def test_letters_that_break_the_grammar(text: str) -> None:
    """They do not reach it: its scanner reads outside of its tables for some of them."""
    assert categories(text)
    assert categories(f"{text}\nrm -rf a") - {Category.READ_ONLY, Category.INTERACTIVE}


def test_letters_that_are_no_blanks() -> None:
    """What bash takes for a part of a word does not end one."""
    assert categories("\u00e9=1 ls") == {Category.MUTATING}  # a program of that name
    assert categories("ls\rx") == {Category.MUTATING}
    assert categories("echo \u00a0rm") == {Category.READ_ONLY}


@pytest.mark.parametrize("unit", ["x=(", "a|", "<<-E\n", "a&&", "[[ "])
def test_texts_that_take_long_are_given_up(unit: str) -> None:
    """The grammar is slow with some; they are not read, and count as the worst. Files in here-documents are read."""
    assert categories(unit * 100_000) == _WORST
    assert categories("cat > f <<'EOF'\n" + unit * 10_000 + "\nEOF\n") == {Category.MUTATING}


@pytest.mark.parametrize(
    "text",
    [
        "frob --" + "a_" * 400 + "!",
        "frob --out" + "_a" * 20_000 + "!",
        "frob " + "https://x/ " * 3_000,
        "make " + "a:" * 20_000,
        "python -c '" + "exec" * 20_000 + "'",
        "python -c 'call" + " " * 60_000 + "x'",
        "ed f <<'E'\n" + "\n" * 40_000 + "\nE",
        "vim -c 's/" + "a" * 60_000 + "' f",
        "ps " + "e " * 20_000,
        "sed 's/a/b/" + "1" * 60 + "y' f",
        "vim -c '" + "ter " * 20_000 + "' f",
        "gdb -ex '" + "sh -x " * 20_000 + "' f",
        "perl -e '`" + "%x" * 20_000 + "' f",
        "sed '/" + "[" * 40_000 + "' f",
        "sed '" + "s/a/b/;" * 10_000 + "e' f",
        "awk '{" + "print " * 20_000 + "| x}' f",
        "rm {a" + "." * 100_000,
        "export " + "a=b " * 30_000,
        "cd a; " * 3_000,
    ],
    ids=lambda text: text[:20],
)
def test_words_that_are_made_to_be_slow_are_read(text: str) -> None:
    """Time follows length: a pattern that tries every division of a word would not return from some of these."""
    assert Category.READ_ONLY not in categories(text)


def test_the_table_is_well_formed() -> None:
    """Every entry can be read; its letters, options, operands and checks are known; each name stands once."""
    for name in programs.names():
        program = programs.find(name)
        assert program is not None
        assert set(program.does) | set(program.other) <= set("rwdnhi"), name
        assert program.check in {"", *CHECKS}, name
        assert program.operands[:1] in {
            (),
            ("text",),
            ("written",),
            ("created",),
            ("changed",),
            ("tool",),
            ("command",),
        }, name
        for option, effect in program.options.items():
            assert option.startswith("-"), (name, option)
            assert set(effect.does) <= set("wdnhi"), (name, option)
    text = Path(programs.__file__).with_name("programs.txt").read_text("utf-8")
    headers = [line.partition(":")[0] for line in text.splitlines() if line and line[0] not in "# "]
    names = [name for header in headers for name in header.split(", ")]
    assert len(names) == len(set(names)) or sorted({name for name in names if names.count(name) > 1}) == [":"]


# --- wrapping never lowers -------------------------------------------------------------------------------

_INNER = [command for command, _ in CORPUS if "\n" not in command and not re.search(r"[&|]\s*$|<<", command)]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_WRAPPERS = [
    lambda text: f"sh -c {_quote(text)}",
    lambda text: f"bash -lc {_quote(text)}",
    lambda text: f"env FOO=1 sh -c {_quote(text)}",
    lambda text: f"nice -n 3 bash -c {_quote(text)}",
    lambda text: f"timeout -k 1 5 sh -c {_quote(text)}",
    lambda text: f"nohup stdbuf -oL sh -c {_quote(text)}",
    lambda text: f"time sh -c {_quote(text)}",
    lambda text: f"eval {_quote(text)}",
    lambda text: f"sudo -u x sh -c {_quote(text)}",
    lambda text: f"xargs -n1 sh -c {_quote(text)} < list",
    lambda text: f"find . -exec sh -c {_quote(text)} \\;",
    lambda text: f"git -c alias.x={_quote('!' + text)} x",
    lambda text: f"PAGER={_quote(text)} git log",
    lambda text: f"busybox sh -c {_quote(text)}",
    lambda text: f"trap {_quote(text)} EXIT",
    lambda text: f"ls; {{ {text}\n}}",
    lambda text: f"( {text}\n)",
    lambda text: f"true && {{ {text}\n}}",
    lambda text: f"false || ( {text}\n)",
    lambda text: f"if true; then {text}\nfi",
    lambda text: f"while true; do {text}\ndone",
    lambda text: f"f() {{ {text}\n}}; f",
    lambda text: f"echo $( {text}\n)",
    lambda text: f'echo "$( {text}\n)"',
    lambda text: f"cat <( {text}\n)",
    lambda text: f"x=$( {text}\n)",
    lambda text: f"bash <<'END_OF_IT'\n{text}\nEND_OF_IT\n",
]


@given(st.sampled_from(_INNER), st.lists(st.sampled_from(_WRAPPERS), min_size=1, max_size=4))
def test_wrapping_never_lowers(command: str, wrappers: list[object]) -> None:
    """A command in any chain of wrappers is at the least what it is alone."""
    wrapped = command
    for wrap in wrappers:
        wrapped = wrap(wrapped)  # type: ignore[operator]  # Hypothesis has no type for functions of a list
    alone = categories(command) - {Category.READ_ONLY, Category.INTERACTIVE}

    found = categories(wrapped)

    assert alone <= found, wrapped
    if Category.READ_ONLY in found:
        assert categories(command) & {Category.READ_ONLY, Category.INTERACTIVE}, wrapped


@given(st.text())
def test_any_text_is_classified(text: str) -> None:
    """Nothing crashes, and each text has a category."""
    assert categories(text)


@given(st.binary())
def test_any_bytes_are_classified(data: bytes) -> None:
    """The same of bytes that are not UTF-8, as a program's words."""
    text = data.decode("utf-8", "surrogateescape")

    assert categories(text)
    assert categories_of(classify(Request("/v", "f", argv=("sh", "-c", text))))


_PARTS = r"""
    ls rm -rf a $x $( ) ` ' " \ ; & | < > << EOF { } , ~ / .. # ! ( [[ ]] ${ * = function if then fi case in esac $' \x72 eval sh
"""
_NASTY = st.lists(st.sampled_from([*_PARTS.split(), " ", "  ", "\n", "sh -c "]), max_size=14).map("".join)


@given(_NASTY)
def test_what_is_read_only_changes_nothing(text: str) -> None:
    """A text that is read only starts no program but known ones, as bash itself sees it.

    A text for which bash would run `rm` is not read only.

    Bash runs it with a `PATH` in which each program only says that it was started.
    """
    if Category.READ_ONLY not in categories(text):
        return
    script = "rm() { echo STARTED >&2; }\nls() { :; }\nenable -n echo\n" + text
    done = subprocess.run(
        ["/bin/bash", "--norc", "--noprofile", "-r", "-c", script],  # restricted: it cannot write or leave
        env={"PATH": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert b"STARTED" not in done.stderr, text
