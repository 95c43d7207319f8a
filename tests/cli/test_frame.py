"""What holds for every command: one document in every outcome, exit statuses, help, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from avfs_git.cli import table
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import ForkNotFound, InternalError
from avfs_git.model import ChangedFile, ChangeKind, CheckpointResult, Warning
from tests.support.cli import Cli, Ran, spawn

ENVELOPE = {"schema_version", "kind", "success", "request", "result", "warnings", "error"}
ERROR = {"code", "message", "hint", "exit_code", "details"}


@verb("fake", view="fake")
@click.argument("outcome")
@click.argument("rest", nargs=-1)
@click.option("-d", "--description")
def fake(state: State, outcome: str, rest: tuple[str, ...], description: str | None) -> object:
    """Do what it is told."""
    if outcome == "fork":
        raise ForkNotFound("x\udcff")
    if outcome == "bug":
        raise ZeroDivisionError("by zero")
    if outcome == "invariant":
        raise InternalError("two heads")
    if outcome == "interrupt":
        raise KeyboardInterrupt
    if outcome == "no proc":
        raise FileNotFoundError(2, "No such file or directory", "/proc/self/mountinfo")
    if outcome == "disk":
        raise OSError(28, "No space left on device")
    if outcome == "warn":
        warning = Warning("sidecar.too_big", "'a' was left out", b"a\xff")
        return CheckpointResult(
            "created", None, (ChangedFile(b"a\xff", ChangeKind.ADDED, new_mode=0o100644),), warnings=(warning,)
        )
    return {"outcome": outcome, "rest": rest, "description": description}


@pytest.fixture(autouse=True)
def fake_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a verb that ends as it is told to."""
    commands, views = ModuleType("fake"), ModuleType("fake")
    commands.command = fake  # type: ignore[attr-defined]
    views.fake = lambda text, value: text.line("fake: ", str(getattr(value, "outcome", value)))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "avfs_git.cli.commands.upkeep.fake", commands)
    monkeypatch.setitem(sys.modules, "avfs_git.cli.output.views.fake", views)
    monkeypatch.setitem(table.VERBS, "fake", table.Entry("upkeep", "Do what it is told."))


def check_document(ran: Ran) -> None:
    """Demand exactly one document with all its fields, whose status is the program's."""
    document = json.loads(ran.stdout)
    assert set(document) == ENVELOPE
    assert document["schema_version"] == 1
    assert ran.stdout.count(b"\n") == 1
    assert ran.stderr == ""
    if document["success"]:
        assert (document["error"], ran.status) == (None, 0)
    else:
        assert document["result"] is None
        assert set(document["error"]) >= ERROR
        assert document["error"]["exit_code"] == ran.status
        assert ran.status != 0


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("arguments", "kind", "status"),
    [
        (["fake", "fine"], "fake_result", 0),
        (["fake", "warn"], "fake_result", 0),
        (["fake", "fork"], "fake_result", 21),
        (["fake", "bug"], "fake_result", 70),
        (["fake", "invariant"], "fake_result", 70),
        (["fake", "interrupt"], "fake_result", 130),
        (["fake", "disk"], "fake_result", 1),
        (["fake"], "fake_result", 2),
        (["fake", "fine", "--bogus"], "fake_result", 2),
        (["checkpoint", "save", "--bogus"], "checkpoint_save_result", 2),
        (["checkpoint", "saev"], "error_result", 2),
        (["checkpoint"], "error_result", 2),
        (["nonsense"], "error_result", 2),
        (["--bogus"], "error_result", 2),
        ([], "where_result", 0),
        (["--version"], "version_result", 0),
    ],
)
def test_json_gives_one_document_in_every_outcome(
    cli: Cli, arguments: list[str], kind: str, status: int, place: str
) -> None:
    """Success, failure, misuse, a bug and Ctrl-C all give exactly one document, wherever `--json` stands."""
    line = ["--json", *arguments] if place == "before" else [*arguments, "--json"]

    ran = cli(*line)

    check_document(ran)
    assert (ran.document["kind"], ran.status) == (kind, status)


def test_request_shows_normalised_arguments(cli: Cli) -> None:
    """The request holds what was understood, defaults included."""
    ran = cli("fake", "fine", "a", "--json", "--vault", "v@f", "--", "--json", "-d")

    assert ran.document["request"] == {
        "vault": "v@f",
        "fork": None,
        "outcome": "fine",
        "rest": ["a", "--json", "-d"],
        "description": None,
    }


def test_json_behind_dashes_is_an_argument(cli: Cli) -> None:
    """Behind `--`, `--json` belongs to whoever is called."""
    ran = cli("fake", "fine", "--", "--json")

    assert ran.text == "fake: {'outcome': 'fine', 'rest': ('--json',), 'description': None}\n"


