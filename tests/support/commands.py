"""A corpus of real commands, and what each changes in a plain directory: the witness for what `exec` reports."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfs_git.model import Identity
from avfs_git.sdk import Home, Workspace

Files = dict[bytes, tuple[str, bytes]]
"""Each file: its kind as git knows it, and a hash of its content or target."""

ALLOW_ALL = """
version = 1
[[rule]]
name = "all"
action = "allow_with_checkpoint"
"""
"""A policy by which every command runs, after a checkpoint."""

BACKENDS = [
    pytest.param("overlay", marks=pytest.mark.needs("fuse", "overlayfs")),
    pytest.param("fuse", marks=pytest.mark.needs("fuse")),
    "checkout",
]
"""The ways in which `exec` shows a workspace."""

CORPUS: dict[str, str] = {
    "nothing": "true",
    "read": "cat README src/*.c; grep -r main . || true",
    "echo-new": "echo new > new.txt",
    "echo-over": "echo other > README",
    "append": "echo more >> README",
    "same-again": "cat README > /tmp/avfs-corpus.$$; cat /tmp/avfs-corpus.$$ > README; rm /tmp/avfs-corpus.$$",
    "written-and-put-back": "cp README keep; echo x > README; cp keep README; rm keep",
    "same-size-same-mtime": "cp -p src/a.c t; printf 'X' | dd of=src/a.c bs=1 conv=notrunc 2>/dev/null; touch -r t "
    "src/a.c; rm t",
    "sed-i": "sed -i s/main/start/ src/a.c",
    "sed-i-many": "sed -i s/e/E/ src/*.c docs/*.md",
    "perl-i": "perl -pi -e 's/a/b/' src/b.c",
    "chmod-x": "chmod +x README",
    "chmod-minus-x": "chmod -x run.sh",
    "chmod-600": "chmod 600 README",
    "rm": "rm README",
    "rm-rf": "rm -rf src",
    "rm-all": "rm -rf ./*",
    "mkdir-p": "mkdir -p a/b/c && touch a/b/c/f",
    "mv-file": "mv README READYOU",
    "mv-dir": "mv src code",
    "mv-dir-into": "mkdir sub && mv src docs sub/",
    "mv-new-dir": "mkdir n && echo x > n/x && mv n m",
    "mv-over": "mv src/a.c src/b.c",
    "case-only": "mv README readme",
    "case-only-dir": "mv docs Docs",
    "exchange": "mv src t && mv docs src && mv t docs",
    "cp-r": "cp -r src src2",
    "cp-a": "cp -a docs docs2",
    "ln-s": "ln -s README link && ln -sfn docs link2",
    "retarget": "ln -sfn src/a.c latest",
    "absolute-link": "ln -s /etc/hostname out",
    "hard-link": "ln README README2 && echo y >> README2",
    "file-to-dir": "rm README && mkdir README && echo x > README/x",
    "dir-to-file": "rm -rf docs && echo x > docs",
    "link-to-file": "rm latest && echo x > latest",
    "tar": "tar cf t.tar src docs && tar xf t.tar -C empty && rm t.tar",
    "tar-rm": "tar cf - src | (mkdir z && cd z && tar xf -) && rm -rf src",
    "newline-name": "printf x > 'a\nb' && mkdir 'd\nd' && printf y > 'd\nd/ '",
    "odd-names": "printf x > \"$(printf '\\377\\376')\" && touch ' ' '-n' '*' 'é' && rm -- -n",
    "truncate": "truncate -s 0 README && truncate -s 100 src/a.c",
    "fallocate": "dd if=/dev/zero of=big bs=64k count=33 2>/dev/null",
    "mmap": "python3 -c \"import mmap; f = open('README', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[0:1] = b'Z'; "
    'm.flush()"',
    "descriptor": "exec 3>>README; rm README; echo lost >&3; echo again > README",
    "make": "make -s && make -s clean && make -s",
    "cc": "cc -o prog src/a.c src/b.c",
    "git-status": "git status --short",
    "git-mv": "git mv README READTHIS",
    "git-mv-dir": "git mv src source",
    "git-rm": "git rm -q docs/one.md",
    "git-commit": "echo c > c.txt && git add c.txt && git -c user.name=a -c user.email=a@b commit -qm made",
    "git-checkout": "echo c > README && git checkout -q -- README",
    "git-stash": "echo c > README && git -c user.name=a -c user.email=a@b stash -q && git stash pop -q",
    "git-clean": "touch x1 x2 && git clean -fdq",
    "git-apply": "printf -- '--- a/README\\n+++ b/README\\n@@ -1 +1 @@\\n-hello main\\n+hello patch\\n' | git apply",
    "git-branch": "git checkout -q -b other && echo o > o.txt && git add o.txt && git checkout -q main "
    "2>/dev/null || true",
    "ignored": "mkdir build && echo x > build/out && echo y > a.o && echo z > seen",
    "find-delete": "find . -name '*.c' -delete",
    "find-exec": "find docs -name '*.md' -exec sed -i s/o/0/ {} +",
    "install": "install -m 755 README bin-readme",
    "patch": "printf -- '--- README\\n+++ README\\n@@ -1 +1 @@\\n-hello main\\n+patched\\n' | patch -s",
    "split": "seq 1000 | split -l 100 - part-",
    "gzip": "gzip README && gunzip -k README.gz",
    "python-rename": "python3 -c \"import shutil; shutil.move('src', 'moved'); import os; os.replace('README', "
    "'docs/one.md')\"",
    "python-cache": "python3 -m compileall -q py",
    "sort-o": "sort -o docs/list.md docs/list.md",
    "tee": "seq 3 | tee -a README docs/one.md >/dev/null",
    "rsync-like": "cp -a src backup && rm -rf src && cp -a backup src && rm -rf backup",
    "npm": "npm install --offline --no-audit --no-fund --silent ./pkg",
    "pip": "python3 -m pip install -q --no-deps --no-build-isolation --no-index --target vendor ./nothing-there "
    "|| true",
    "many": "for i in $(seq 300); do echo $i > f$i; done",
    "fails": "echo half > half; exit 3",
    "killed": "echo half > half; kill -9 $$",
}


@contextmanager
def fork_with_file(home: Path) -> Iterator[Workspace]:
    """Make a fork 'work' with a file, in a vault of a new home."""
    with Home(home, identity=Identity("A", "a@b")) as made, made.create_vault("v") as vault, vault.fork("work") as work:
        work.write("file", b"content\n")
        work.checkpoint("start")
        yield work


def place_policy(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name the user's policy, also for the command line, which has its home in the directory."""
    monkeypatch.setenv("AVFS_HOME", str(directory / "h"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / "config"))
    file = directory / "config" / "avfs" / "policy.toml"
    file.parent.mkdir(parents=True)
    return file


