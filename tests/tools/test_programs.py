"""Programs that change files in ways of their own do in a live tree what they do in a plain directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.capabilities import find_tool
from tests.support.workbench import Workbench
from tests.tools.conftest import Begin

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")]


def _fill(place: Path) -> None:
    for number in range(12):
        (place / "src" / f"part{number % 3}").mkdir(parents=True, exist_ok=True)
        (place / "src" / f"part{number % 3}" / f"file{number}.txt").write_text(f"one {number}\ntwo\nthree\n" * 5)
    (place / "src" / "link").symlink_to("part0/file0.txt")
    (place / "src" / "run").write_text("#!/bin/sh\necho ran\n")
    (place / "src" / "run").chmod(0o750)
    (place / "src" / "big").write_bytes(bytes(range(256)) * 6000)
    (place / "empty").mkdir()
    (place / "README").write_text("one\ntwo\nthree\n")
    os.setxattr(place / "README", b"user.note", b"kept")
    os.utime(place / "README", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))


@pytest.fixture
def bench(begin: Begin) -> Workbench:
    """Files of the lower layer, in both places."""
    return begin(_fill)


# --- editors -------------------------------------------------------------------------------------------------


def test_sed_in_place(bench: Workbench) -> None:
    """Files are replaced one by one, through symbolic links if asked, with backups, and keep their modes."""
    bench.same("""
        sed -i s/two/TWO/ README src/part0/*.txt; cat README; sed -i.orig s/ran/RAN/ src/run; src/run; ls src; stat -c %a src/run
        sed -i --follow-symlinks s/three/THREE/ src/link; cat src/link | head -3; test -L src/link; echo $?
        sed -i s/THREE/3/ src/link; test -L src/link; echo $?
        sed -i -s '1i first' src/part1/*.txt; head -2 src/part1/file1.txt; sed -i s/x/y/ missing
        perl -pi -e 's/one/1/' src/part2/*.txt; cat src/part2/file2.txt | head -2; stat -c %h src/part2/file2.txt
    """)


@pytest.mark.needs("vim")
@pytest.mark.parametrize("how", ["backupcopy=no", "backupcopy=yes", "backupcopy=auto backup", "nowritebackup fsync"])
def test_vim_saves(bench: Workbench, how: str) -> None:
    """Vim saves by renaming and by rewriting, with and without a backup that stays; no swap file is left."""
    vim = f"{find_tool('vim') or find_tool('vim.tiny')} -u NONE -i NONE --not-a-term -es"
    bench.same(f"""
        {vim} -c 'set {how}' -c '%s/two/2/' -c wq README; cat README; getfattr --only-values -n user.note README 2>/dev/null
        {vim} -c 'set {how}' -c '%s/two/2/' -c wq src/link; head -2 src/part0/file0.txt; test -L src/link; echo $?
        {vim} -c 'set {how}' -c 'normal oechoed' -c wq src/run; stat -c %a src/run; cat src/run
        {vim} -c 'set {how}' -c 'normal inew' -c wq fresh; cat fresh; ls -AI.git . src
    """)


_SAVE = r"""
import os, sys
name, text = sys.argv[1], sys.argv[2]
before = os.stat(name)
probe = os.open("4913", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o100644)  # may one make files here?
os.fchown(probe, before.st_uid, before.st_gid)
os.close(probe)
os.unlink("4913")
swap = os.open("." + name + ".swp", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
os.write(swap, b"b0VIM" + b"\0" * 4091)
os.fsync(swap)
os.rename(name, name + "~")
out = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, before.st_mode & 0o777)
os.write(out, text.encode())
os.fsync(out)
os.fchmod(out, before.st_mode & 0o777)
os.close(out)
kept = os.stat(name + "~")
assert (kept.st_ino, kept.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
assert os.stat(name).st_ino != before.st_ino
os.unlink(name + "~")
os.close(swap)
os.unlink("." + name + ".swp")
"""


def test_an_editors_safe_save(bench: Workbench) -> None:
    """The steps by which vim saves: a probe, a swap file, the old file moved aside, the new one forced to disk.

    The test takes the steps twice.
    """
    for place in (bench.live, bench.plain):
        (place / "save.py").write_text(_SAVE)
    for text in ("first", "second"):
        bench.same(f"python3 save.py README {text}; cat README; ls -AI.git; stat -c '%a %h %s' README")
    bench.remount()
    bench.check_same_files()


# --- copying -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["auto", "fuse"])
def copied(request: pytest.FixtureRequest, bench: Workbench) -> Workbench:
    """The same, by default and through FUSE.

    Where the kernel's overlayfs makes a second name of a file of the base, the two show different inodes until the
    kernel has forgotten the first: programs that compare them do not see the link.
    """
    bench.backend = request.param
    bench.remount()
    return bench


@pytest.mark.needs("rsync")
def test_rsync(copied: Workbench, tmp_path: Path) -> None:
    """Into the tree, out of it and within it: nothing is left to do afterwards, also after another mount."""
    bench, links = copied, "H" if copied.backend == "fuse" else ""
    outside = tmp_path / "outside"
    shutil.copytree(bench.plain, outside, symlinks=True)
    (outside / "src" / "part0" / "file0.txt").write_text("changed outside\n")
    (outside / "src" / "part1" / "file1.txt").unlink()
    shutil.rmtree(outside / "src" / "part2")
    (outside / "src" / "part2").write_text("now a file\n")
    (outside / "more").mkdir()
    if links:
        os.link(outside / "README", outside / "more" / "README")
    with (outside / "src" / "big").open("r+b") as file:
        file.seek(700_000)
        file.write(b"changed")
    os.utime(outside, (1_500_000_000, 1_500_000_000))  # whole seconds apart from what is done below
    bench.same(f"""
        rsync -a{links}X --delete --exclude=/.git {outside}/ ./; rsync -a{links}Xin --delete --exclude=/.git {outside}/ ./
        rsync -a --inplace --no-whole-file --checksum {outside}/src/big src/part0/file0.txt; md5sum src/part0/file0.txt
        rsync -a --link-dest=../src src/ again/; stat -c %h again/big
        rsync -a --remove-source-files again/ third/; find again third | sort; rsync -ain src/ third/
        rsync -a --sparse src/big sparse; cmp src/big sparse; rsync -a --partial --append-verify src/big sparse
        rm -r third; rsync -a{links}Xin --delete --exclude=/.git ./ {outside}/ | grep -v sparse
    """)
    bench.remount()
    bench.run(f"""
        rm -r sparse again; cp -p {outside}/src/part0/file0.txt src/part0/
        touch -r {outside} .; touch -r {outside}/src/part0 src/part0
    """)
    # A root on overlayfs is closed to other users, while it is mounted.
    left = bench.run(f"rsync -a{links}Xin --delete --exclude=/.git {outside}/ ./")
    assert left in ("[0]\n", ".d...p..... ./\n[0]\n" if bench.backend == "auto" else "[0]\n")


def test_tar(copied: Workbench, tmp_path: Path) -> None:
    """An archive is unpacked over existing files and compared: contents, modes, times and links.

    An archive of the tree is packed.
    """
    bench, archive = copied, tmp_path / "archive.tar"
    link = "ln" if copied.backend == "fuse" else "cp -p"
    bench.run_plain(f"{link} src/run src/second; tar cf {archive} --sort=name src README; rm src/second")
    bench.same(f"""
        rm -r src/part0; ln -sf part1 src/part0; tar xf {archive} --overwrite; tar df {archive}; stat -c '%h %a %y' src/second
        mkdir other; tar xpf {archive} -C other; tar df {archive} -C other; echo $?
        tar xf {archive} --unlink-first --recursive-unlink; tar df {archive}; tar xf {archive} --keep-newer-files; echo $?
        tar cf - --sort=name src README | (cd empty; tar xf -); diff -r src empty/src; tar cf - src | tar tf - | sort
        tar xf {archive} -C other --delay-directory-restore --same-permissions; find other -newer {archive} -type f
    """)
    bench.remount()
    assert bench.run(f"tar df {archive}") == "[0]\n"


def test_find_deletes(bench: Workbench) -> None:
    """`find -delete` and `rm -r` of many entries, of both layers mixed, leave nothing behind and nothing out."""
    bench.same("""
        for i in $(seq 40); do mkdir -p many/d$i/e; for j in $(seq 25); do : > many/d$i/f$j; : > many/d$i/e/g$j; done; done
        find many -name 'f*' -delete; find many | wc -l; find many -type f -newer README | wc -l
        touch src/part0/new src/part1/.new
        find src -name '*.txt' -size +1k -delete; find . -path ./.git -prune -o -print | sort
        find many src/part0 -delete; ls; find src -type d -empty; find . -name missing -delete; rm -r src/part1; ls -A src
        mkdir -p src/part0; ls -A src/part0; find . -mindepth 1 -path ./.git -prune -o -delete; ls
        find . -mindepth 1 -not -path ./.git -delete; ls; mkdir src; ls -A src
    """)
    bench.remount()
    bench.check_same_files()


# --- watching ------------------------------------------------------------------------------------------------

_WATCH = r"""
import ctypes, os, select, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init1(os.O_NONBLOCK)
watched = {}
for name in sys.argv[2:]:
    watched[libc.inotify_add_watch(fd, name.encode(), 0xFFF)] = name  # IN_ALL_EVENTS
subprocess.run(["bash", "-c", sys.argv[1]], check=True, stdin=subprocess.DEVNULL)
names = {1: "access", 2: "modify", 4: "attrib", 8: "close_write", 0x10: "close", 0x20: "open", 0x40: "moved_from",
         0x80: "moved_to", 0x100: "create", 0x200: "delete", 0x400: "delete_self", 0x800: "move_self", 0x8000: "ignored"}
cookies = {}
last = None
while select.select([fd], [], [], 0.2)[0]:
    data = os.read(fd, 65536)
    while data:
        wd, mask, cookie, length = struct.unpack_from("iIII", data)
        name = data[16 : 16 + length].rstrip(b"\0").decode()
        data = data[16 + length :]
        cookie = cookies.setdefault(cookie, len(cookies)) if cookie else ""
        kind = "+".join(word for bit, word in names.items() if mask & bit) + ("/dir" if mask & 0x40000000 else "")
        line = f"{watched[wd]} {name} {kind} {cookie}"
        if line != last:  # the kernel joins equal events that nobody has read yet, and how many those are is chance
            print(line)
        last = line
"""

_CHANGES = {
    "new files": "echo x > new; echo y >> new; mkdir dir; touch dir/in; ln new hard; ln -s new soft; chmod 600 new; "
    "mkfifo pipe",
    "old files": "echo more >> README; truncate -s 3 README; chmod 600 README; touch -d 2020-01-01 README; cat README",
    "names": "mv README moved; mv moved src/moved; mv src/moved README; echo x > y; mv y README; ln README z; rm "
    "README; rm z",
    "directories": "mv src lib; mv lib src; mkdir d; rmdir d; rm -r empty; ls src >/dev/null; mv src/part0 .; rm "
    "-r part0",
    "whole save": "cp README new~; sync new~; mv new~ README; rm -f README; echo again > README",
}


@pytest.mark.parametrize("name", _CHANGES)
def test_inotify_sees_changes(bench: Workbench, name: str) -> None:
    """Whoever watches sees the events that the same changes have in a plain directory, of files from the base, too."""
    for place in (bench.live, bench.plain):
        (place / "watch.py").write_text(_WATCH)
    said = bench.same(f"python3 watch.py {_quoted(_CHANGES[name])} . src README empty src/run")
    assert len(said.splitlines()) > 5


def _quoted(text: str) -> str:
    return f"'{text}'"


# --- git -----------------------------------------------------------------------------------------------------


def test_git_clone_rebase_gc(bench: Workbench, tmp_path: Path) -> None:
    """A repository below the root has the same objects, refs and files, from clone to gc.

    It is whole after another mount.
    """
    bench.run_plain(f"""
        git init -q -b main {tmp_path}/origin; cd {tmp_path}/origin
        for i in $(seq 30); do
            echo $i >> f$((i % 7)); mkdir -p d$((i % 4)); echo $i > d$((i % 4))/g$i; git add -A; git commit -q -m c$i
        done
        git checkout -q -b side HEAD~9
        for i in 1 2 3 4; do echo s$i >> side; git add -A; git commit -q -m s$i; done; git checkout -q main
    """)
    script = f"""
        git clone -q --bare {tmp_path}/origin origin.git; git clone -q file://$PWD/origin.git packed
        git clone -q origin.git linked; cd packed; git log --oneline | head -3
        git switch -q side; git rebase -q main; git log --oneline -6; git status --short; git config user.name A
        GIT_SEQUENCE_EDITOR='sed -i 2s/pick/squash/' git rebase -q -i HEAD~4; git log --oneline -4 --stat
        echo conflict >> f1; git commit -qam here; git switch -q -c third HEAD~3; echo other >> f1; git commit -qam there
        git rebase side; git status --short; git checkout --theirs f1; git add f1; git rebase --continue -q; git log --oneline -3
        git gc -q --prune=now; git fsck --strict --no-dangling; git count-objects -v | grep -v size
        git repack -adq; git prune-packed
        git worktree add -q ../wt main; git -C ../wt status --short; git worktree list | cut -d' ' -f1; git worktree remove ../wt
        git for-each-ref; git reflog expire --all --expire=now; git gc -q --prune=now --aggressive; git fsck --strict
        git pull -q --rebase origin main; git push -q origin HEAD:refs/heads/one; cd ../linked; git fsck; git status --short
        git -c gc.auto=1 gc --auto -q; git log --oneline | wc -l
    """
    forget = r"TREE\S*|Successfully rebased.*\n|\r|Rebasing \(\d+/\d+\)"
    bench.same(script, forget=forget, leaves_same=False)
    state = """
        for r in origin.git packed linked; do git -C $r for-each-ref; git -C $r fsck; git -C $r ls-files -s; done
        git -C packed status --short; git -C linked status --short
    """
    expected = bench.same(state, leaves_same=False)
    bench.remount()
    assert bench.run(state) == expected
    bench.go_to_fork("next")
    assert bench.run(state) == expected
