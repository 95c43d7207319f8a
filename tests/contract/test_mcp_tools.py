"""The tools of `avfs mcp`: each with good, wrong and hostile arguments, by clients of both eras."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import Tool

from avfs_git.mcp.hints import TOOLS
from tests.support.mcp import ERAS, Place, call, code_of, ok, talk, text_of

GOOD: list[tuple[str, dict[str, Any], str]] = [
    ("vault_list", {}, '"name":"other"'),
    ("fork_list", {}, '"name":"side"'),
    ("read_text_file", {"path": "/src/main.py"}, "one = 1\ntwo = 2\n"),
    ("read_text_file", {"path": "src/main.py", "head": 1}, "one = 1\n"),
    ("read_text_file", {"path": "src/main.py", "tail": 1}, "two = 2\n"),
    ("read_text_file", {"path": "src/main.py", "offset": 6}, "1\ntwo = 2\n"),
    ("read_text_file", {"path": "secret", "vault": "other"}, "other's\n"),
    ("read_multiple_files", {"paths": ["README", "nowhere"]}, "nowhere: path.not_found"),
    ("list_directory", {}, "[FILE] README\n[FILE] build.log\n[DIR] src"),
    ("directory_tree", {}, "src/\n    main.py"),
    ("directory_tree", {"excludePatterns": ["src"]}, "README"),
    ("search_files", {"pattern": "**/*.py"}, "src/main.py"),
    ("grep", {"pattern": r"\S", "path": "/src", "include": ["*.py"]}, "src/main.py:1:"),
    ("search", {"words": "TWO 2", "path": "/src"}, "src/main.py:2:two = 2"),
    ("search", {"words": "nowhere"}, "nothing matches"),
    ("grep", {"pattern": "no such text"}, "nothing matches"),
    ("grep", {"pattern": "no such (", "fixed": True}, "nothing matches"),
    ("search_files", {"pattern": "**/*", "excludePatterns": ["src", "*.log"]}, ".gitignore\nREADME"),
    ("get_file_info", {"path": "README"}, '"oid":"ce013625030ba8dba906f756967f9e9ca394464a"'),
    ("write_file", {"path": "new/deep.txt", "content": "text\n"}, '"size":5'),
    (
        "write_file",
        {"path": "README", "content": "hi\n", "expect": "ce013625030ba8dba906f756967f9e9ca394464a"},
        '"size":3',
    ),
    ("edit_file", {"path": "README", "edits": [{"oldText": "hi", "newText": "ho"}], "dryRun": True}, "-hi\n+ho\n"),
    ("edit_file", {"path": "README", "edits": [{"oldText": "hi", "newText": "ho"}]}, "-hi\n+ho\n"),
    ("create_directory", {"path": "made/here"}, '"kind":"directory"'),
    ("create_directory", {"path": "made/here"}, '"kind":"directory"'),
    ("move_file", {"source": "new/deep.txt", "destination": "moved.txt"}, '"path":"moved.txt"'),
    ("delete_file", {"path": "moved.txt"}, '"size":5'),
    ("git_status", {}, " modified: README"),
    ("git_diff", {}, "-hello\n+ho\n"),
    ("git_diff", {"paths": ["src"]}, "no changes"),
    ("checkpoint", {"label": "second", "message": "two"}, '"outcome":"created"'),
    ("checkpoint_list", {}, '"labels":["second"]'),
    ("git_log", {"max_count": 1}, "(second): two"),
    ("path_history", {"path": "README"}, '"number":2'),
    ("git_show", {"revision": "second"}, "+ho\n"),
    ("diff", {"old": "start", "new": "second"}, "+ho\n"),
    ("overlap", {"names": ["main", "side"]}, '"forks":["main","side"]'),
    ("restore", {"target": "start", "dry_run": True}, '"outcome":"planned"'),
    ("restore", {"target": "start", "paths": ["README"]}, '"outcome":"restored"'),
    ("undo", {}, '"undone":true'),
    ("redo", {}, '"kind":"restore"'),
    ("undo_operation", {"operation": 2, "dry_run": True}, '"kind":"checkpoint"'),
    ("operations", {"limit": 1}, '"kind":"redo"'),
    ("fork_create", {"name": "task"}, '"parent":"main"'),
    ("write_file", {"path": "README", "content": "task\n", "fork": "task"}, '"size":5'),
    ("checkpoint", {"fork": "task"}, '"outcome":"created"'),
    ("write_file", {"path": "README", "content": "main\n"}, '"size":5'),
    ("merge", {"source": "task", "dry_run": True}, '"outcome":"conflicted"'),
    ("merge", {"source": "task", "on_conflict": "workspace"}, '"outcome":"conflicted"'),
    ("git_status", {}, "merging task: 1 conflicts to resolve"),
    ("resolve", {"path": "README", "side": "theirs"}, '"unresolved":[]'),
    ("merge_continue", {"message": "took it"}, '"outcome":"clean"'),
    ("undo", {}, '"undone":true'),
    ("merge", {"source": "task", "on_conflict": "workspace"}, '"outcome":"conflicted"'),
    ("merge_abort", {}, '"kind":"merge_abort"'),
    ("fork_rename", {"name": "task", "new_name": "job"}, '"name":"job"'),
    ("fork_delete", {"name": "job"}, '"name":"job"'),
    ("policy_check", {"command": "curl http://example.org"}, '"action":"require_approval"'),
    ("approvals", {"all": True}, '"approvals":[]'),
]
"""Calls one after another, and what their text holds. `exec`, `push` and `more` have tests of their own."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home with two vaults."""
    return Place(tmp_path / "home")


