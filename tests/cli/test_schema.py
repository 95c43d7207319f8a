"""`avfs schema`: what is published about documents is true of documents."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import click
import jsonschema
import pytest

from avfs_git.cli.commands.upkeep.schema import _verbs, describe
from avfs_git.cli.context import UNREAD
from avfs_git.cli.output.filter import Filter
from avfs_git.cli.table import program
from avfs_git.errors import PathNotFound
from tests.support.cli import Cli

LINES = [
    ["vault", "list"],
    ["vault", "info"],
    ["fork", "list"],
    ["fork", "create", "side"],
    ["write", "dir/new.txt", "text"],
    ["write", "dir/\udcff", "text"],
    ["status"],
    ["ls"],
    ["ls", "dir"],
    ["tree"],
    ["stat", "dir"],
    ["cat", "dir/new.txt"],
    ["grep", "."],
    ["find", "--name", "*"],
    ["meta", "set", "dir", "key", "\udcff"],
    ["meta", "tag", "dir", "one"],
    ["meta", "tags"],
    ["diff"],
    ["checkpoint", "save", "one"],
    ["checkpoint", "list"],
    ["checkpoint", "info", "one"],
    ["log"],
    ["log", "dir/new.txt"],
    ["blame", "dir/new.txt"],
    ["show", "one"],
    ["op", "log", "--stat"],
    ["op", "show", "1"],
    ["op", "restore", "3", "--dry-run"],
    ["undo", "--dry-run"],
    ["mv", "dir/new.txt", "moved.txt"],
    ["checkpoint", "restore", "one"],
    ["undo"],
    ["merge", "side"],
    ["overlap"],
    ["policy", "show"],
    ["policy", "check", "--", "rm", "-rf", "/"],
    ["approvals", "list"],
    ["audit"],
    ["doctor"],
    ["gc", "--dry-run"],
    ["hooks", "list"],
    ["completion", "zsh"],
    ["schema"],
    ["schema", "tree"],
]
"""Commands one after another in one vault."""
FAILING = [["cat", "missing"], ["fork", "info", "nothing"], ["checkpoint", "restore", "nothing"]]


def test_every_kind_has_a_schema_that_is_one() -> None:
    """No command's result lacks a schema, and each is valid itself."""
    verbs = list(_verbs(program, click.Context(program)))

    for verb in verbs:
        jsonschema.Draft202012Validator.check_schema(describe(verb))
    assert len(verbs) > 70


def test_documents_meet_their_schemas(cli: Cli, work: str) -> None:
    """What commands write meets what `avfs schema` says of their kind, failures included."""
    for line in [*LINES, *FAILING]:
        document = cli("--json", *line).document
        schema = cli("schema", document["kind"], "--json").result["document"]

        jsonschema.Draft202012Validator(schema).validate(document)
        assert document["success"] == (line in LINES), document


def test_schemas_name_all_fields_of_documents(cli: Cli, work: str) -> None:
    """A field that the schema does not know would not be validated at all."""
    for line in (["status"], ["vault", "info"], ["op", "log"]):
        document = cli("--json", *line).document
        schema = cli("schema", document["kind"], "--json").result["document"]

        assert set(document["result"]) <= set(schema["properties"]["result"]["anyOf"][0]["properties"])


@pytest.mark.parametrize(("kind", "hint"), [("statu", "avfs schema stat"), ("%", "List them with `avfs schema`.")])
def test_unknown_kind(cli: Cli, kind: str, hint: str) -> None:
    """A kind that no document has is refused, with the nearest one."""
    ran = cli("schema", kind)

    assert ran.status == 2
    assert hint in ran.stderr


def test_text_is_the_schema(cli: Cli) -> None:
    """As text, the schema can be given to a validator as it is."""
    import json

    schema = json.loads(cli("schema", "status").ok().text)

    assert schema["title"] == "status_result"
    assert "status_result" in cli("schema").ok().text.split("\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("work")
def test_a_signal_ends_an_expression_that_runs_for_ever(number: signal.Signals) -> None:
    """Its results come as they are made; Ctrl-C and SIGTERM end the process as they end jq."""
    asking = start("vault", "list", "--jq", "1, (0 | until(false; .))")
    try:
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"1\n"
        asking.send_signal(number)
        assert asking.wait() == -number
    finally:
        asking.kill()
        asking.communicate()


def test_between_two_results_signals_are_the_callers() -> None:
    """A stream of matches has more to end than jq: git, and a temporary directory."""
    handler = signal.getsignal(signal.SIGINT)
    lines = Filter("1, 2").apply("null")

    assert [(line, signal.getsignal(signal.SIGINT)) for line in lines] == [(b"1\n", handler), (b"2\n", handler)]


@pytest.mark.usefixtures("work")
def test_an_expression_ends_with_who_reads_its_results() -> None:
    """However many it would make."""
    asking = start("vault", "list", "--jq", "range(1e12)")
    try:
        assert asking.stdout is not None
        assert [asking.stdout.readline() for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]
        asking.stdout.close()
        assert asking.wait() == UNREAD
    finally:
        asking.kill()
        asking.wait()


def test_what_an_expression_made_before_it_failed_is_written(cli: Cli, work: str) -> None:
    """As by jq; the failure comes behind it."""
    ran = cli("vault", "list", "--jq", ".result.vaults[].name, error")

    assert (ran.status, ran.text, json.loads(ran.stderr)["error"]["code"]) == (2, f"{work}\n", "input.usage")


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start `avfs` as a program of its own."""
    return subprocess.Popen([sys.executable, "-m", "avfs_git", *arguments], stdout=subprocess.PIPE)


def test_an_expression_chooses_from_the_document(cli: Cli, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By jq; a wrong one is refused before anything is done, and the document of a failure goes to standard error."""
    assert cli("vault", "list", "--jq", ".result.vaults[].name, .success").ok().text == f"{work}\ntrue\n"

    for expression in (".[", "error"):
        ran = cli("write", f"by {expression}", "--jq", expression, stdin=b"x")
        assert (ran.status, ran.stdout, json.loads(ran.stderr)["error"]["code"]) == (2, b"", "input.usage")
        assert cli("stat", f"by {expression}").status == (0 if expression == "error" else PathNotFound.exit_code)
    failed = cli("cat", "nothing", "--jq", ".result")
    assert (failed.status, failed.stdout) == (PathNotFound.exit_code, b"")

    monkeypatch.setitem(sys.modules, "jq", None)
    ran = cli("vault", "list", "--jq", ".")
    assert json.loads(ran.stderr)["error"]["hint"] == "Install it: `pip install 'avfs-git[jq]'`."
