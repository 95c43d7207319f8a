"""The program: `main`, the only exit and the only catch-all.

Decided here: how every outcome becomes an exit status and a message or a document.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from avfs_git.cli.context import State
from avfs_git.cli.environment import find_completion, find_pager, wants_color
from avfs_git.cli.output.base import OutputClosed, OutputLost
from avfs_git.errors import AvfsError, DirectoryGone, HostError, InternalError, Interrupted, Terminated

if TYPE_CHECKING:
    from avfs_git.cli.output.base import Output

_GARBAGE_AT = 100_000
"""So many objects more than there were start a search for garbage."""


def wants_document(arguments: list[str]) -> bool:
    """Look for `--json` and `--jq` before anything is parsed, for the failures of parsing itself.

    Behind `--` it is not ours.
    """
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own or _is_filtered(own)


def _is_filtered(arguments: list[str]) -> bool:
    return any(argument == "--jq" or argument.startswith("--jq=") for argument in arguments)


def _make_output(arguments: list[str], *, document: bool) -> Output:
    if document:
        from avfs_git.cli.output.envelope import EnvelopeOutput  # noqa: PLC0415 - one of two

        return EnvelopeOutput(
            [argument for argument in arguments if argument != "--json"], filtered=_is_filtered(arguments)
        )
    from avfs_git.cli.output.text import TextOutput  # noqa: PLC0415 - one of two

    return TextOutput(color=wants_color(), find_pager=find_pager)


def _join_trace() -> None:
    from avfs_git.cli.environment import find_trace  # noqa: PLC0415 - only in a trace
    from avfs_git.sdk.spans import join  # noqa: PLC0415 - the same

    join(find_trace())


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status; nothing escapes but `SystemExit` of a second Ctrl-C."""
    state = State(_make_output(arguments, document=wants_document(arguments)))
    error: AvfsError
    trace: str | None = None
    if "opentelemetry.trace" in sys.modules:  # by `opentelemetry-instrument avfs`: spans belong to the caller's trace
        _join_trace()
    try:
        try:
            status = _perform(state, arguments)
        finally:
            state.close()
        state.output.close()
        return status
    except OutputClosed:
        return _give_up_stdout(state)
    except OutputLost as err:
        return _report_lost_stdout(state, err)
    except AvfsError as err:
        error = err
        if isinstance(err, InternalError):
            trace = _trace_if(state)
    except _Ended as err:
        error = Terminated(*err.args)
    except KeyboardInterrupt as err:
        error = Interrupted(*err.args)
    except BrokenPipeError:
        return _give_up_stdout(state)
    except OSError as err:
        what = f"use '{err.filename}'" if isinstance(err.filename, str) else "finish"
        error = DirectoryGone(err) if _is_directory_gone() else HostError(what, err)
        trace = _trace_if(state)
    except Exception as err:  # noqa: BLE001 - the one catch-all: the caller always gets a document or a message
        error = InternalError(
            f"{type(err).__name__}: {err}",
            hint="This is a bug in avfs. Run it again with `--verbose` and report what it shows.",
            details={"exception": type(err).__name__},
        )
        trace = _trace_if(state)
    if error.hint is not None and error.hint.startswith("See them"):
        from avfs_git.cli.names import suggest  # noqa: PLC0415 - only after a mistake

        suggest(state, error)
        state.close()
    if isinstance(error, Interrupted | Terminated) and not state.looks and state.output.named.opened is not None:
        # such as the checkpoint of what was uncommitted
        error.hint = "What it did to forks and their files by then is in `avfs op log`."
    state.output.failure(error, trace=trace)
    failed = error.exit_code if isinstance(error, Interrupted | Terminated) else state.failure_status
    return _finish(state, error.exit_code if failed is None else failed)


def _perform(state: State, arguments: list[str]) -> int:
    """Do what the arguments ask for."""
    match arguments:
        case ["hook", harness] if not harness.startswith("-"):
            # A coding agent waits for this at each of its calls, and importing click would take a quarter more.
            from avfs_git.cli.harness.hook import give_answer  # noqa: PLC0415 - one of two

            give_answer(state, harness)
            return state.status
    from avfs_git.cli.commandline import perform  # noqa: PLC0415 - one of two

    return perform(state, arguments)


def _is_directory_gone() -> bool:
    """Tell whether the current directory no longer exists."""
    try:
        Path.cwd().stat()
    except OSError:
        return True
    return False


def _finish(state: State, status: int) -> int:
    try:
        state.output.close()
    except OutputClosed:
        return _give_up_stdout(state)
    except OutputLost as err:
        return _report_lost_stdout(state, err)
    return status


def _report_lost_stdout(state: State, err: OutputLost) -> int:
    """Say on standard error that the result could not be written; a change that was asked for may be made."""
    from avfs_git.cli.output.text import TextOutput  # noqa: PLC0415 - only where it is needed

    output = TextOutput(color=False)
    output.named = state.output.named
    if not state.looks and output.named.opened is not None:
        err.hint = "What was asked for may be done: see `avfs op log` before you run it again."
    output.failure(err)
    _give_up_stdout(state)
    return err.exit_code if state.failure_status is None else state.failure_status


def _give_up_stdout(state: State) -> int:
    """Leave quietly when standard output is closed: the interpreter's own flush at its end must not complain either."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        pass  # nothing is left to protect
    return state.unread_status


def _trace_if(state: State) -> str | None:
    if not state.verbose:
        return None
    import traceback  # noqa: PLC0415 - only for a bug

    return traceback.format_exc()


def _open_standard_descriptors() -> None:
    """Fill descriptors 0 to 2 where the caller closed them: a vault's file must never become standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Ended(KeyboardInterrupt):
    """SIGTERM came: what is being done is left as by Ctrl-C, so that nothing half made stays behind."""


def _end(number: int, _frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one ends it at once: whatever that leaves, a crash may leave
    raise _Ended


def main() -> NoReturn:
    """Run the program with the arguments of the process, and exit."""
    _open_standard_descriptors()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # else whoever started it wants it to go on
        signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the starter may ignore it: no child would have a status
    # A program that imports much and ends soon makes little garbage; looking for it now and then takes a twentieth of
    # the start.
    gc.set_threshold(_GARBAGE_AT)
    if (asked := find_completion()) is not None:
        from avfs_git.cli.completion import answer  # noqa: PLC0415 - only for a shell

        answer(asked)
    _leave(run(sys.argv[1:]))


def _leave(status: int) -> NoReturn:
    """Exit at once: everything is closed and written, and an interpreter teardown takes a sixth of a short command."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it, or it was closed
            stream.flush()
    os._exit(status)
