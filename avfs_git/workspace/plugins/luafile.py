"""Plug-ins in Lua 5.4, through lupa (`avfs-git[lua]`).

Decided here: what a plug-in in Lua finds: the functions of the language, `string`, `table`, `math` and `utf8`, and
nothing that reaches files, programs, modules, bytecode or Python. An event may take `_STEPS` instructions and the
plug-in `_MEMORY` bytes; work inside one call of a library function counts as one instruction, and has the time limit of
`asking`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_MEMORY = 64 << 20
_STEPS = 10_000_000
_SETUP = """
local source, name, steps = ...
local hook, load, pcall, error = debug.sethook, load, pcall, error
local env = {}
for word in ([[assert error getmetatable ipairs next pairs pcall rawequal rawget rawlen rawset select setmetatable
               tonumber tostring type xpcall _VERSION math string table utf8]]):gmatch("%S+") do
    env[word] = _G[word]
end
env._G = env
string.dump = nil
local chunk, problem = load(source, "=" .. name, "t", env)
if not chunk then error(problem, 0) end
local function limited(call, ...)
    hook(function() error("it takes more than " .. steps .. " instructions", 0) end, "", steps)
    local done, result = pcall(call, ...)
    hook()
    if not done then error(result, 0) end
    return result
end
limited(chunk)
if type(env.decide) ~= "function" then error("it has no function 'decide'", 0) end
return function(event) return limited(env.decide, event) end
"""


def load(content: bytes, name: str) -> Callable[[Mapping[str, Any]], str | None]:
    """Load a plug-in: a chunk that defines the function `decide`.

    Raises:
        Exception: If it is no Lua, fails, or defines none.
    """
    from lupa.lua54 import LuaRuntime  # noqa: PLC0415 - an extra

    runtime = LuaRuntime(
        encoding=None, source_encoding="utf-8", register_eval=False, register_builtins=False, max_memory=_MEMORY
    )
    limited = runtime.compile(_SETUP)(content, name.encode(), _STEPS)

    def decide(change: Mapping[str, Any]) -> str | None:
        event = runtime.table_from({_lua(key): _lua(value) for key, value in change.items() if value is not None})
        reason = limited(event)
        return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason

    return decide


def _lua(value: object) -> object:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
