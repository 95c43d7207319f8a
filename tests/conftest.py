"""What all tests share: a hermetic environment, the capability report, the sweep of stale mounts.

Every test runs without the user's git configuration and environment, with a fixed author, locale, time zone and
terminal width, and with a home of its own.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from avfs_git import faults
from tests.support import as_ordinary, capabilities, cells, seeds, sweep
from tests.support.cli import Cli, Transcript

_SCRUBBED = ("GIT_", "AVFS_", "XDG_", "LC_", "PYTHON", "MAKE", "MFLAGS")
_FIXED = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada Author",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada Author",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "COLUMNS": "120",
    "TERM": "dumb",
}

_numbers = count()
_SEED = pytest.StashKey[int]()
_EXAMPLES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
if not os.access(Path(__file__).parents[1], os.W_OK):
    _EXAMPLES = settings(_EXAMPLES, database=None)  # who may not write here remembers no examples that failed
# A failure that is the same each time is made smaller by `dev`; here that would take the run minutes.
settings.register_profile("ci", _EXAMPLES, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.register_profile("dev", _EXAMPLES)
settings.register_profile("deep", _EXAMPLES, max_examples=5000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let snapshots be written anew."""
    parser.addoption(
        "--update-snapshots", action="store_true", help="write what commands show now into tests/cli/snapshots"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose Hypothesis' profile; refuse to skip for ever in CI."""
    if not config.getoption("hypothesis_profile", default=None):
        settings.load_profile("ci" if os.environ.get("CI") else "dev")
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        # What runs in the background ignores some of these, and so would all that the tests start.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        config.stash[_SEED] = config.workerinput["seed"]
        return  # a worker of pytest-xdist: its controller has looked already
    config.stash[_SEED] = seeds.draw_seed()
    sweep.sweep()
    if os.environ.get("CI") and (missing := capabilities.missing_but_expected()):
        raise pytest.UsageError(f"CI: this machine should be able to, but is not: {', '.join(missing)}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let modules be freed at exit, or duckdb's bindings (nanobind) list them as leaked.

    Clean up after workers that died.
    """
    gc.unfreeze()
    if not hasattr(config, "workerinput"):
        sweep.sweep()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # pytest-xdist has no types
    """Let all workers of pytest-xdist choose the same tests."""
    node.workerinput["seed"] = node.config.stash[_SEED]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what this machine can do, and how to choose the same users and backends again."""
    return [*capabilities.report(), f"users and backends: AVFS_SEED={config.stash[_SEED]}"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run what is marked `ordinary` as an ordinary user."""
    if not as_ordinary.is_wanted(item):
        return None
    as_ordinary.run(item, nextitem)
    return True


@pytest.fixture(params=as_ordinary.everybody())
def person(request: pytest.FixtureRequest) -> str:
    """Run each test that uses this as root and as an ordinary user."""
    return str(request.param)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would be root's as an ordinary user: that is no claim, and nothing that a machine could lack.

    Of the users and backends of each test, take those of this run.
    """
    items[:] = [item for item in items if not (as_ordinary.is_wanted(item) and "root" in as_ordinary.wants(item))]
    cells.take_part(config, items, config.stash[_SEED])


def pytest_collection_finish() -> None:
    """Hide modules and tests from the garbage collector: each test, and each process it forks, would pay for them."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run for the user of this process."""
    for name in as_ordinary.wants(item):
        if not capabilities.has(name):
            pytest.skip(f"this machine lacks {name}")


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """No test leaves the worker without its garbage collector, or all that it opens later stays open."""
    yield
    is_enabled = gc.isenabled()
    gc.enable()
    assert is_enabled


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No test leaves a fault armed."""
    yield
    faults.arm(None)


@pytest.fixture(autouse=True)
def inherited() -> Iterator[None]:
    """Each test begins in the same directory and with the same umask.

    A command that runs in this process may leave its directory (`avfs unmount`), and a server takes a umask of 0.
    """
    before = Path.cwd()
    umask = os.umask(0o022)
    yield
    os.chdir(before)
    os.umask(umask)


@pytest.fixture(autouse=True)
def hermetic(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give each test a fixed environment and an empty home; return the home."""
    for name in os.environ:
        if name.startswith(_SCRUBBED) or name in {"LANG", "LANGUAGE", "NO_COLOR", "FORCE_COLOR", "EMAIL"}:
            monkeypatch.delenv(name)
    # A directory that `mktemp` numbers costs as much as there are directories: 2 to 4 ms for each of some thousand
    # tests.
    homes = tmp_path_factory.getbasetemp() / "homes"
    homes.mkdir(mode=0o700, exist_ok=True)
    home = homes / str(next(_numbers))
    home.mkdir(mode=0o700)
    for name, value in {**_FIXED, "HOME": str(home), "AVFS_HOME": str(home / "avfs")}.items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, hermetic: Path) -> Cli:
    """The command line, run in this process with an empty home."""
    return Cli(monkeypatch)


@pytest.fixture
def avfs(cli: Cli, hermetic: Path, tmp_path: Path) -> Transcript:
    """The command line, with a transcript of what it showed."""
    return Transcript(cli, {"home": hermetic / "avfs", "tmp": tmp_path})


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a whole output with the file that holds it; `--update-snapshots` writes the file."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "cli" / "snapshots" / name
        if request.config.getoption("--update-snapshots"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

        assert path.read_text(encoding="utf-8") == text

    return compare


@pytest.fixture(autouse=True)
def unsynced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk in this process and in those it forks, unless the test is marked `synced`.

    What reaches the disk, and in which order, is checked by tests that look at the calls and by `tests/power`. What a
    failed step or a process that dies leaves is what the kernel holds.
    """
    if request.node.get_closest_marker("synced"):
        return

    def check(fd: int) -> None:
        os.fstat(fd)  # a wrong descriptor stays an error

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, check)


@pytest.fixture
def mount_dir() -> Iterator[Path]:
    """A directory for mounts, which are gone after the test whatever happens."""
    directory = sweep.scratch_root()
    yield directory
    sweep.remove(directory)