def test_json_as_the_value_of_an_option_is_a_value(cli: Cli) -> None:
    """An option takes `--json` as its value, and the answer is text."""
    ran = cli("fake", "fine", "-d", "--json")

    assert ran.text == "fake: {'outcome': 'fine', 'rest': (), 'description': '--json'}\n"


def test_warnings_stand_beside_the_result(cli: Cli) -> None:
    """A warning is an entry of `warnings`; names that are not UTF-8 come twice."""
    document = cli("fake", "warn", "--json").document

    assert document["warnings"] == [
        {"code": "sidecar.too_big", "message": "'a' was left out", "path": "a\ufffd", "path_b64": "Yf8="}
    ]
    assert "warnings" not in document["result"]
    assert document["result"]["changed_files"][0]["path_b64"] == "Yf8="
    assert document["result"]["changed_files"][0]["new_mode"] == "100644"


def test_error_document_survives_names_that_are_not_utf8(cli: Cli) -> None:
    """A name with stray bytes comes approximately as text and exactly in base64."""
    details = cli("fake", "fork", "--json").document["error"]["details"]

    assert details == {"fork": "x\ufffd", "fork_b64": "eP8="}


def test_text_errors_go_to_stderr_with_a_hint(cli: Cli) -> None:
    """Text mode says what failed and what to do on standard error, and nothing on standard output."""
    ran = cli("fake", "disk")

    assert (ran.status, ran.stdout, ran.stderr) == (
        1,
        b"",
        "error: cannot finish: No space left on device\nhint: Free some space, then try again.\n",
    )


def test_a_file_that_the_system_refused_is_named(cli: Cli) -> None:
    """As in a chroot without /proc."""
    assert cli("fake", "no proc").stderr == "error: cannot use '/proc/self/mountinfo': No such file or directory\n"


def test_bug_shows_its_trace_only_on_request(cli: Cli) -> None:
    """A bug is one line and a hint; `--verbose` shows the trace."""
    short, long = cli("fake", "bug"), cli("fake", "bug", "--verbose")

    assert short.stderr == (
        "error: ZeroDivisionError: by zero\n"
        "hint: This is a bug in avfs. Run it again with `--verbose` and report what it shows.\n"
    )
    assert "Traceback" in long.stderr
    assert "Traceback" in cli("fake", "bug", "--verbose", "--json").document["error"]["traceback"]


@pytest.mark.parametrize(
    "arguments", [["--help", "--json"], ["--json", "fake", "--help"], ["checkpoint", "save", "-h", "--json"]]
)
def test_help_wins_over_json(cli: Cli, arguments: list[str]) -> None:
    """Asked for help, it gives help and nothing behind it."""
    ran = cli(*arguments)

    assert ran.status == 0
    assert ran.text.startswith("Usage: avfs")
    assert "schema_version" not in ran.text


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("chekpoint", "there is no command 'chekpoint'", "Did you mean `avfs checkpoint`?"),
        ("checkpoint saev", "there is no command 'checkpoint saev'", "Did you mean `avfs checkpoint save`?"),
        ("checkpoint save --descr x", "there is no option '--descr'", "Did you mean `--description`?"),
        ("checkpoint -m x", "there is no option '-m'", "Did you mean `avfs checkpoint save -m`?"),
        ("checkpoint --message=x", "there is no option '--message'", "Did you mean `avfs checkpoint save --message`?"),
        ("fork --from main x", "there is no option '--from'", "Did you mean `avfs fork create --from`?"),
        (
            "op -n 3",
            "there is no option '-n'",
            "Did you mean `avfs op log -n` or `avfs op restore -n` or `avfs op undo -n`?",
        ),
        ("--vault v checkpoint -m x", "there is no option '-m'", "Did you mean `avfs --vault v checkpoint save -m`?"),
        ("log -n 0", "invalid value for '-n' / '--limit': 0 is not in the range x>=1", "See `avfs log --help`."),
        ("cat", "missing argument 'PATH...'", "See `avfs cat --help`."),
        ("cat ../x", "'../x' leads out of the workspace", None),
        ("--vault a ls --vault b", "--vault is given twice, as 'a' and 'b'", None),
        ("--fork a --fork b ls", "--fork is given twice", "Give it once."),
        ("checkpoint save -m a -d b", "-d / --description / -m / --message is given twice", "Give it once."),
        ("log -n 1 --limit 2", "-n / --limit is given twice", "Give it once."),
        ("--vault a@b --fork c ls", "--vault names the fork 'b', --fork another one", "Name it once."),
        ("diff a b c", "diff compares at most two states", "Write paths behind `--`."),
        (
            "checkout a",
            "name one of --version and --at",
            (
                "`avfs checkout PATH --at HEAD` drops what is not saved of a path, and `avfs log PATH` lists its "
                "versions. "
                "`avfs checkpoint restore LABEL` brings back a checkpoint, and a fork is worked in with `--fork NAME`."
            ),
        ),
        ("merge --squash --no-ff a", "--squash and --no-ff contradict each other", "Give one of them."),
        ("resolve a --theirs --ours", "--theirs and --ours contradict each other", "Give one of them."),
        ("fork --branch", "option '--branch' requires an argument", "See `avfs fork dir --help`."),
        ("cat a --version 1 --at b", "--version and --at exclude each other", "See `avfs cat --help`."),
        ("vault config --unset", "--unset takes a KEY and no VALUE", "See `avfs vault config --help`."),
        ("export a - --tar --json", None, None),
    ],
)
def test_misuse_says_what_is_wrong(cli: Cli, line: str, error: str | None, hint: str | None) -> None:
    """A command line that cannot be understood ends with 2, one message, and where possible a hint."""
    ran = cli(*line.split())

    assert ran.status == 2
    if error is not None:
        assert ran.stderr == f"error: {error}\n" + (f"hint: {hint}\n" if hint else "")


