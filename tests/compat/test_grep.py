"""`avfs grep` prints what `git grep` prints in a plain copy of the same files: each option, alone and with others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from avfs_git import Home
from avfs_git.cli import app

_FILES = {
    "a": b"one\ntwo needle\nthree\nfour\nneedle needles\nsix",
    "b/crlf.txt": b"a needle\r\nNEEDLES\r\n\r\n",
    "b/deep/with space": b"pin needle-pin _needle needle2\nfour\n\n\nbb b\n",
    "b-first": b"needle\nneedle\nneedle\nx\nneedle\nx\nx\nx\nneedle\n",
    "binary": b"a needle\0\n",
    "empty": b"",
    "latin": b"\xe4 needle \xf6\n",
    "none": b"nothing\nat all\n",
}
_OPTIONS = (
    *(
        "",
        "-i",
        "-n",
        "-c",
        "-v",
        "-w",
        "-o",
        "-l",
        "-L",
        "-F",
        "-P",
        "-n -v",
        "-c -v",
        "-n -w -i",
        "-o -n",
        "-o -i",
        "-l -v",
    ),
    *(
        "-c -i -w",
        "-n -A1",
        "-n -B2",
        "-n -C1",
        "-A1 -B1",
        "-n -C1 -v",
        "-L -i",
        "-n -A2 -w",
        "-F -w",
        "-F -i -c",
        "-C 0",
        "-o -w -n",
    ),
)
_PATTERNS = ("needle", "n.*s|^x", "(two|six)$", "[[:upper:]]", "b+|four", "e\\b", "nothing like it")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home with a vault that has the files, some of them not committed, and a directory that has them."""
    place = tmp_path_factory.mktemp("searched")
    with Home(place / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        for at, (name, data) in enumerate(_FILES.items()):
            work.write(name, data)
            if at == 3:
                work.checkpoint()
        work.export_path("/", place / "plain")
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=place / "plain", check=True)
    return place / "home", place / "plain"


@pytest.mark.parametrize("options", _OPTIONS)
def test_what_is_printed_is_what_git_prints(
    searched: tuple[Path, Path],
    options: str,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Byte for byte, with the same exit status."""
    home, plain = searched
    monkeypatch.setenv("AVFS_HOME", os.fspath(home))
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/dev/null"}
    different = {}
    for pattern in _PATTERNS:
        words = ([] if {"-F", "-P"} & {*options.split()} else ["-E"]) + options.split()
        git = ["git", "-c", "core.quotePath=false", "grep", "--no-color", *words, "-e", pattern, "--", "."]
        done = subprocess.run(git, cwd=plain, env=environment, stdout=subprocess.PIPE, check=False)
        status = app.run(["--vault", "v", "grep", *options.split(), "--", pattern])
        printed = capfdbinary.readouterr().out
        if (printed, status) != (done.stdout, done.returncode):
            different[pattern] = (status, printed, done.returncode, done.stdout)
    assert not different
