"""Tests that run as the ordinary user, beside all others.

Decided here: a test marked `ordinary` runs in a process of its own that is that user (`tests.support.ordinary`), with
its fixtures, and its reports come back to whoever runs the tests: it is an item like any other, also under
pytest-xdist. Where an ordinary user runs the tests, it simply runs. `tests/conftest.py` hands each test to `run`; what
the machine lacks for it is probed as that user (`capabilities.of_ordinary_user`).

Fixtures of a wider scope than one test that were set up before belong to the process outside and are left to it.
"""

from __future__ import annotations

import marshal
import os
from pathlib import Path
from typing import Literal

import pytest
from _pytest.runner import runtestprotocol

from tests.support import capabilities, ordinary, sweep

EVERYBODY = ["root", "ordinary"] if os.geteuid() == 0 else ["ordinary"]


def everybody() -> list[object]:
    """Make the parameters of the fixture `person`: who runs a test."""
    return [pytest.param(name, marks=pytest.mark.ordinary) if name == "ordinary" else name for name in EVERYBODY]


def is_wanted(item: pytest.Item) -> bool:
    """Whether a test is to run as somebody else than this process is."""
    return os.geteuid() == 0 and item.get_closest_marker("ordinary") is not None


def wants(item: pytest.Item) -> list[str]:
    """List the capabilities that a test needs."""
    return [name for mark in item.iter_markers("needs") for name in mark.args]


def run(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run a test as the ordinary user, and report."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.session._setupstate.teardown_exact(nextitem)  # what the test before had in common with this one
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    known = capabilities.of_ordinary_user()
    if not known:
        place, line, _ = item.location
        return [_made(item, "skipped", (place, line or 0, "Skipped: this machine lacks ordinary-user"))]
    scratch = sweep.scratch_root()
    process = ordinary.Process(lambda: _run_here(item, known), scratch)
    try:
        said = marshal.loads(process.answer())
    except KeyboardInterrupt:
        raise
    except ordinary.Killed as error:
        return [_made(item, "failed", f"{error}; what it said is on standard error")]
    except BaseException as error:  # noqa: BLE001 - a time-out, which is this test's
        process.abort()
        return [_made(item, "failed", f"{error}\nWhat its threads did is on standard error.")]
    else:
        return [item.config.hook.pytest_report_from_serializable(config=item.config, data=data) for data in said]
    finally:
        process.kill()
        sweep.remove(scratch)


def _made(
    item: pytest.Item, outcome: Literal["failed", "skipped"], why: str | tuple[str, int, str]
) -> pytest.TestReport:
    """Make a report of a test that did not report by itself."""
    return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, why, "setup")


def _run_here(item: pytest.Item, known: dict[str, bool]) -> bytes:
    """Run a test in this process, which is that user's; give its reports."""
    capabilities.know(known)
    item.session._setupstate.stack.clear()
    # pytest's own directory is closed to this user.
    base = Path(os.environ["TMPDIR"]) / "t"
    base.mkdir()
    item.config._tmp_path_factory._basetemp = base  # type: ignore[attr-defined]
    reports = runtestprotocol(item, log=False, nextitem=None)
    hook = item.config.hook
    said = [hook.pytest_report_to_serializable(config=item.config, report=report) for report in reports]
    return marshal.dumps(said)