def test_reader_that_goes_away_is_no_failure_to_report() -> None:
    """A closed pipe ends the program quietly with 141, as SIGPIPE would."""
    reader, writer = os.pipe()
    os.close(reader)

    ran = spawn("--version", stdout=writer, stderr=subprocess.PIPE)

    os.close(writer)
    assert (ran.status, ran.stderr) == (141, "")


def test_closed_stdout_is_reported() -> None:
    """Started without standard output, it says that the result could not be written."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m avfs_git --version >&-', sys.executable],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (1, "error: cannot write the result: Bad file descriptor\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_command_works_with_closed_standard_streams(cli: Cli, work: str, closed: str) -> None:
    """Only a result that is lost is a failure."""
    cli("write", "made", "1").ok()

    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m avfs_git checkpoint save {closed}', sys.executable],
        check=False,
        capture_output=True,
    )

    assert done.returncode == (1 if ">&-" in closed.split() else 0)
    assert b"bug" not in done.stderr
    assert cli("status", "--json").result["clean"]


def test_no_file_gets_the_number_of_a_standard_stream() -> None:
    """What libraries and programs write to a closed stream would be in it."""
    code = (
        "import os, avfs_git.cli.app as app; is_null = lambda number: os.path.samefile(f'/proc/self/fd/{number}', "
        "os.devnull); "
    )
    code += "app.run = lambda _: 10 + sum(map(is_null, range(3))); app.main()"

    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=False)

    assert done.returncode == 13


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "--json"], ["--help"]])
def test_full_disk_behind_stdout_is_reported(arguments: list[str]) -> None:
    """A result that cannot be written is a failure."""
    with Path("/dev/full").open("wb") as full:
        ran = spawn(*arguments, stdout=full, stderr=subprocess.PIPE)

    assert ran.status == 1
    assert ran.stderr.startswith("error: cannot write the result: No space left on device\n")


def test_a_change_whose_result_is_lost_is_not_to_be_run_again_unseen(work: str) -> None:
    """A second `undo` would take back one operation more."""
    for path in "ab":
        spawn("--vault", work, "write", path, "text")
    with Path("/dev/full").open("wb") as full:
        ran = spawn("--vault", work, "undo", stdout=full, stderr=subprocess.PIPE)
        looked = spawn("--vault", work, "ls", stdout=full, stderr=subprocess.PIPE)

    assert f"`avfs --vault {work} op log`" in ran.stderr
    assert "try again" not in ran.stderr
    assert "hint: Free some space, then try again." in looked.stderr


@pytest.mark.needs("fuse")
def test_a_command_whose_output_cannot_be_written_is_saved(work: str) -> None:
    """It is ended as by a reader that went, and what it has changed is one operation."""
    text = "echo made > made; echo x; while :; do sleep 0.05; done"
    with Path("/dev/full").open("wb") as full:
        ran = spawn("--vault", work, "exec", "--", "sh", "-c", text, stdout=full, stderr=subprocess.PIPE)

    assert ran.status == 125
    assert "error: cannot write the result: No space left on device" in ran.stderr
    assert "exec (exit 141): sh" in spawn("--vault", work, "op", "log").text


def test_help_imports_only_what_it_needs() -> None:
    """`avfs --help` loads click and our own light modules: neither libgit2 nor rich nor the SDK nor any command."""
    code = "import sys, avfs_git.cli.app as app; app.run(['--help']); print(sorted(sys.modules), file=sys.stderr)"

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    loaded = {name.strip(" '") for name in done.stderr.strip("[]\n").split(",")}
    ours = {name for name in loaded if name.startswith("avfs_git")}
    assert ours == {
        "avfs_git",
        "avfs_git.cli",
        "avfs_git.cli.app",
        "avfs_git.cli.commandline",
        "avfs_git.cli.context",
        "avfs_git.cli.environment",
        "avfs_git.cli.layout",
        "avfs_git.cli.output",
        "avfs_git.cli.output.base",
        "avfs_git.cli.output.hints",
        "avfs_git.cli.output.quoting",
        "avfs_git.cli.output.text",
        "avfs_git.cli.table",
        "avfs_git.cli.targets",
        "avfs_git.cli.verb",
        "avfs_git.errors",
        "avfs_git.host",
        "avfs_git.host.userhome",
        "avfs_git.paths",
        "avfs_git.patterns",
        "avfs_git.values",
    }
    heavy = {
        "pygit2",
        "git",
        "rich",
        "mfusepy",
        "subprocess",
        "socket",
        "ssl",
        "json",
        "tempfile",
        "asyncio",
        "dataclasses",
        "importlib.metadata",
    }
    assert loaded & heavy == set()


def test_light_commands_load_neither_libgit2_nor_rich(cli: Cli, work: str) -> None:
    """Listing, reading and writing do without the slowest imports, and without what meets agents and their programs."""
    for arguments in (
        ["checkpoint", "list"],
        ["log"],
        ["status"],
        ["fork", "list"],
        ["ls"],
        ["cat", "README"],
        ["write", "a", "1"],
    ):
        code = (
            f"import sys, avfs_git.cli.app as app; app.run({arguments!r}); print(sorted(sys.modules), file=sys.stderr)"
        )

        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

        loaded = {name.strip(" '") for name in done.stderr.strip("[]\n").split(",")}
        heavy = {"pygit2", "git", "rich", "mfusepy", "avfs_git.gitstore.gitcommand"}
        assert loaded & heavy == set(), arguments
        extras = {"mcp", "pydantic", "starlette", "uvicorn", "anyio", "opentelemetry", "fsspec", "asyncio"}
        ours = ("avfs_git.mcp", "avfs_git.adapters", "avfs_git.cli.harness", "avfs_git.sdk.running", "avfs_git.agent")
        assert loaded & extras == set(), arguments
        assert not [name for name in loaded if name.startswith(ours)], arguments


def walk(command: click.Command, ctx: click.Context) -> Iterator[click.Context]:
    """Visit a command and all below it."""
    yield ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from walk(below, click.Context(below, info_name=name, parent=ctx, terminal_width=100))


def all_contexts() -> list[click.Context]:
    """List every command with its context."""
    return [
        ctx
        for ctx in walk(table.program, click.Context(table.program, info_name="avfs", terminal_width=100))
        if not ctx.command_path.endswith(" fake")
    ]


def test_help_of_every_command(snapshot: Callable[[str, str], None]) -> None:
    """The whole help text, so that no flag changes unnoticed."""
    parts = [f"=== {ctx.command_path}\n\n{ctx.get_help()}\n" for ctx in all_contexts()]

    snapshot("help.txt", "\n".join(parts))


def test_table_of_verbs_agrees_with_the_commands() -> None:
    """What `avfs --help` says of a verb is the first line of the verb's own help."""
    ctx = click.Context(table.program)
    for name, entry in [*table.VERBS.items(), *((alias, table.VERBS[name]) for alias, name in table.ALIASES.items())]:
        command = table.program.get_command(ctx, name)
        assert command is not None
        assert (command.help or "").split("\n")[0] == entry.help, name
        assert command.name == table.ALIASES.get(name, name)


def test_every_verb_has_a_view_of_the_type_it_returns() -> None:
    """Each command's result is shown by a function of its views, which takes what the command returns."""
    from importlib import import_module
    from keyword import iskeyword

    from avfs_git.cli.verb import Verb

    for ctx in all_contexts():
        command = ctx.command
        if not isinstance(command, Verb):
            continue
        function = command.callback.__wrapped__  # type: ignore[union-attr]
        name = command.kind.removesuffix("_result")
        place, _, other = command.facts["view"].partition(".")
        module = import_module(f"avfs_git.cli.output.views.{place}")
        returned = function.__annotations__["return"].removesuffix(" | None")
        if name in ("cat", "grep", "watch"):
            continue  # their text goes out as it comes
        view = getattr(module, other or (f"{name}_" if iskeyword(name) else name))
        assert set(returned.split(" | ")) <= set(list(view.__annotations__.values())[1].split(" | ")), name
