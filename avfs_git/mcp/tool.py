"""A tool: a function of the SDK with a schema of its arguments and of its result, and how a call of it runs.

Decided here: how a call becomes an answer. Arguments that the schema does not allow are refused before anything is
opened. The function runs in a thread, so that the server goes on; while it runs, the client is told each second what it
does. A client that gives a call up ends a command that runs; every other operation completes. An error is an answer
with its code, never a crash. A command that needs approval is asked about where the client can ask: `approval` has the
question.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import anyio
import anyio.to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import Field, ValidationError

from avfs_git.errors import ApprovalNeeded, AvfsError, HostError, InternalError, InvalidInput, quote
from avfs_git.mcp import approval
from avfs_git.mcp.answers import Leftovers, Render, answer, answer_schema, fail
from avfs_git.mcp.hints import in_words_of_tools
from avfs_git.mcp.scope import Call, Reach, Scope
from avfs_git.mcp.trace import note_error, note_result
from avfs_git.schema import Schema
from avfs_git.sdk.workspace.modelpaths import find_path
from avfs_git.values import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from avfs_git.sdk import Workspace

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
ADDS_ONCE = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False)
CHANGES_ONCE = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
PUBLISHES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True)
"""What clients are told: `destructive` of what replaces or removes files, though all of it can be undone."""

VaultName = Annotated[str | None, Field(description="The vault; the server's own if not given.")]
ForkName = Annotated[
    str | None, Field(description="The fork; the server's own, or the vault's default fork, if not given.")
]
TreePath = Annotated[
    str, Field(description="A path in the workspace, from its root; a leading slash makes no difference.")
]
State = Annotated[
    str,
    Field(
        description="A checkpoint's label, a fork, the id of a commit (four letters or more), or HEAD; `~N` steps back."
    ),
]
Paths = Annotated[
    list[str], Field(description="Only these paths and what is below them; everything if empty.", max_length=1000)
]
Pattern = Annotated[
    str, Field(description="A path with `*`, `?`, `[…]`, and `**` for any directories, as in `**/*.py`.")
]
CommandDir = Annotated[str, Field(description="The command's directory in the workspace.")]
Offset = Annotated[int, Field(ge=0, description="Where to begin; `next_offset` of the answer before.")]
"""Arguments that several tools share, as their schemas describe them."""

_HEARTBEAT_S = 1.0
_THREADS = anyio.CapacityLimiter(100)
_log = logging.getLogger("avfs.mcp")


class Spec(NamedTuple):
    """A function that is a tool."""

    function: Callable[..., Any]
    title: str
    hints: ToolAnnotations
    reach: Reach
    render: Render | None


class Toolbox(list[Spec]):
    """The tools of a module."""

    def tool(
        self, title: str, hints: ToolAnnotations, *, reach: Reach = Reach.FORK, render: Render | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Make a function a tool: its docstring is for the model, its annotations are the schemas.

        Args:
            title: What people read.
            hints: What the tool does to files, truly.
            reach: How far it reaches; a server that reaches less far does not have it.
            render: Makes the text for the model of the record; JSON by default.

        A function whose first argument is `workspace` gets that of the fork that is meant, and the tool the arguments
        `vault` and `fork`; any other function gets the `Call`.
        """

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self.append(Spec(_in_workspace(function), title, hints, reach, render))
            return function

        return add


