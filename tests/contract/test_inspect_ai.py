"""A fork as a sandbox of inspect-ai: its own checks of sandboxes, and an evaluation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai", reason="inspect-ai is not installed; `make frameworks` installs it")
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import Score, Target, accuracy, scorer
from inspect_ai.solver import Generate, TaskState, solver
from inspect_ai.util import SandboxEnvironment, SandboxEnvironmentSpec, sandbox
from inspect_ai.util._sandbox.self_check import *  # noqa: F403 - the checks are its tests

from avfs_git import Home
from avfs_git.adapters.inspect_ai import ForkSandbox, Source

pytestmark = [pytest.mark.needs("fuse", "user-xattrs", "whiteout"), pytest.mark.slow]

ROOT_MAY = {
    "test_read_file_not_allowed",
    "test_write_text_file_without_permissions",
    "test_write_binary_file_without_permissions",
}
"""Checks that the mode of a file refuses."""


@pytest.fixture
def anyio_backend() -> str:
    """Inspect's local sandbox is for asyncio."""
    return "asyncio"


@pytest.fixture
def place(hermetic: Path) -> Path:
    """The home of the command line, with a vault."""
    with Home(hermetic / "avfs") as home:
        home.create_vault("shop").workspace().write_text("README", "hello\n")
    return hermetic / "avfs"


@pytest.fixture
async def sandbox_env(place: Path, request: pytest.FixtureRequest) -> AsyncIterator[SandboxEnvironment]:
    """A sandbox, as an evaluation makes and ends it."""
    name = request.node.originalname
    if name == "test_exec_as_user":
        request.applymarker(pytest.mark.xfail(reason="commands run as the user of the evaluation", strict=True))
    if name in ROOT_MAY and os.geteuid() == 0:
        request.applymarker(pytest.mark.xfail(reason="root is refused nothing", strict=True))
    made = await ForkSandbox.sample_init("task", "shop@main", {})
    yield made["default"]
    await ForkSandbox.sample_cleanup("task", "shop@main", made, interrupted=False)


def forks(place: Path) -> set[str]:
    """List the forks that there are."""
    with Home(place) as home:
        return {info.name for info in home.open_vault("shop").list_forks()}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # inspect leaves streams of its own open
def test_each_sample_begins_with_the_same_files(place: Path) -> None:
    """Samples see neither each other nor their end; the fork that they begin with is as it was, and theirs are gone."""

    @solver
    def work():  # type: ignore[no-untyped-def]
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            before = await sandbox().read_file("README")
            await sandbox().write_file("README", f"{before}{state.input_text}\n")
            done = await sandbox().exec(["sh", "-c", "git status --short; cat README"])
            state.output.completion = done.stdout
            return state

        return solve

    @scorer(metrics=[accuracy()])
    def check():  # type: ignore[no-untyped-def]
        async def score(state: TaskState, target: Target) -> Score:
            return Score(value=state.output.completion == f" M README\nhello\n{target.text}\n")

        return score

    samples = [Sample(input=text, target=text) for text in ("one", "two", "three")]
    with Home(place) as home:
        home.open_vault("shop").workspace().checkpoint()
    for begin in ("shop@main", Source(vault="shop", fork="main", home=place)):
        task = Task(dataset=samples, solver=work(), scorer=check(), sandbox=SandboxEnvironmentSpec("avfs", begin))
        (log,) = eval(task, model="mockllm/model", log_dir=str(place.parent / "logs"), display="none")

        assert log.status == "success", log.error
        assert [score.value for sample in log.samples for score in sample.scores.values()] == [True, True, True]
    assert forks(place) == {"main"}
    with Home(place) as home:
        assert home.open_vault("shop").workspace().read_text("README") == "hello\n"