async def list_tools(client: Client) -> dict[str, Tool]:
    """Get the tools by name."""
    return {tool.name: tool for tool in (await client.list_tools()).tools}


@pytest.mark.parametrize("era", ERAS)
def test_each_tool_does_what_it_says(place: Place, era: str) -> None:
    """Each result meets the tool's schema, and its text tells the same."""

    async def run(client: Client) -> None:
        tools = await list_tools(client)
        assert {name for name, _, _ in GOOD} == set(tools) - {"exec", "push", "more"}
        for name, arguments, text in GOOD:
            result = await client.call_tool(name, arguments)
            jsonschema.Draft202012Validator(tools[name].output_schema or {}).validate(ok(result))
            assert text in text_of(result), (name, arguments)

    talk(place.serve(), run, era)


def test_each_result_names_the_vault_and_the_fork(place: Place) -> None:
    """Also those that the call does not name; a tool for a vault as a whole names no fork."""
    calls: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str | None, str | None]]] = [
        ("git_status", {}, {}, ("work", "main")),
        ("git_status", {}, {"vault": "other"}, ("other", "main")),
        ("read_text_file", {}, {"path": "README", "fork": "side"}, ("work", "side")),
        ("git_log", {"vault": "work", "fork": "side"}, {}, ("work", "side")),
        ("operations", {"vault": place.root / "vaults/other.git"}, {}, ("other", "main")),
        ("fork_list", {"fork": "side", "vault": "work"}, {}, ("work", None)),
        ("fork_create", {}, {"name": "new"}, ("work", None)),
        ("write_file", {"fork": "side", "vault": "work"}, {"path": "new", "content": ""}, ("work", "side")),
        ("undo", {"fork": "side", "vault": "work"}, {}, ("work", "side")),
        ("write_file", {}, {"path": "new", "content": ""}, ("work", "main")),
        ("undo", {}, {}, ("work", "main")),
        ("redo", {}, {}, ("work", "main")),
        ("vault_list", {}, {}, (None, None)),
    ]
    for tool, limits, arguments, (vault, fork) in calls:
        record = ok(call(place.serve(**limits), tool, **arguments))
        assert record["request"] == {"vault": vault, "fork": fork}, tool


def test_the_guide_names_every_tool(place: Place) -> None:
    """The table of the guide holds each tool, and no other."""
    rows = (
        (Path(__file__).parents[2] / "docs/guides/mcp.md").read_text("utf-8").partition("## Tools")[2].split("\n\n")[1]
    )

    assert set(re.findall(r"`(\w+)`", rows)) == set(talk(place.serve(), list_tools))


def test_hints_are_true(place: Place) -> None:
    """A tool that only reads changes nothing, and one that may be repeated changes nothing more."""

    async def run(client: Client) -> None:
        tools = await list_tools(client)
        for name, arguments, _ in GOOD:
            hints = tools[name].annotations
            assert hints is not None
            before = place.fingerprint() if hints.read_only_hint else None
            first = await client.call_tool(name, arguments)
            if hints.read_only_hint:
                assert place.fingerprint() == before, name
            if name == "create_directory":
                before = place.fingerprint()
                assert ok(await client.call_tool(name, arguments)) == first.structured_content
                assert place.fingerprint() == before

    talk(place.serve(), run)


def test_each_argument_of_a_wrong_type_is_refused(place: Place) -> None:
    """One clear error names the argument, and nothing is changed."""

    async def run(client: Client) -> None:
        tools = await list_tools(client)
        arguments = {"exec": {"command": "true"}, "push": {}, "more": {"handle": "x", "field": "/y"}}
        arguments |= {name: given for name, given, _ in reversed(GOOD)}
        for name, tool in tools.items():
            for argument in (*tool.input_schema["properties"], "unheard"):
                refused = await client.call_tool(name, {**arguments[name], argument: {"a": [1]}})
                assert code_of(refused) == "input.invalid", (name, argument)
                assert argument in text_of(refused)
            for argument in tool.input_schema.get("required", []):
                given = {known: value for known, value in arguments[name].items() if known != argument}
                assert code_of(await client.call_tool(name, given)) == "input.invalid"

    before = place.fingerprint()
    talk(place.serve(), run)
    assert place.fingerprint() == before


