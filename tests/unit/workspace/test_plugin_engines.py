"""Plug-ins in Lua and WebAssembly: what they reach, and how much of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from avfs_git.workspace.plugins import luafile, wasmfile

EVENT: dict[str, Any] = {"operation": "write", "path": "a", "new_path": None, "size": 3}

LUA = {
    "loop": "function decide(event) while true do end end",
    "memory": "function decide(event) local all = {} while true do all[#all + 1] = ('x'):rep(1000000) .. #all end end",
    "files": "function decide(event) return io.open('/etc/passwd'):read('a') end",
    "programs": "function decide(event) return os.execute('true') end",
    "modules": "function decide(event) return require('os').getenv('HOME') end",
    "python": "function decide(event) return python.builtins.open('/etc/passwd') end",
    "debug": "function decide(event) debug.sethook() end",
    "code": "function decide(event) return load('return 1')() end",
    "bytecode": "function decide(event) return string.dump(decide) end",
}


@pytest.mark.needs("lupa")
@pytest.mark.parametrize("what", LUA)
def test_lua_reaches_nothing_and_has_limits(what: str) -> None:
    """What it tries is an error; it decides about the next event all the same."""
    decide = luafile.load(
        LUA[what].replace("(event)", "(event) if event.path == 'b' then return 'no' end", 1).encode(), "guard"
    )
    with pytest.raises(Exception) as failed:  # noqa: PT011 - of three types
        decide(EVENT)

    assert re.search("instructions|Memory|nil value", repr(failed.value))
    assert decide({**EVENT, "path": "b"}) == "no"


@pytest.mark.needs("lupa")
def test_lua_gets_the_event() -> None:
    """Texts as bytes, numbers, and nothing for None."""
    decide = luafile.load(
        b"function decide(event) return event.path .. event.size + 1 .. tostring(event.new_path) end", "guard"
    )
    assert decide({**EVENT, "path": "\udcff"}) == "\ufffd4nil"


@pytest.mark.needs("lupa")
@pytest.mark.parametrize("text", [b"function", b"decide = 1", b"\x1bLua", b"while true do end"])
def test_what_is_no_plugin_in_lua_cannot_be_loaded(text: bytes) -> None:
    """No program, none that decides, bytecode, and one that never comes to an end."""
    with pytest.raises(Exception, match=r"guard|decide|binary|instructions"):
        luafile.load(text, "guard")


def module(body: str, head: str = "") -> bytes:
    """Make the text of a module whose `decide` does something."""
    parameters = "(param $o i32) (param $os i32) (param $p i32) (param $ps i32) (param i32 i32 i32 i32) (result i32)"
    return f"""(module {head} (memory (export "memory") 4)
        (func (export "input") (param i32) (result i32) (i32.const 65536))
        (func (export "decide") {parameters}
            (if (i32.eq (i32.load8_u (local.get $p)) (i32.const 98)) (then (return (local.get $o))))
            {body}))""".encode()


WAT = {
    "loop": "(loop $l (br $l)) (i32.const 0)",
    "memory": "(loop $l (br_if $l (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) unreachable",
    "trap": "unreachable",
    "table": "(loop $l (br_if $l (i32.ge_s (table.grow (ref.null func) (i32.const 65536)) (i32.const 0)))) unreachable",
}


@pytest.mark.needs("wasmtime")
@pytest.mark.parametrize("what", WAT)
def test_wasm_has_limits(what: str) -> None:
    """An endless loop, too much memory and a trap are errors; a new instance decides about the next event."""
    decide = wasmfile.load(module(WAT[what], "(table 0 funcref)" if what == "table" else ""))
    with pytest.raises(Exception, match=r"fuel|unreachable|wasm trap"):
        decide(EVENT)

    assert (decide({**EVENT, "path": "b"}) or "").startswith("writeb{")


@pytest.mark.needs("wasmtime")
def test_a_reason_is_read_within_the_memory() -> None:
    """An address at its end gives what is there."""
    assert wasmfile.load(module("(i32.const 262143)"))(EVENT) == ""


@pytest.mark.needs("wasmtime")
@pytest.mark.parametrize(
    "text",
    [
        b"(module)",
        b"\0asm",
        b"no module",
        module("(i32.const 0)", '(import "wasi_snapshot_preview1" "fd_write" (func (param i32) (result i32)))'),
    ],
)
def test_what_is_no_plugin_in_wasm_cannot_be_loaded(text: bytes) -> None:
    """One without exports, half of one, none, and one that wants to be given something, as WASI does."""
    with pytest.raises(Exception, match=r"export|expected|import|end"):
        wasmfile.load(text)
