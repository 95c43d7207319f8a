"""avfs in an asyncio program: how to iterate without keeping the event loop waiting.

Decided here: the one way to use the API from a loop. A call is `await asyncio.to_thread(work.checkpoint, "label")`, and
a command is `await work.exec_async(…)`, which cancelling ends. What is iterated over (`events`, `file_events`, `walk`,
`glob`, `open_read`, `exec_stream`) goes through `iterate`: each step runs in a thread. A call in a thread that is
cancelled completes all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any, TypeVar

from avfs_git.sdk.repository.events import Events
from avfs_git.sdk.workspace.fileevents import FileEvents

_T = TypeVar("_T")
_END: Any = object()


async def iterate(items: Iterable[_T]) -> AsyncGenerator[_T, None]:
    """Iterate over what the API gives, each step in a thread, one at a time.

    At the end of the iteration, or if it is cancelled, an iterator that can be closed (`Events`, `FileEvents`,
    generators) is closed, after the step that runs.
    """
    source: object = items
    iterator = iter(items)
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = asyncio.ensure_future(asyncio.to_thread(next, iterator, _END))
            value = await asyncio.shield(step)
            if value is _END:
                return
            yield value
    finally:
        close = getattr(items, "close", None) or getattr(iterator, "close", None)
        if step is not None and not step.done():
            if isinstance(source, Events | FileEvents):  # it waits, and can be told from here
                source.close()
            await asyncio.wait([step])
        if close is not None:
            close()