HOSTILE_PATHS = {
    "../../etc/passwd": "path.escapes",
    "/../x": "path.escapes",
    "a/../../b": "path.escapes",
    "a\0b": "input.invalid_path",
    "x" * 300: "input.invalid_path",
    "y" * (1 << 20): "input.invalid_path",
    "half\ud800": "input.invalid",
}
HOSTILE_NAMES = ["../main", "/tmp", "", "a\0b", "x" * (1 << 16), "-o", "a b", "half\ud800", "@{-1}", "--all"]


NAMES = {"vault", "fork", "revision", "target", "old", "new", "at", "handle"}
"""Arguments that name something."""


def test_hostile_paths_are_refused(place: Place) -> None:
    """A path that leads out, or that no workspace can hold, is an error with a code of its own; nothing is changed."""
    given: dict[str, dict[str, Any]] = {name: dict(arguments) for name, arguments, _ in reversed(GOOD)}
    given["diff"] = {"old": "start", "new": "start"}

    async def run(client: Client) -> None:
        tools = await list_tools(client)
        for name, tool in tools.items():
            for argument in {"path", "source", "destination", "cwd", "paths"} & set(tool.input_schema["properties"]):
                if name in ("merge", "fork_create", "exec", "resolve", "merge_continue"):
                    continue
                for path, code in HOSTILE_PATHS.items():
                    refused = await client.call_tool(
                        name, {**given[name], argument: [path] if argument == "paths" else path}
                    )
                    if name == "read_multiple_files" and not refused.is_error:
                        assert text_of(refused).split(": ")[1] == code
                        continue
                    assert code_of(refused) == code, (name, argument, path[:20])
                    assert len(text_of(refused)) < 1000

    before = place.fingerprint()
    talk(place.serve(), run)
    assert place.fingerprint() == before


def test_hostile_names_are_refused(place: Place) -> None:
    """No vault, fork, state or handle has such a name; none of them reaches a file or an option of git."""
    given: dict[str, dict[str, Any]] = {name: dict(arguments) for name, arguments, _ in reversed(GOOD)}
    given |= {"push": {}, "more": {"handle": "x", "field": "/y"}}

    async def run(client: Client) -> None:
        tools = await list_tools(client)
        for name, tool in tools.items():
            for argument in NAMES & set(tool.input_schema["properties"]):
                for text in HOSTILE_NAMES if name != "exec" else ():
                    refused = await client.call_tool(name, {**given[name], argument: text})
                    assert code_of(refused) not in ("internal", "host.failed"), (name, argument, text[:20])
                    assert len(text_of(refused)) < 2000

    before = place.fingerprint()
    talk(place.serve(), run)
    assert place.fingerprint() == before


def test_ten_megabytes_are_written_and_read_in_pieces(place: Place) -> None:
    """A long file is written whole, comes in pieces below the clients' limits, and the pieces are the file."""
    text = "".join(f'line {number} with ünïcode "quotes" and a tab\t\n' for number in range(200_000))

    async def run(client: Client) -> None:
        ok(await client.call_tool("write_file", {"path": "long", "content": text}))
        offset, pieces = 0, list[str]()
        for _ in range(20):
            result = await client.call_tool("read_text_file", {"path": "long", "offset": offset})
            record = ok(result)
            assert len(text_of(result)) < 40_000
            pieces.append(record["content"])
            offset = record["next_offset"]
        assert text.startswith("".join(pieces))
        assert len("".join(pieces)) > 400_000
        last = ok(await client.call_tool("read_text_file", {"path": "long", "tail": 2}))
        assert last["content"] == "".join(text.splitlines(keepends=True)[-2:])

    talk(place.serve(), run)
    assert place.read("long") == text.encode()


def test_pieces_of_a_file_are_the_file(place: Place) -> None:
    """Also of bytes that are no text, and where a piece ends within a character."""
    import base64

    contents: dict[str, str | bytes] = {
        "text": "ä€😀x" * 20_000,
        "bytes": bytes(range(256)) * 100,
        "empty": "",
        "one": "x",
    }
    with place.open() as home:
        for name, content in contents.items():
            home.open_vault("work").workspace().write(name, content.encode() if isinstance(content, str) else content)

    async def run(client: Client) -> None:
        for name, content in contents.items():
            offset: int | None = 0
            found = b""
            while offset is not None:
                record = ok(await client.call_tool("read_text_file", {"path": name, "offset": offset}))
                exact = record.get("content_b64")
                found += base64.b64decode(exact) if exact is not None else record["content"].encode()
                assert record["offset"] == offset
                offset = record["next_offset"]
            assert found == (content.encode() if isinstance(content, str) else content), name

    talk(place.serve(), run)


