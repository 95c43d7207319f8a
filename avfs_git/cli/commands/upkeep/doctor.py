"""`avfs doctor`: check a vault, and mend what can be mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import BadUsage, ProblemsFound

if TYPE_CHECKING:
    from avfs_git.model import DoctorReport, HostReport


@verb("doctor", looks=lambda given: not given["repair"], view="vaults", pages=True, example="avfs doctor --repair")
@click.option("--repair", is_flag=True, help="Mend what can be mended; each repair is checked.")
@click.option(
    "--host", is_flag=True, help="Say what this machine can do for avfs, and how to get the rest; needs no vault."
)
def command(state: State, repair: bool, host: bool) -> DoctorReport | HostReport:
    """Check a vault, and repair it

    Looks at the files of the home, the repository, the refs, the operation log and every workspace. Problems that are
    left make the command fail; they are listed in any case. A workspace that is in use, such as a mounted one, is
    noted and not looked at.

    With `--host`, looks at the machine instead: avfs tries each ability, as the user who asks, in a scratch directory
    of the home.
    """
    if host:
        if repair:
            raise BadUsage("`--repair` is about a vault, and `--host` about the machine")
        from avfs_git.host.probes import examine_host  # noqa: PLC0415 - loads what no other command needs

        return examine_host(state.avfs.home)
    with state.open_vault() as vault, state.output.working("checking the vault"):
        report = vault.doctor(repair=repair)
    if report.healthy:
        return report
    if not state.output.structured:
        state.output.result(report)
    from avfs_git.records import to_record  # noqa: PLC0415 - only where something was found

    left = [problem for problem in report.problems if problem.is_left]
    fixable = sum(problem.fixable for problem in left)
    raise ProblemsFound(len(left), fixable=0 if repair else fixable, details={"report": to_record(report)})
