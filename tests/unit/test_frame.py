"""The package as it is installed: what it exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import avfs_git


def test_import_of_the_package_imports_none_of_its_parts() -> None:
    """`import avfs_git` alone loads neither libgit2 nor the SDK."""
    code = (
        "import sys, avfs_git; print([m for m in ('pygit2', 'avfs_git.sdk', 'avfs_git.model', 'click') if m in "
        "sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"


def test_a_session_loads_little_before_it_is_ready() -> None:
    """What loads slowly and is not needed for a mount loads when programs can already use the tree, if at all."""
    heavy = (
        "dataclasses",
        "inspect",
        "logging",
        "traceback",
        "concurrent.futures",
        "subprocess",
        "socket",
        "pygit2",
        "avfs_git.sdk",
    )
    code = f"import sys, avfs_git.session.serve.nursery; print([m for m in {heavy} if m in sys.modules])"

    # Without `site`, Python finds the package by the working directory.
    package = Path(avfs_git.__file__).parents[1]
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=package, check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"


def test_modules_and_folders_stay_small() -> None:
    """A module has 600 lines at most, lists aside; a folder 13 modules, so that `ls` reads as a table of contents."""
    package = Path(avfs_git.__file__).parent
    modules = sorted(package.rglob("*.py"))

    long = [path.name for path in modules if len(path.read_text(encoding="utf-8").splitlines()) > 600]
    held = Counter(path.parent.relative_to(package) for path in modules if path.name != "__init__.py")

    assert long == ["errors.py", "model.py"]
    assert [folder for folder, count in held.items() if count > 13] == []


def test_version_is_a_release_number() -> None:
    """The version is one that packaging tools can order."""
    assert [part.isdigit() for part in avfs_git.__version__.split(".")] == [True, True, True]