def test_long_answers_are_cut_and_the_rest_is_there(place: Place) -> None:
    """A patch that is too long for a client ends, `cut` says where, and `more` gives the rest."""
    with place.open() as home:
        work = home.open_vault("work").workspace()
        for number in range(300):
            work.write_text(f"many/file-{number:03}", f"{number}\n" * 100)
        expected = b"".join(file.patch for file in work.diff().files).decode()

    async def run(client: Client) -> None:
        tools = await list_tools(client)
        result = await client.call_tool("git_diff", {})
        record = ok(result)
        jsonschema.Draft202012Validator(tools["git_diff"].output_schema or {}).validate(record)
        assert len(text_of(result)) < 40_000
        cut = {item["field"]: item for item in record["cut"]}
        assert set(cut) == {"/patch", "/files"} or set(cut) == {"/patch"}
        assert "more(handle=" in text_of(result)
        patch, offset = record["patch"], cut["/patch"]["given"]
        while offset is not None:
            rest = ok(
                await client.call_tool("more", {"handle": cut["/patch"]["handle"], "field": "/patch", "offset": offset})
            )
            assert len(rest["text"]) < 32_000
            patch, offset = patch + rest["text"], rest["next_offset"]
        assert patch == expected
        listed = ok(await client.call_tool("git_status", {}))
        found = len(listed["changed_files"])
        (held,) = [item for item in listed["cut"] if item["field"] == "/changed_files"]
        assert (held["given"], held["total"]) == (found, 300)
        for bad in ({"field": "/nowhere"}, {"field": "/fork/0"}, {"handle": "0" * 16}):
            refused = await client.call_tool("more", {"handle": held["handle"], "field": "/changed_files", **bad})
            assert code_of(refused) == "input.invalid"

    talk(place.serve(), run)


def test_long_texts_are_cut_and_the_rest_is_there(place: Place) -> None:
    """The text for the model may be too long where the record is not: it says where it ends, and `more` has the rest."""
    deep = "/".join(["a"] * 60)
    with place.open() as home:
        work = home.open_vault("work").workspace()
        work.write_text(f"{'d' * 200}/{'e' * 200}", "x\n" * 300)
        work.make_dir(deep, parents=True)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda number: work.write_text(f"{deep}/{number:03}", ""), range(300)))

    async def run(client: Client) -> None:
        for tool, arguments, last in (
            ("grep", {"pattern": "x"}, f"{'e' * 200}:300:x"),
            ("directory_tree", {"path": "a", "depth": 64}, f"{'  ' * 60}299"),
        ):
            result = await client.call_tool(tool, arguments)
            assert "cut" not in ok(result)
            shown = text_of(result)
            assert len(shown) < 33_000
            found = re.search(
                r"\n(\d+) of (\d+) of /text; the rest: more\(handle='(\w+)', field='/text', offset=(\d+)\)$", shown
            )
            assert found is not None
            text = shown[: found.start()]
            offset: int | None = int(found[4])
            assert len(text) == offset == int(found[1])
            while offset is not None:
                rest = ok(await client.call_tool("more", {"handle": found[3], "field": "/text", "offset": offset}))
                text, offset = text + rest["text"], rest["next_offset"]
            assert len(text) == int(found[2])
            assert text.endswith(last)

    talk(place.serve(), run)


@pytest.mark.needs("git")
def test_push_reaches_a_remote(place: Place, tmp_path: Path) -> None:
    """A fork is pushed to the remote that its vault has, as a branch."""
    import subprocess

    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "there")], check=True)
    assert code_of(call(place.serve(), "push")) == "remote.not_found"
    with place.open() as home:
        home.open_vault("work").add_remote("origin", str(tmp_path / "there"))

    record = ok(call(place.serve(), "push", fork="main"))

    assert record["refs"][0]["outcome"] == "new"
    assert subprocess.run(["git", "-C", str(tmp_path / "there"), "rev-parse", "main"], check=False).returncode == 0


def test_the_size_of_a_file_is_told_from_behind_its_end(place: Place) -> None:
    """An offset behind the end reads nothing, and makes the file no larger."""
    record = ok(call(place.serve(), "read_text_file", path="README", offset=1000))
    assert (record["size"], record["content"], record["next_offset"]) == (len("hello\n"), "", None)


@pytest.mark.parametrize("setting", ["quota.fork_bytes", "quota.vault_bytes"])
def test_a_write_beyond_a_quota_is_refused(place: Place, setting: str) -> None:
    """The agent is told which limit that is, and the file is as it was."""
    with place.open() as home:
        home.open_vault("work").set_config(setting, "1")

    refused = call(place.serve(), "write_file", path="README", content="more\n")

    assert code_of(refused) == "quota.exceeded"
    assert setting in text_of(refused)
    assert place.read("README") == b"hello\n"


def test_undo_restores_the_fork_that_this_server_deleted(place: Place) -> None:
    """The deletion is one of the fork at hand, and none of the default fork."""
    server = place.serve(vault="work", fork="side")
    with place.open() as home:
        home.open_vault("work").workspace().write_text("person", "mine")
    ok(call(server, "write_file", path="notes", content="kept"))
    ok(call(server, "fork_create", name="try"))
    ok(call(server, "fork_delete", name="try"))

    assert ok(call(server, "undo"))["operation"]["kind"] == "fork_delete"

    assert place.read("notes", "side") == b"kept"
    with place.open() as home:
        vault = home.open_vault("work")
        assert "try" in {info.name for info in vault.list_forks()}
        assert vault.operations(fork="main", limit=1)[0].kind == "files"


