"""Text for people: tables and trees on a terminal, plain lines in a pipe, remarks on standard error.

Decided here: how lines, tables, times, sizes and ids look; what each result shows is in `views`. This is the only
importer of rich, and imports it only on a terminal: a pipe costs nothing. In a pipe, a table is one line a row with
tabs between the cells and no heading, times are RFC 3339 and ids are whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from keyword import iskeyword
from time import time_ns
from typing import TYPE_CHECKING, Literal

from avfs_git.cli.output.base import OutputClosed, OutputLost, write_all
from avfs_git.cli.output.hints import Named, complete, complete_error
from avfs_git.cli.output.quoting import defuse, quote_path
from avfs_git.errors import AvfsError, InternalError, quote
from avfs_git.patterns import compiled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console, RenderableType

    from avfs_git.cli.output.filter import Filter
    from avfs_git.cli.output.pager import Pager
    from avfs_git.model import TreeNode, Warning
    from avfs_git.progress import Progress

Part = str | tuple[str, str]
"""A piece of a line: a text, or a text with a style."""

_PASSED_ON = frozenset({"proxy_exec_result"})
"""Results whose bytes on both streams are a command's own."""
_SHORT_ID = 12
_BETWEEN_COLUMNS = 3
_AROUND_COLUMNS = 2
_LEAST_WIDTH = 12
"""So wide the widest column of a table stays at least, where it alone gives way on a narrow terminal."""
_RECENT_S = 3600
"""So long a time is told by how long ago it was."""
_COLOR = compiled(r"(\x1b\[[0-9;]*m)")
_SGR = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}