def make_project(root: Path) -> Path:
    """Make a repository for the corpus, with a commit, ignored files and an empty directory."""
    files = {
        "README": "hello main\n",
        "run.sh": "#!/bin/sh\necho run\n",
        "src/a.c": "int f(void);\nint main(void) { return f(); }\n",
        "src/b.c": "int f(void) { return 0; }\n",
        "docs/one.md": "one\ntwo\n",
        "docs/list.md": "c\nb\na\n",
        "py/mod.py": "x = 1\n",
        "pkg/package.json": '{"name": "pkg", "version": "1.0.0"}\n',
        "pkg/index.js": "module.exports = 1\n",
        "package.json": '{"name": "top", "version": "1.0.0"}\n',
        "Makefile": "prog.o: src/b.c\n\tcc -c -o prog.o src/b.c\nclean:\n\trm -f prog.o\n",
        ".gitignore": "*.o\nbuild/\n__pycache__/\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "run.sh").chmod(0o755)
    (root / "latest").symlink_to("src/b.c")
    (root / "empty").mkdir()
    (root / "old.o").write_text("ignored\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for argv in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *argv], cwd=root, check=True)
    return root


def look(root: Path) -> Files:
    """Describe the files below a directory, `.git` in the root aside."""
    found: Files = {}
    for here, dirs, names in os.walk(os.fsencode(root)):
        if here == os.fsencode(root):
            dirs[:] = [name for name in dirs if name != b".git"]
        for name in [*names, *[name for name in dirs if os.path.islink(os.path.join(here, name))]]:
            path = os.path.join(here, name)
            inside = os.path.relpath(path, os.fsencode(root))
            if inside == b".git":
                continue
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                found[inside] = ("link", os.readlink(path))
            else:
                with open(path, "rb") as file:
                    kind = "program" if status.st_mode & 0o100 else "file"
                    found[inside] = (kind, hashlib.sha256(file.read()).digest())
    return found


def changed(before: Files, after: Files) -> set[bytes]:
    """Name the files that differ."""
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


def is_ignored(path: bytes) -> bool:
    """Whether the project's `.gitignore` names a file."""
    return path.endswith(b".o") or path.startswith(b"build/") or b"__pycache__/" in path