def test_undo_restores_a_fork_by_its_name(place: Place) -> None:
    """Whatever was done since in the fork from which it was deleted, and where git deleted its branch."""
    server = place.serve()
    ok(call(server, "write_file", path="notes", content="kept", fork="side"))
    ok(call(server, "fork_delete", name="side"))
    ok(call(server, "write_file", path="later", content="main's"))

    assert ok(call(server, "undo", fork="side"))["operation"]["kind"] == "fork_delete"
    assert ok(call(server, "redo", fork="side"))["operation"]["kind"] == "fork_delete"
    assert ok(call(server, "undo", fork="side"))["operation"]["kind"] == "fork_delete"
    assert (place.read("notes", "side"), place.read("later")) == (b"kept", b"main's")

    with place.open() as home:
        subprocess.run(["git", "-C", home.open_vault("work").path, "branch", "-q", "-D", "side"], check=True)
    gone = call(server, "read_text_file", path="notes", fork="side")
    assert "Bring it and its files back with `undo` with fork='side'" in text_of(gone)
    ok(call(server, "undo", fork="side"))
    assert place.read("notes", "side") == b"kept"

    assert code_of(call(server, "undo", fork="none")) == "fork.not_found"
    assert code_of(call(server, "redo", fork="none")) == "fork.not_found"


def test_undo_restores_the_own_fork_of_the_server(place: Place) -> None:
    """The fork that its calls mean; a server that is limited to it does not bring back what others deleted."""
    server, limited = (place.serve(vault="work", fork="side", reach=reach) for reach in (2, 1))
    ok(call(server, "fork_delete", name="side"))

    for tool in ("undo", "redo", "git_status"):
        refused = call(limited, tool)
        assert code_of(refused) == "fork.not_found"
        assert text_of(refused).endswith("a person brings it back, or starts another server.")
    assert ok(call(server, "undo"))["operation"]["kind"] == "fork_delete"
    ok(call(limited, "git_status"))


def test_undo_keeps_the_fork_that_the_server_works_in(place: Place) -> None:
    """One undo too many is refused, and what was undone can be done again."""
    server = place.serve(vault="work", fork="side")
    ok(call(server, "write_file", path="notes", content="long work"))
    ok(call(server, "undo"))
    assert code_of(call(server, "undo")) == "undo.nothing"
    ok(call(server, "redo"))
    assert place.read("notes", "side") == b"long work"


def test_undo_of_a_server_limited_to_a_fork_leaves_the_others(place: Place) -> None:
    """Forks that a person made or deleted from this one stay so.

    The work in this one is undone and redone all the same.
    """
    limited = place.serve(vault="work", fork="side", reach=1)
    ok(call(limited, "write_file", path="notes", content="agent's"))
    with place.open() as home:
        vault = home.open_vault("work")
        for name in ("kept", "gone"):
            vault.fork(name, source="side")
        vault.delete_fork("gone", by="side")
    assert {listed["fork"] for listed in ok(call(limited, "operations"))["operations"]} == {"side"}

    assert {ok(call(limited, "undo"))["operation"]["fork"] for _ in ("checkpoint", "write")} == {"side"}
    assert code_of(call(limited, "undo")) == "undo.nothing"

    with place.open() as home:
        vault = home.open_vault("work")
        assert {info.name for info in vault.list_forks()} == {"main", "side", "kept"}
        assert vault.undo(fork="side").operation.kind == "fork_delete"
    assert {ok(call(limited, "redo"))["operation"]["fork"] for _ in ("write", "checkpoint")} == {"side"}
    assert code_of(call(limited, "redo")) == "undo.nothing"
    assert place.read("notes", "side") == b"agent's"
    assert place.read("notes", "gone") == b"agent's"


def test_the_operations_are_what_undo_takes_back(place: Place) -> None:
    """A fork that was made from this one is among them."""
    server = place.serve(vault="work", fork="side")
    ok(call(server, "write_file", path="notes", content="mine"))
    ok(call(server, "fork_create", name="try"))

    listed = ok(call(server, "operations", limit=2))["operations"]

    undone = [ok(call(server, "undo"))["operation"]["id"] for _ in range(2)]
    assert [operation["id"] for operation in listed] == undone


