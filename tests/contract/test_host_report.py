"""What `avfs doctor --host` says of this machine is what the tests' own probes find, for root and ordinary users."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.host.probes import examine_host
from tests.support import capabilities

_SAME = {
    "git": "git",
    "fuse": "fuse",
    "libfuse": "libfuse",
    "overlayfs": "overlayfs",
    "user-namespaces": "userns",
    "bubblewrap": "bubblewrap",
    "user-xattrs": "user-xattrs",
}
"""Abilities, and the tests' capabilities that are the same."""


def _check_report(home: Path) -> None:
    report = examine_host(home / "not" / "there")
    works = {each.name: each.works for each in report.abilities}

    assert {name: works[name] for name in _SAME} == {name: capabilities.has(other) for name, other in _SAME.items()}
    assert all((each.remedy is None) == each.works for each in report.abilities)
    assert all(each.found and each.purpose for each in report.abilities)
    assert (report.user_id, report.directory) == (os.geteuid(), home)
    assert list(home.iterdir()) == []
    assert not [mounted for mounted in list_mounts() if home in mounted.directory.parents]


def test_the_report_is_true(tmp_path: Path) -> None:
    """Trials are made where the home will be; nothing of them is left."""
    _check_report(tmp_path)


@pytest.mark.ordinary
def test_the_report_is_true_for_an_ordinary_user(tmp_path: Path) -> None:
    """The same, with the rights of that user."""
    _check_report(tmp_path)


def test_what_is_not_installed_is_named_with_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are looked for on the path of the user."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    found = {each.name: each for each in examine_host(tmp_path).abilities}

    assert not found["git"].works
    assert found["git"].found == "'git' is not installed"
    assert found["bubblewrap"].packages == {"debian": "bubblewrap", "fedora": "bubblewrap"}


@pytest.mark.ordinary
def test_a_home_that_cannot_be_written_is_not_needed(tmp_path: Path) -> None:
    """Files are tried in the nearest directory above it that can be written."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)

    assert examine_host(closed / "avfs").directory == tmp_path
