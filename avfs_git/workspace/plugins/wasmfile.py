"""Plug-ins in WebAssembly, through wasmtime (`avfs-git[wasm]`): a module, or its text.

Decided here: how a module is asked. It gets no imports, so that it reaches nothing but its own memory, of which it may
have `_MEMORY` bytes, and its own tables; an event may take `_FUEL` units of fuel, about one an instruction. It exports
its `memory` and two functions:

    input(size: i32) -> i32              gives the address at which `size` bytes of the event are put
    decide(operation, size, path, size, new_path, size, event, size: i32) -> i32
                                         gives 0 to allow, or the address of the reason, which a zero byte ends

After a trap the next event gets a new instance, because the old one may be half changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_MEMORY = 64 << 20
_TABLES = 4
_TABLE = 100_000
"""How many elements each of them may have."""
_FUEL = 100_000_000
_REASON_MAX = 4096


def load(content: bytes) -> Callable[[Mapping[str, Any]], str | None]:
    """Load a module.

    Raises:
        Exception: If it cannot be compiled, imports something, or lacks an export.
    """
    import wasmtime  # noqa: PLC0415 - an extra

    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    module = wasmtime.Module(engine, content if content.startswith(b"\0asm") else content.decode("utf-8"))

    def start() -> tuple[Any, Any]:
        store = wasmtime.Store(engine)
        store.set_limits(memory_size=_MEMORY, table_elements=_TABLE, instances=1, tables=_TABLES, memories=1)
        store.set_fuel(_FUEL)
        exports = wasmtime.Instance(store, module, []).exports(store)
        if missing := {"memory", "input", "decide"} - set(exports):
            raise LookupError(f"the module does not export {', '.join(sorted(missing))}")
        return store, exports

    running: tuple[Any, Any] | None = start()

    def decide(change: Mapping[str, Any]) -> str | None:
        nonlocal running
        (store, exports), running = running or start(), None
        store.set_fuel(_FUEL)
        parts = [
            str(change["operation"]).encode("ascii"),
            *((change[name] or "").encode("utf-8", "surrogateescape") for name in ("path", "new_path")),
            json.dumps(change).encode("ascii"),
        ]
        address = exports["input"](store, sum(map(len, parts))) & 0xFFFFFFFF
        exports["memory"].write(store, b"".join(parts), address)
        places: list[int] = []
        for part in parts:
            places += (address, len(part))
            address += len(part)
        said = exports["decide"](store, *places)
        reason = None if said == 0 else _read(exports["memory"], store, said)
        running = store, exports
        return reason

    return decide


def _read(memory: Any, store: Any, address: int) -> str:
    address &= 0xFFFFFFFF
    found = bytes(memory.read(store, address, min(address + _REASON_MAX, memory.data_len(store))))
    return found.partition(b"\0")[0].decode("utf-8", "replace")