def test_a_limit_to_a_vault_or_a_fork_holds(place: Place) -> None:
    """Tools that reach further are not there, and no argument or address leads out."""
    fork = place.serve(vault="work", fork="side", reach=1)
    vault = place.serve(vault="work", reach=2)
    reads = place.serve(is_read_only=True)

    async def check(client: Client) -> set[str]:
        tools = await list_tools(client)
        for uri in (
            "avfs://other/main/secret",
            "avfs://work/none/README",
            "avfs://work/side/../../x",
            "avfs://work/side//etc/passwd",
        ):
            with pytest.raises(Exception, match=r"out_of_scope|not_found|Unknown resource"):
                await client.read_resource(uri)
        for name in ("vault", "fork"):
            if name not in tools["read_text_file"].input_schema["properties"]:
                refused = await client.call_tool("read_text_file", {"path": "README", name: "other"})
                assert code_of(refused) == "input.invalid"
        return set(tools)

    async def names(client: Client) -> set[str]:
        return set(await list_tools(client))

    limited = talk(fork, check)
    assert not limited & {
        "vault_list",
        "fork_list",
        "fork_create",
        "fork_delete",
        "merge",
        "diff",
        "overlap",
        "approvals",
    }
    assert {"write_file", "exec", "undo", "push"} <= limited
    assert ok(call(fork, "write_file", path="mine", content="x"))["request"] == {"vault": "work", "fork": "side"}
    assert place.read("mine", "side") == b"x"
    assert {"vault_list"} == talk(place.serve(), names) - talk(vault, check)
    assert not talk(reads, names) & {"write_file", "exec", "undo", "checkpoint", "restore", "push", "merge"}
    assert {"read_text_file", "git_diff", "overlap"} <= talk(reads, names)


@pytest.mark.parametrize("era", ERAS)
def test_files_are_resources(place: Place, era: str) -> None:
    """A file is text where it is UTF-8, else a blob, each with its type; a directory lists names."""
    with place.open() as home:
        work = home.open_vault("work").workspace()
        work.write("img.png", b"\x89PNG\xff")
        work.write("page.html", b"<p>")
        work.write("a b/ä?", b"odd")
        work.write(b"caf\xe9/a", b"bytes")
        work.write("caf\ufffd/a", b"another file")
        home.open_vault("work").fork("team/one")

    async def run(client: Client) -> list[tuple[Any, Any, Any]]:
        found = []
        for path in (
            "main/README",
            "main/img.png",
            "main/page.html",
            "main/src",
            "main/a%20b/%C3%A4%3F",
            "main/caf%E9",
            "main/caf%e9/a",
            "main/caf%EF%BF%BD/a",
            "team%2Fone/README",
        ):
            (content,) = (await client.read_resource(f"avfs://work/{path}")).contents
            found.append((content.mime_type, getattr(content, "text", None), getattr(content, "blob", None)))
        with pytest.raises(MCPError, match=r"path.not_found: there is nothing at '/\\377'"):
            await client.read_resource("avfs://work/main/%FF")
        return found

    assert talk(place.serve(), run, era) == [
        ("text/plain", "hello\n", None),
        ("image/png", None, "iVBOR/8="),
        ("text/html", "<p>", None),
        ("text/plain", "main.py\n", None),
        ("text/plain", "odd", None),
        ("text/plain", "a\n", None),
        ("text/plain", "bytes", None),
        ("text/plain", "another file", None),
        ("text/plain", "hello\n", None),
    ]


def test_many_calls_at_once(place: Place) -> None:
    """Calls of one client run side by side; none is lost, and each fork has its own files."""

    async def run(client: Client) -> None:
        async def work(number: int) -> None:
            ok(await client.call_tool("fork_create", {"name": f"f{number}", "source": "main"}))
            ok(await client.call_tool("write_file", {"path": "n", "content": str(number), "fork": f"f{number}"}))
            ok(await client.call_tool("checkpoint", {"fork": f"f{number}"}))

        await asyncio.gather(*(work(number) for number in range(8)))

    talk(place.serve(), run)
    assert [place.read("n", f"f{number}") for number in range(8)] == [str(number).encode() for number in range(8)]


@pytest.mark.slow
@pytest.mark.needs("overlayfs")
def test_long_work_is_told_and_can_be_given_up(place: Place) -> None:
    """While a command runs, the client hears of it; a client that gives up ends the command, and the fork is free."""
    told: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async def run(client: Client) -> None:
        command = {"command": "echo halfway; sleep 2.2; echo done > made"}
        record = ok(await client.call_tool("exec", command, progress_callback=hear))
        assert record["exit_code"] == 0
        with anyio.move_on_after(1.5):
            await client.call_tool("exec", {"command": "echo begun > begun; sleep 500"})
            raise AssertionError("the command ended by itself")
        ok(await client.call_tool("write_file", {"path": "after", "content": "free"}))

    talk(place.serve(), run)

    assert (len(told) >= 2, told[0][1]) == (True, "halfway")
    assert [progress for progress, _ in told] == sorted(progress for progress, _ in told)
    assert (place.read("made"), place.read("begun"), place.read("after")) == (b"done\n", b"begun\n", b"free")