class TextOutput:
    """Writes results for people as they come.

    Attributes:
        named: What the command line names, which hints repeat.
        filter: What is made of a document, where the user wants less than all of it.
        shows_color: Whether a person sees colours.
    """

    structured = False
    """Whether the result becomes a document; else bytes may go out as they are."""

    def __init__(self, *, color: bool = True, find_pager: Callable[[], Pager | None] | None = None) -> None:
        self.named = Named()
        self.filter: Filter | None = None
        self.color = color
        self._kind = ""
        self._view = ""
        self._meant: dict[str, object] = {}
        self.request: dict[str, object] = {}
        """The arguments: how much a view shows may depend on them."""
        self.warned: set[Warning] = set()
        """The warnings that were told."""
        self._console: Console | None = None
        self._pending = bytearray()
        self._find_pager = find_pager
        self._is_held = False
        self._has_streamed = False
        self._remarks: list[str] = []
        self.on_terminal = _is_terminal(sys.stdout)
        self.shows_color = color and self.on_terminal

    # --- the channels ----------------------------------------------------------------------------

    def begin(self, kind: str, view: str, request: Mapping[str, object]) -> None:
        """Learn which verb runs, with which arguments, and how its result is shown."""
        self._kind = kind
        self._view = view
        self.request = dict(request)

    def page(self) -> None:
        """Hold the result until it is whole, if a person sees it and may want a pager."""
        self._is_held = self.on_terminal and self._find_pager is not None

    def amend(self, **facts: object) -> None:
        """Add to the request what became known while it was served."""
        self.request.update(facts)
        self._meant.update((name, facts[name]) for name in ("vault", "fork") if name in facts)

    def result(self, value: object) -> None:
        """Show the result as its view says, then its warnings; None where it went out as bytes."""
        if value is None:
            if not self._has_streamed:
                self._name_place(passes_on=True)
            return
        from avfs_git.model import find_warnings  # noqa: PLC0415 - `--help` has no result

        self._show(value)
        self._name_place(passes_on=self._kind in _PASSED_ON)
        self.warn(find_warnings(value))

    def stream(self, values: Iterable[object]) -> None:
        """Show the parts of a result as they come, instead of a result, as their view says."""
        self._has_streamed = True
        self._show(values)
        self._name_place(passes_on=False)

    def _show(self, value: object) -> None:
        """Show the result, or its parts, as its view says."""
        if not self._view:
            raise InternalError(f"nothing shows a {self._kind}")
        place, _, name = self._view.partition(".")
        module = import_module(f"avfs_git.cli.output.views.{place}")
        name = name or self._kind.removesuffix("_result")
        show = getattr(module, f"{name}_" if iskeyword(name) else name)
        show(self, value)
        self._release()

    def _release(self) -> None:
        """Write out a whole result, with the pager if it is longer than the screen, then the remarks made meanwhile."""
        if self._is_held:
            self._is_held = False
            from avfs_git.cli.output.pager import is_longer, measure_screen, page  # noqa: PLC0415 - only on a terminal

            screen = measure_screen(sys.stdout.fileno())
            is_long = screen is not None and is_longer(bytes(self._pending), *screen)
            pager = self._find_pager() if is_long and self._find_pager is not None else None
            if pager is not None:
                if page(bytes(self._pending), pager):
                    self._pending.clear()
                else:
                    self._remark(
                        "warning", f"cannot run the pager {quote(pager.command)}: AVFS_PAGER names another", "yellow"
                    )
        self.flush()
        for remark in self._remarks:
            _write_remark(remark)
        self._remarks.clear()

    def _name_place(self, *, passes_on: bool) -> None:
        """Name the vault and fork of the result; next to the bytes of a file or command, only on a terminal."""
        words = ("vault",) if self._kind.startswith("fork_") else ("vault", "fork")
        names = [f"{word} {name}" for word in words if (name := self._meant.get(word)) is not None]
        if names and (not passes_on or _is_terminal(sys.stderr)):
            self.note(f"({', '.join(names)})")

    def warn(self, warnings: Iterable[Warning]) -> None:
        """Tell on standard error what the caller should know, each once."""
        for warning in warnings:
            if warning not in self.warned:
                self.warned.add(warning)
                self._remark("warning", complete(warning.message, self.named), "yellow")

    def data(self, chunks: Iterable[bytes]) -> None:
        """Pass on a result that is bytes, as they are. Not for structured output."""
        for chunk in chunks:
            write_all(sys.stdout, chunk)

    def note(self, message: str) -> None:
        """Remark something on standard error."""
        self._remark("", message, "")

    @contextmanager
    def working(self, message: str) -> Iterator[None]:
        """Show on a terminal that something takes its time."""
        if not _is_terminal(sys.stderr):
            yield
            return
        from rich.console import Console  # noqa: PLC0415 - only on a terminal

        with Console(stderr=True, no_color=not self.color).status(defuse(message)):
            yield

    @contextmanager
    def progress(self, message: str) -> Iterator[Progress | None]:
        """Show how far the block's operations are, if they take long; gives what to tell of others.

        None without a terminal.
        """
        if not _is_terminal(sys.stderr):
            yield None
            return
        from avfs_git.cli.output.bar import Bar  # noqa: PLC0415 - only on a terminal
        from avfs_git.progress import telling  # noqa: PLC0415 - the same

        def warn(text: str) -> None:
            self._remark("warning", text, "yellow")

        with closing(Bar(message, color=self.color, spell_size=self._spell_size, warn=warn)) as bar, telling(bar):
            yield bar

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; False without one."""
        if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
            return False
        _write_remark(f"{defuse(question)} [y/N] ")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def failure(self, error: AvfsError, *, trace: str | None = None) -> None:
        """Say on standard error what failed and what to do."""
        self._pending.clear()
        self._is_held = False
        if trace is not None:
            _write_remark(trace)
        self._remark("error", error.message, "bold red")
        if hint := complete_error(error, self.named, self.request):
            self._remark("hint", hint, "cyan")

    def close(self) -> None:
        """Bring everything out.

        Raises:
            OutputClosed: If the reader has closed the stream.
            OutputLost: If it cannot be written.
        """
        self.flush()

    def _remark(self, label: str, message: str, style: str) -> None:
        text = defuse(message)
        if label:
            text = f"{_paint(f'{label}: ', style) if self.color and _is_terminal(sys.stderr) else f'{label}: '}{text}"
        if self._is_held:
            self._remarks.append(f"{text}\n")
        else:
            _write_remark(f"{text}\n")

    # --- what views write with -------------------------------------------------------------------

    def line(self, *parts: Part) -> None:
        """Write one line of the result."""
        shown = []
        for part in parts:
            text, style = (part, "") if isinstance(part, str) else part
            text = defuse(text) if self.on_terminal else text
            shown.append(_paint(text, style) if self.on_terminal and self.color else text)
        self.raw("".join(shown).encode("utf-8", "surrogateescape") + b"\n")

    def raw(self, data: bytes) -> None:
        """Write bytes of the result as they are."""
        self._pending += data
        if len(self._pending) > 1 << 16:
            self.flush()

    def patch(self, data: bytes) -> None:
        """Write a patch: byte for byte, or coloured on a terminal."""
        if not self.on_terminal:
            self.raw(data)
            return
        for line in data.decode("utf-8", "replace").split("\n")[:-1]:
            header = line.startswith(("diff ", "index ", "--- ", "+++ "))
            style = "bold" if header else {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            self.line((line, style) if style else line)

    def drawn(self, data: bytes) -> None:
        """Write a text coloured by git: byte for byte, or, on a terminal, with its colours as the only escape codes."""
        if not self.on_terminal:
            self.raw(data)
            return
        parts = _COLOR.split(data.decode("utf-8", "replace"))
        shown = (part if at % 2 else "\n".join(map(defuse, part.split("\n"))) for at, part in enumerate(parts))
        self.raw("".join(shown).encode("utf-8", "surrogateescape"))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
        """Write rows; `right` names the columns whose cells stand at the right.

        At a terminal that is too narrow for the columns, each row is a few lines, a cell each: nothing is broken or cut
        off.
        """
        if not self.on_terminal:
            for row in rows:
                self.line("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
            return
        from rich import box  # noqa: PLC0415 - only on a terminal
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        texts = [[Text(defuse(cell)) for cell in row] for row in rows]
        widths = [max([len(heading), *(row[at].cell_len for row in texts)]) for at, heading in enumerate(headings)]
        widest = widths.index(max(widths))
        console = self._prepare_console()
        # The widest column gives way as long as it keeps a readable width.
        others = sum(widths) - widths[widest] + _BETWEEN_COLUMNS * (len(widths) - 1)
        if texts and others + min(_LEAST_WIDTH, widths[widest]) + _AROUND_COLUMNS > console.width:
            for text_row in texts:
                self._write_record(headings, [cell.plain for cell in text_row])
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for at, heading in enumerate(headings):
            justify: Literal["left", "right"] = "right" if heading in right else "left"
            table.add_column(heading, justify=justify, overflow="fold", no_wrap=at != widest)
        for cells in texts:
            table.add_row(*cells)
        self._print(table)

    def _write_record(self, headings: Sequence[str], cells: Sequence[str]) -> None:
        """Write a row as lines: the first cells up to one with a heading, then the others that say something."""
        known = list(zip(headings, cells, strict=True))
        first = next((at for at, heading in enumerate(headings) if heading), 0)
        marks = "".join(f"{cell} " for _, cell in known[:first] if cell)
        self.line(marks, (known[first][1], "bold"))
        for heading, cell in known[first + 1 :]:
            if cell and cell != "-":
                self.line("  ", f"{heading}: {cell}" if heading else cell)

    def facts(self, rows: Iterable[tuple[str, str | None]]) -> None:
        """Write facts, a line each; None is left out."""
        known = [(name, value) for name, value in rows if value is not None]
        width = max((len(name) for name, _ in known), default=0)
        for name, value in known:
            if self.on_terminal:
                self.line((f"{name}:".ljust(width + 2), "bold"), value)
            else:
                self.line(f"{name}\t{value}")

    def tree(self, node: TreeNode) -> None:
        """Write an entry with what stands below it."""
        if self.on_terminal:
            self._draw(node)
            return
        stack = [(node, 0)]  # not recursive: trees may be thousands deep
        while stack:
            current, depth = stack.pop()
            self.line("  " * depth, self._leaf(current, whole=not depth))
            stack.extend((child, depth + 1) for child in reversed(current.children))

    def _draw(self, node: TreeNode) -> None:
        from rich.text import Text  # noqa: PLC0415 - only on a terminal
        from rich.tree import Tree  # noqa: PLC0415

        root = Tree(Text(self._leaf(node, whole=True)))
        stack = [(node, root)]
        while stack:
            current, drawn = stack.pop()
            stack.extend((child, drawn.add(Text(self._leaf(child, whole=False)))) for child in current.children)
        self._print(root)

    def _leaf(self, node: TreeNode, *, whole: bool) -> str:
        path = node.info.path if whole else node.info.path.rpartition(b"/")[2]
        name = quote_path(path)
        return f"{name}/" if node.info.kind == "directory" and path else name

    def hint(self, message: str, *, is_needed: bool = False) -> None:
        """Name a useful next command, to a person at a terminal; what is needed to go on, to programs as well."""
        if is_needed or self.on_terminal:
            self.flush()
            self._remark("hint", complete(message, self.named), "cyan")

    def id(self, oid: str | None) -> str:
        """Show an id: short on a terminal."""
        return "-" if oid is None else oid[:_SHORT_ID] if self.on_terminal else oid

    def time(self, ns: int | None) -> str:
        """Show a time: local on a terminal."""
        if ns is None:
            return "-"
        from avfs_git.records import to_time  # noqa: PLC0415 - only where a time is shown

        if self.on_terminal:
            from datetime import UTC, datetime  # noqa: PLC0415 - only on a terminal

            try:
                return datetime.fromtimestamp(ns // 1_000_000_000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
            except (OverflowError, ValueError, OSError):
                return "-"
        return to_time(ns) or "-"

    def since(self, ns: int) -> str:
        """Show a time whose age matters most: on a terminal `2 min ago`, after a day the day and the hour."""
        if not self.on_terminal:
            return self.time(ns)
        ago_s = (time_ns() - ns) // 1_000_000_000
        if 0 <= ago_s < _RECENT_S:
            return "just now" if ago_s < 10 else f"{ago_s} s ago" if ago_s < 60 else f"{ago_s // 60} min ago"
        day, _, time = self.time(ns).rpartition(" ")[0].partition(" ")
        return time if day == self.time(time_ns()).partition(" ")[0] else f"{day} {time[:5]}"

    @staticmethod
    def count(number: int, one: str, many: str | None = None) -> str:
        """Show how many there are of something."""
        return f"{number} {one if number == 1 else many or one + 's'}"

    def size(self, size: int | None) -> str:
        """Show a size: in bytes, or rounded on a terminal."""
        if size is None:
            return "-"
        return self._spell_size(size) if self.on_terminal and size >= 1024 else str(size)

    @staticmethod
    def _spell_size(size: int) -> str:
        value = float(size)
        for unit in ("KiB", "MiB", "GiB"):
            value /= 1024
            if value < 1024:
                return f"{value:.1f} {unit}"
        return f"{value / 1024:.1f} TiB"

    def flush(self) -> None:
        """Bring out what was written so far, unless it may be for the pager."""
        if self._pending and not self._is_held:
            data = bytes(self._pending)
            self._pending.clear()
            write_all(sys.stdout, data)

    def _print(self, what: RenderableType) -> None:
        console = self._prepare_console()
        with console.capture() as shown:
            console.print(what)
        self.raw(shown.get().encode("utf-8", "surrogateescape"))

    def _prepare_console(self) -> Console:
        if self._console is None:
            from rich.console import Console  # noqa: PLC0415 - only on a terminal

            self._console = Console(no_color=not self.color, highlight=False, markup=False, emoji=False)
        return self._console


def _paint(text: str, style: str) -> str:
    """Colour a text by hand: rich would wrap it and change its tabs."""
    if not (text and style):
        return text
    return f"\x1b[{';'.join(_SGR[word] for word in style.split())}m{text}\x1b[0m"


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty())


def _write_remark(text: str) -> None:
    """Write to standard error; a closed standard error is no failure."""
    if sys.stderr is None:
        return
    try:
        write_all(sys.stderr, text.encode("utf-8", "backslashreplace"))
    except (OutputClosed, OutputLost):
        pass
