"""`avfs setup`: register avfs with the harness of a coding agent.

Decided here: all files are read and changed in memory first, so that one which cannot be read leaves all as they are;
then each is replaced as a whole. A symbolic link stays one.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.harness.events import HARNESSES
from avfs_git.cli.verb import verb
from avfs_git.errors import BadUsage, HostError, InvalidInput
from avfs_git.host.userhome import find_user_home

if TYPE_CHECKING:
    from avfs_git.cli.harness.edits import Edit
    from avfs_git.cli.harness.plan import Plan
    from avfs_git.cli.results import SetupChange, SetupResult


@verb("setup", view="commands", looks=True, example="avfs setup claude --dry-run")
@click.argument("harness", type=click.Choice(HARNESSES), metavar="HARNESS")
@click.option(
    "--project",
    "scope",
    flag_value="project",
    default="project",
    help="For this project: in its working tree. The default.",
)
@click.option("--user", "scope", flag_value="user", help="For all projects of the user: in the home directory.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--remove", is_flag=True, help="Take back what it did.")
@click.option("--check", is_flag=True, help="Prove that each part works; the status is 1 if one does not.")
def command(state: State, harness: str, scope: str, dry_run: bool, remove: bool, check: bool) -> SetupResult:
    """Register avfs with a coding agent: hooks, MCP server, skill

    HARNESS is claude, codex, gemini, cursor, opencode or vscode. Writes what the harness reads: its hooks, its list of
    MCP servers, the skill `avfs`, and a block in its text for agents. What is in these files stays, and comments too; a
    file that cannot be read is refused, and nothing changes. The changes are shown as a patch. Afterwards `--check`
    runs the hook and starts the server as the harness does.
    """
    if check and (remove or dry_run):
        raise BadUsage("--check changes nothing, and goes with no other option but --project and --user")
    from avfs_git.cli.environment import find_default_home, find_home  # noqa: PLC0415 - not for the help
    from avfs_git.cli.harness.plan import make_plan  # noqa: PLC0415 - the same

    root = find_user_home() if scope == "user" else _find_project()
    home = find_home()
    plan = make_plan(harness, root, is_user=scope == "user", home=home if home != find_default_home() else None)
    found: SetupResult = {
        "harness": harness,
        "scope": scope,
        "root": root,
        "changes": (),
        "checks": (),
        "notes": plan.notes,
    }
    if check:
        from avfs_git.cli.harness.proof import prove  # noqa: PLC0415 - only here

        found["checks"] = prove(harness, plan)
        state.status = int(not all(part["passed"] for part in found["checks"]))
        return found
    if scope == "project":
        _check_inside(plan, root)
    before = _read(plan)
    after = compute(plan, before, remove=remove)
    found["changes"] = [_describe(path, before[path], after[path]) for path in before]
    if remove:
        found["notes"] = ()
    if not dry_run:
        for path in before:
            _write(path, before[path], after[path], root)
    return found


def _find_project() -> Path:
    from avfs_git.workspace.forks.clones import find_top  # noqa: PLC0415 - not for the help

    top = find_top(Path.cwd())
    if top == find_user_home():
        raise InvalidInput(
            f"'{top}' is the home directory, and no project", hint="Say `--user`, or go to a project's directory."
        )
    return top


def _check_inside(plan: Plan, root: Path) -> None:
    """Refuse links that lead out of a project: its author made them, and they would change the user's own files."""
    for edit in plan.edits:
        place = _find_file(edit.path)
        if not place.is_relative_to(root.resolve()):
            raise InvalidInput(
                f"'{edit.path}' leads out of the project, to '{place}'",
                hint="Nothing was changed. Replace the link with a file, or say `--user`.",
            )


def _find_file(path: Path) -> Path:
    """Follow links, where `Path.resolve` would fail on a circle: of its links one is left, which opens no file."""
    return Path(os.path.realpath(path))


def _read(plan: Plan) -> dict[Path, str | None]:
    """Read every file of a plan; None where it is missing. A pipe in its place keeps nobody waiting."""
    from avfs_git.host.files.plainfile import read_plain  # noqa: PLC0415 - not for the help

    found: dict[Path, str | None] = {}
    for edit in plan.edits:
        try:
            found.setdefault(edit.path, read_plain(_find_file(edit.path)).decode("utf-8"))
        except FileNotFoundError:
            found[edit.path] = None
        except UnicodeDecodeError as error:
            raise InvalidInput(f"'{edit.path}' is not UTF-8") from error
        except OSError as error:
            raise HostError(f"read '{edit.path}'", error) from error
    return found


def compute(plan: Plan, before: dict[Path, str | None], *, remove: bool) -> dict[Path, str | None]:
    """Give the content of each file after all changes of a plan, or without them."""
    found = dict(before)
    edits: Sequence[Edit] = plan.edits[::-1] if remove else plan.edits
    for edit in edits:
        text = found[edit.path]
        try:
            if not remove:
                found[edit.path] = edit.apply(text)
            elif text is not None:
                found[edit.path] = edit.revert(text)
        except InvalidInput as error:
            hint = "Nothing was changed. Correct the file, or move it away, and try again."
            raise InvalidInput(f"'{edit.path}' is left as it is: {error.message}", hint=hint) from error
    return found


def _describe(path: Path, before: str | None, after: str | None) -> SetupChange:
    action = "keep" if before == after else "create" if before is None else "remove" if after is None else "change"
    lines = difflib.unified_diff(
        (before or "").splitlines(keepends=True),
        (after or "").splitlines(keepends=True),
        fromfile=str(path) if before is not None else os.devnull,
        tofile=str(path) if after is not None else os.devnull,
    )
    diff = "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return {"path": path, "action": action, "diff": diff}


def _write(path: Path, before: str | None, after: str | None, root: Path) -> None:
    from avfs_git.host.files.durable import host_errors, write_file_atomically  # noqa: PLC0415 - not for the help

    if before == after:
        return
    place = _find_file(path)  # what a link names is changed, and not the link
    if after is None and path.is_symlink():
        after = "{}\n" if place.suffix == ".json" else ""
    with host_errors(f"write '{path}'"):
        if after is None:
            path.unlink()
            for directory in path.parents:  # which it may have made
                if directory == root or any(directory.iterdir()):
                    break
                directory.rmdir()
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        mode = place.stat().st_mode & 0o777 if before is not None else None
        write_file_atomically(place, after.encode("utf-8"))
        if mode is not None:
            place.chmod(mode)