@pytest.mark.parametrize(
    ("tool", "arguments", "way"),
    [
        ("read_text_file", {"path": "x", "vault": "none"}, "See them with `vault_list`."),
        ("read_text_file", {"path": "x", "fork": "none"}, "See them with `fork_list`."),
        ("fork_create", {"name": "side"}, "Work in that one with `fork='side'`, or choose another name."),
        ("restore", {"target": "none"}, "See them with `checkpoint_list`, and forks with `fork_list`."),
        ("redo", {}, "See what was done with `operations`."),
    ],
)
def test_hints_name_tools(place: Place, tool: str, arguments: dict[str, Any], way: str) -> None:
    """An error says what to do in words that a client can follow, and the same to programs."""
    refused = call(place.serve(), tool, **arguments)

    assert text_of(refused).endswith(way)
    assert refused.meta is not None
    assert refused.meta["avfs/error"]["hint"] == way


def test_warnings_name_tools(place: Place) -> None:
    """A warning says what to do in words that a client can follow, too."""
    ran = call(place.serve(), "exec", argv=["echo hello"], fork="side")
    assert "run a command line with `exec` with fork='side', command='echo hello'" in text_of(ran)
    assert ok(ran)["warnings"][0]["message"] in text_of(ran)

    ok(call(place.serve(), "delete_file", path=".gitignore"))
    saved = call(place.serve(), "checkpoint")
    assert "`avfs add PATH` puts it in. Commands that begin with `avfs` are for a person" in text_of(saved)


def test_what_changes_beside_history_is_told(place: Place) -> None:
    """Ignored files are in no patch and in no commit, and the text names them all the same."""
    server = place.serve()
    ran = call(server, "exec", command="rm build.log; mkdir made")
    assert text_of(ran).endswith("changed files: deleted build.log (beside history), added made (beside history)")
    ok(call(server, "write_file", path="other.log", content="ignored\n"))
    told = "    added: other.log (beside history)"
    assert text_of(call(server, "git_diff")) == told
    assert text_of(call(server, "git_status")).endswith(told)
    ok(call(server, "write_file", path="README", content="hi\n"))
    assert text_of(call(server, "git_diff")).endswith(f"+hi\n{told}")
    ok(call(server, "checkpoint"))
    assert text_of(call(server, "git_show", revision="HEAD")).endswith(f"+hi\n{told}")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("list_directory", {}),
        ("directory_tree", {}),
        ("search_files", {"pattern": "x*"}),
        ("grep", {"pattern": "needle"}),
        ("search", {"words": "needle"}),
        ("read_multiple_files", {"paths": ["x\n[FILE] y"]}),
        ("git_status", {}),
        ("exec", {"command": "rm x*"}),
    ],
)
def test_a_name_is_one_line_of_a_text(place: Place, tool: str, arguments: dict[str, Any]) -> None:
    """The file of somebody else cannot look like two, nor like another answer."""
    server = place.serve()
    ok(call(server, "write_file", path="x\n[FILE] y", content="needle\n"))
    text = text_of(call(server, tool, **arguments))
    assert "x\\n[FILE] y" in text
    assert "\n[FILE] y" not in text


def test_a_list_from_behind_its_end_is_no_empty_directory(place: Place) -> None:
    """The text says how many entries there are."""
    assert text_of(call(place.serve(), "list_directory", offset=99)) == "[no entry from there on: 4 in all]"


def test_a_hint_for_a_person_names_where_the_call_worked(place: Place) -> None:
    """Else it frees the label of another fork, or of a fork of another vault."""

    async def run(client: Client) -> None:
        ok(await client.call_tool("checkpoint", {"label": "l"}))
        refused = await client.call_tool("checkpoint", {"label": "l"})
        assert "`avfs --vault work --fork main checkpoint delete l`" in text_of(refused)

    talk(place.serve(vault="work", fork="main"), run)


def test_every_tool_of_a_hint_is_there(place: Place) -> None:
    """The table of hints names tools that the server has."""
    assert set(TOOLS.values()) <= set(talk(place.serve(), list_tools))


def test_a_path_of_this_machine_is_none_of_the_workspace(place: Place, tmp_path: Path) -> None:
    """What nothing leads to in the workspace, and this machine has, is refused; nothing is made."""
    there = tmp_path / "dir" / "file"
    there.parent.mkdir()
    there.write_bytes(b"old\n")

    async def run(client: Client) -> None:
        before = place.fingerprint()
        for name, arguments in (
            ("write_file", {"path": str(there), "content": "new\n"}),
            ("create_directory", {"path": str(there.parent)}),
            ("move_file", {"source": "README", "destination": str(there)}),
            ("write_file", {"path": "~/notes", "content": "new\n"}),
            ("write_file", {"path": "~root/notes", "content": "new\n"}),
            ("write_file", {"path": there.as_uri(), "content": "new\n"}),
            ("write_file", {"path": str(there.with_name("new")), "content": "new\n"}),
            ("exec", {"command": "true", "cwd": str(there.parent)}),
            ("search_files", {"pattern": f"{there.parent}/*"}),
        ):
            assert code_of(await client.call_tool(name, arguments)) == "input.invalid"
        assert code_of(await client.call_tool("restore", {"target": "HEAD", "paths": [str(there)]})) == "input.invalid"
        some = ok(await client.call_tool("read_multiple_files", {"paths": [str(there), "README"]}))
        assert [file["path"] for file in some["files"]] == ["README"]
        assert [failed["code"] for failed in some["failed"]] == ["input.invalid"]
        assert place.fingerprint() == before
        ok(await client.call_tool("write_file", {"path": "/src/new", "content": "new\n"}))
        ok(await client.call_tool("write_file", {"path": "/fresh/new", "content": "new\n"}))
        ok(await client.call_tool("write_file", {"path": str(there).lstrip("/"), "content": "new\n"}))
        ok(await client.call_tool("write_file", {"path": "~notes", "content": "new\n"}))

    talk(place.serve(), run)
    assert there.read_bytes() == b"old\n"