def _in_workspace(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of a `Call` of one of a workspace."""
    own = inspect.signature(function)
    first, *others = own.parameters.values()
    if first.name != "workspace":
        return function

    @functools.wraps(function)
    def work(call: Call, vault: str | None = None, fork: str | None = None, **given: object) -> object:
        workspace = call.workspace(vault, fork)
        read = {name: _find_paths(call, workspace, given[name]) for name in paths if name in given}
        return function(workspace, **{**given, **read})

    hints = {**get_type_hints(function, include_extras=True), "call": Call, "vault": VaultName, "fork": ForkName}
    del hints["workspace"]
    paths = [name for name, hint in hints.items() if hint in (TreePath, Paths, Pattern, CommandDir)]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    place = [inspect.Parameter(name, kind, default=None) for name in ("vault", "fork")]
    parameters = [each.replace(annotation=hints[each.name]) for each in (first.replace(name="call"), *others, *place)]
    work.__annotations__ = hints
    work.__signature__ = own.replace(parameters=parameters, return_annotation=hints["return"])  # type: ignore[attr-defined]
    return work


def _find_paths(call: Call, workspace: Workspace, given: Any) -> str | list[str]:
    if isinstance(given, str):
        return find_path(call.home, workspace, given)
    return [find_path(call.home, workspace, path) for path in given]


class AvfsTool(Tool):
    """A tool of avfs, as the server runs it."""

    scope: Any = Field(exclude=True)
    leftovers: Any = Field(exclude=True)
    describe: Any = Field(exclude=True)
    offered: Any = Field(exclude=True)
    render: Any = Field(default=None, exclude=True)
    answer_schema: Schema = Field(exclude=True)

    @cached_property
    def output_schema(self) -> Schema | None:
        """The schema of the tool's result."""
        return self.answer_schema

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,  # noqa: ARG002 - the result is one already
    ) -> CallToolResult | InputRequiredResult:
        """Run the tool with any arguments."""
        failed = functools.partial(fail, offered=self.offered, named=arguments, meant=self._choose(arguments))
        try:
            done = await self._run(self._validate(arguments), context)
        except AvfsError as error:
            note_error(error)
            return failed(error)
        except MCPError:
            raise
        except OSError as error:
            return failed(HostError(f"finish {self.name}", error))
        except Exception as error:  # noqa: BLE001 - the one catch-all of the server: a client gets an answer
            _log.exception("tool %s", self.name)
            return failed(InternalError(f"{type(error).__name__}: {error}"))
        if isinstance(done, CallToolResult) and done.structured_content is not None:
            note_result(done.structured_content)
        return done

    def _choose(self, arguments: Mapping[str, Any]) -> tuple[str | Path | None, str | None]:
        """Say which vault and fork a call means; None where the server may not work there."""
        named = {name: given for name, given in arguments.items() if isinstance(given, str)}
        try:
            return cast("Scope", self.scope).choose(named.get("vault"), named.get("fork"))
        except AvfsError:
            return None, None

    def _validate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Check arguments with the schema.

        Raises:
            InvalidInput: If one is missing, unknown or of the wrong type.
        """
        known = self.parameters["properties"]
        for name, given in arguments.items():
            if name not in known:
                raise InvalidInput(
                    f"{self.name} has no argument {quote(name)}", hint=f"It takes {', '.join(known) or 'none'}."
                )
            if not _is_unicode(given):
                raise InvalidInput(f"argument {quote(name)} of {self.name} holds half of a character")
        try:
            values: dict[str, Any] = self.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"argument {quote(where)} of {self.name}: {_lower(first['msg'])}") from error
        return values

    async def _run(self, values: dict[str, Any], context: Context[Any, Any]) -> CallToolResult | InputRequiredResult:
        if (answered := approval.read_answer(context)) is not None:
            with Call(self.scope) as call:
                token = await anyio.to_thread.run_sync(
                    approval.decide, call, values.get("vault"), answered, limiter=_THREADS
                )
            values = {**values, "approve": token}
        try:
            return await self._call(values, context)
        except ApprovalNeeded as needed:
            with Call(self.scope) as call:
                asked = await approval.ask(call, values.get("vault"), needed, context, self.describe)
                if isinstance(asked, InputRequiredResult):
                    return asked
                token = await anyio.to_thread.run_sync(
                    approval.decide, call, values.get("vault"), asked, limiter=_THREADS
                )
        return await self._call({**values, "approve": token}, context)

    async def _call(self, values: dict[str, Any], context: Context[Any, Any]) -> CallToolResult:
        """Call the function in a thread, and tell the client how far it is."""
        call = Call(self.scope)
        outcome: list[CallToolResult | BaseException] = []

        def work() -> None:
            try:
                with call:
                    value = self.fn(call, **values)
                    meant, warnings = call.meant, call.warnings
                    say = functools.partial(
                        in_words_of_tools, offered=self.offered, named=values, meant=self._choose(values)
                    )
                    outcome.append(answer(value, self.leftovers, meant, warnings=warnings, render=self.render, say=say))
            except BaseException as error:  # noqa: BLE001 - the awaiting task raises it
                outcome.append(error)

        async def wait() -> None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(work, limiter=_THREADS)
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await self._tell(call, context)
        finally:
            if not outcome:
                call.cancel()
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    async def _tell(self, call: Call, context: Context[Any, Any]) -> None:
        """Tell the client each second that the call goes on, until the task is cancelled."""
        began = time.monotonic()
        try:
            while True:
                await anyio.sleep(_HEARTBEAT_S)
                try:
                    await context.report_progress(
                        round(time.monotonic() - began, 1), message=call.message or self.title
                    )
                except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                    return  # the client is gone; what runs completes
        except anyio.get_cancelled_exc_class():
            call.cancel()
            raise


def make_tools(specs: Sequence[Spec], scope: Scope, leftovers: Leftovers, describe: Callable[..., Any]) -> list[Tool]:
    """Make the tools that a scope allows."""
    allowed = [
        spec for spec in specs if spec.reach <= scope.reach and (spec.hints.read_only_hint or not scope.is_read_only)
    ]
    fixed = {Reach.HOME: set(), Reach.VAULT: {"vault"}, Reach.FORK: {"vault", "fork"}}[scope.reach]
    offered = {spec.function.__name__: inspect.signature(spec.function).parameters.keys() - fixed for spec in allowed}
    return [_make(spec, scope, leftovers, describe, offered) for spec in allowed]


def _make(
    spec: Spec,
    scope: Scope,
    leftovers: Leftovers,
    describe: Callable[..., Any],
    offered: Mapping[str, Collection[str]],
) -> Tool:
    text = re.sub(r"(?<=\S)\n(?=\S)", " ", re.sub(r"\n +", "\n", spec.function.__doc__ or ""))
    plain = Tool.from_function(
        spec.function,
        title=spec.title,
        description=text.strip(),
        annotations=spec.hints,
        context_kwarg="call",
        structured_output=False,
    )
    made = AvfsTool.model_construct(
        **{name: getattr(plain, name) for name in Tool.model_fields},
        scope=scope,
        leftovers=leftovers,
        describe=describe,
        offered=offered,
        render=spec.render,
        answer_schema=answer_schema(get_type_hints(spec.function)["return"]),
    )
    taken = offered[spec.function.__name__]
    properties = {name: held for name, held in plain.parameters["properties"].items() if name in taken}
    made.parameters = _without_titles({**plain.parameters, "properties": properties, "additionalProperties": False})
    return made


def _without_titles(schema: Any) -> Any:
    """Leave out the titles that pydantic makes of names: a model reads every letter."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without_titles(held) for name, held in schema.items() if name != "title" or not isinstance(held, str)
    }


def _is_unicode(value: object) -> bool:
    """Whether all texts of a JSON value can be written in UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