def test_the_address_of_a_resource_is_a_path_in_its_fork_only(place: Place) -> None:
    """A model has it from the list of resources: nothing is written in another fork than it names."""

    async def run(client: Client) -> None:
        before = place.fingerprint()
        for there in ("work/side/README", "other/main/secret", "work/", "/work/main/README", "work"):
            for name, arguments in (
                ("write_file", {"path": f"avfs://{there}", "content": "x"}),
                ("edit_file", {"path": f"avfs://{there}", "edits": [{"oldText": "hello", "newText": "x"}]}),
                ("move_file", {"source": "README", "destination": f"avfs://{there}"}),
                ("delete_file", {"path": f"avfs://{there}"}),
            ):
                assert code_of(await client.call_tool(name, arguments)) == "input.invalid"
        assert place.fingerprint() == before
        for name in ("README", "a%25%20b"):
            ok(await client.call_tool("write_file", {"path": f"avfs://work/main/{name}", "content": "main\n"}))
        ok(await client.call_tool("fork_create", {"name": "a/b"}))
        ok(await client.call_tool("write_file", {"path": "avfs://work/a%2Fb/README", "content": "b\n", "fork": "a/b"}))
        assert "[DIR] src" in text_of(await client.call_tool("list_directory", {"path": "avfs://work/main"}))

    talk(place.serve(), run)
    assert (place.read("README"), place.read("a% b"), place.read("README", "a/b")) == (b"main\n", b"main\n", b"b\n")


@pytest.mark.needs("fuse")
def test_a_path_in_a_mount_of_the_fork_is_what_it_shows(tmp_path: Path, mount_dir: Path) -> None:
    """An agent has it from `pwd`; a path in the mount of another fork is refused."""
    place = Place(mount_dir / "home")

    async def run(client: Client) -> None:
        for name in ("README", "made/new"):
            path = str(mount_dir / "tree" / name)
            ok(await client.call_tool("write_file", {"path": path, "content": "by mcp\n"}))
            assert (mount_dir / "tree" / name).read_bytes() == b"by mcp\n"
            refused = await client.call_tool("write_file", {"path": path, "content": "no\n", "fork": "side"})
            assert code_of(refused) == "input.invalid"
            some = ok(await client.call_tool("read_multiple_files", {"paths": [path]}))
            assert [file["path"] for file in some["files"]] == [name]
            ran = ok(await client.call_tool("exec", {"command": "pwd", "cwd": os.path.dirname(path)}))
            assert ran["exit_code"] == 0
            above = os.path.dirname(path)
            assert name in ok(await client.call_tool("search_files", {"pattern": f"{above}/**"}))["paths"]
            changed = ok(await client.call_tool("git_diff", {"paths": [path]}))
            assert [file["path"] for file in changed["files"]] == [name]

        # The tree has a directory of the name that leads to the mount; a link in the tree is meant itself.
        tree = mount_dir / "tree"
        like = os.fspath(tree).lstrip("/")
        (tree / "link").symlink_to("/etc/hostname")
        (mount_dir / "in").symlink_to(tree / "src")
        ok(await client.call_tool("write_file", {"path": f"{like}/mine", "content": "below\n"}))
        ok(await client.call_tool("write_file", {"path": f"{tree}/top", "content": "by mcp\n"}))
        assert (tree / "top").read_bytes() == b"by mcp\n"
        refused = await client.call_tool("write_file", {"path": f"{tree}/mine", "content": "no\n"})
        assert code_of(refused) == "input.invalid"
        assert ok(await client.call_tool("get_file_info", {"path": f"{tree}/link"}))["kind"] == "symlink"
        ok(await client.call_tool("write_file", {"path": f"{mount_dir}/in/made", "content": "by mcp\n"}))
        assert (tree / "src" / "made").read_bytes() == b"by mcp\n"

    with place.open() as home, home.open_vault("work").workspace("main").mount(mount_dir / "tree"):
        talk(place.serve(), run)


def test_a_request_names_the_fork_of_what_was_undone(place: Place) -> None:
    """The making of another fork is undone from the one at hand; the call worked in that other fork."""

    async def run(client: Client) -> None:
        ok(await client.call_tool("fork_create", {"name": "k"}))
        for tool in ("undo", "redo"):
            assert ok(await client.call_tool(tool, {}))["request"]["fork"] == "k"

    talk(place.serve(), run)
