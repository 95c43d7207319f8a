"""Programs that verify their own results in a live tree, and somebody who kills its server meanwhile.

Each program runs in a process of its own, again and again until its time is over, and leaves what it made last. It
fails by an exception or a status, so that an error that the tree gives is an error of the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tests.support.live_tree import LiveTree

_HEAD = """
import ctypes, errno, fcntl, hashlib, mmap, os, random, shutil, sqlite3, stat, subprocess, sys, time
tree, aside, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
random.seed(int(sys.argv[4]))
until = time.monotonic() + seconds
rounds = 0

def run(*argv, cwd=tree, **env):
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, (argv, done)
    return done.stdout

def put(path, data):
    with open(path, 'wb') as file:
        file.write(data)

def get(path):
    with open(path, 'rb') as file:
        return file.read()

def stop(error):
    raise error

def more():
    global rounds
    rounds += 1
    return rounds == 1 or time.monotonic() < until

"""

PROGRAMS = {
    "read": """
sums = dict(line.split(' ', 1)[::-1] for line in open(aside + '/sums').read().splitlines())
while more():
    seen = 0
    for here, dirs, files in os.walk(tree + '/base', onerror=stop):
        for name in files:
            path = os.path.join(here, name)
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            with open(fd, 'rb') as file:
                found = hashlib.md5(file.read()).hexdigest()
            assert found == sums[os.path.relpath(path, tree)], path
            seen += 1
    assert seen == len(sums), (seen, len(sums))
""",
    "build": """
os.mkdir(tree + '/build')
sources = ['s%02d' % n for n in range(20)]
for name in sources:
    put(f'{tree}/build/{name}.c', name.encode() * 100)
put(tree + '/build/Makefile', b'''
objects = $(patsubst %.c,%.o,$(wildcard *.c))
all: prog
prog: $(objects)
\\tcat $(sort $^) > prog
%.o: %.c
\\tcp $< $@.tmp && mv $@.tmp $@
clean:
\\trm -f prog *.o
''')
while more():
    run('make', '-s', '-j2', cwd=tree + '/build')
    assert get(tree + '/build/prog') == b''.join(name.encode() * 100 for name in sources)
    run('make', '-q', cwd=tree + '/build')
    run('make', '-s', 'clean', cwd=tree + '/build')
    assert sorted(os.listdir(tree + '/build')) == sorted(['Makefile'] + [name + '.c' for name in sources])
run('make', '-s', cwd=tree + '/build')
""",
    "clone": """
while more():
    shutil.rmtree(tree + '/clone', ignore_errors=False) if rounds > 1 else None
    run('git', 'clone', '-q', '--no-hardlinks', aside + '/repo', 'clone')
    run('git', 'fsck', '--strict', cwd=tree + '/clone')
    assert run('git', 'status', '--porcelain', cwd=tree + '/clone') == b''
    put(tree + '/clone/new', b'new')
    run('git', 'add', '-A', cwd=tree + '/clone')
    run('git', '-c', 'user.name=a', '-c', 'user.email=b', 'commit', '-q', '-m', 'x', cwd=tree + '/clone')
    run('git', 'gc', '-q', cwd=tree + '/clone')
    run('git', 'checkout', '-q', 'HEAD~1', cwd=tree + '/clone')
    assert run('git', 'status', '--porcelain', cwd=tree + '/clone') == b''
""",
    "tar": """
while more():
    if rounds > 1:
        run('rm', '-rf', 'out')
        assert not os.path.lexists(tree + '/out')
    os.mkdir(tree + '/out')
    run('tar', 'xf', aside + '/base.tar', '-C', 'out')
    run('tar', 'df', aside + '/base.tar', '-C', 'out')
    run('diff', '-r', 'out/base', aside + '/source/base')
    os.rename(tree + '/out/base', tree + '/out/moved')
    run('diff', '-r', 'out/moved', aside + '/source/base')
""",
    "sqlite": """
db = sqlite3.connect(tree + '/db', timeout=60)
db.execute('pragma journal_mode=' + random.choice(['wal', 'delete']))
db.execute('create table t(n integer primary key, text)')
count = 0
while more():
    with db:
        for _ in range(random.randrange(1, 20)):
            count += 1
            db.execute('insert into t values (?, ?)', (count, 'x' * random.randrange(500)))
    assert db.execute('select count(*), max(n) from t').fetchone() == (count, count)
    if rounds % 10 == 0:
        assert db.execute('pragma integrity_check').fetchone() == ('ok',)
db.close()
""",
    "names": """
os.mkdir(tree + '/names')
base = tree + '/names/'
model = {}
held = []
log = []
held_at = {}
def check():
    found = {}
    for here, dirs, files in os.walk(base, onerror=stop):
        for name in files:
            path = os.path.join(here, name)
            found[os.path.relpath(path, base)] = get(path)
    wrong = [name for name in found.keys() | model if found.get(name) != model.get(name)]
    assert not wrong, [about(name, found.get(name), model.get(name)) for name in wrong]
def about(name, found, wanted):
    if found is None or wanted is None:
        return name[:20], found and len(found), wanted and len(wanted)
    differ = [n for n, (a, b) in enumerate(zip(found, wanted)) if a != b]
    same = [(other[:12], os.stat(base + other).st_ino) for other in model if model[other][1:] == wanted[1:]]
    return name[:20], len(found), len(wanted), len(differ), differ[:3], found[:4], os.stat(base + name), same, log[-12:]
dirs = ['d%d' % n for n in range(4)]
for name in dirs:
    os.mkdir(base + name)
number = 10
while more():
    what = random.choice(['new', 'new', 'write', 'unlink', 'rename', 'over', 'movedir', 'link', 'tmp', 'exchange', 'rmdir',
        'fail', 'chmod', 'symlink', 'mmap'])
    number += 1
    names = sorted(model)
    fresh = random.choice(dirs) + '/f%d' % number + 'x' * random.choice([0, 0, 60, 200])
    some = random.choice(names) if names else None
    log.append((number, what, some and some[:12]))
    if what == 'new':
        data = os.urandom(random.randrange(5000))
        fd = os.open(base + fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        os.write(fd, data)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640
        os.close(fd)
        model[fresh] = data
    elif what == 'tmp':
        fd = os.open(base + dirs[0], os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(fd, b'tmp%d' % number)
        if random.random() < .5:
            os.link('/proc/self/fd/%d' % fd, base + fresh, src_dir_fd=0, follow_symlinks=True)
            model[fresh] = b'tmp%d' % number
            os.close(fd)
        else:
            held.append((fd, b'tmp%d' % number))
    elif what == 'fail':
        for call, wanted, *names in (
            (os.mkdir, errno.EEXIST, dirs[0]), (os.unlink, errno.ENOENT, 'no'), (os.rename, errno.ENOENT, 'no', 'x'),
            (os.rmdir, errno.ENOENT, 'no'), (os.rmdir, errno.ENOTDIR if some else errno.ENOENT, some or 'no'),
        ):
            try:
                call(*[base + name for name in names])
            except OSError as error:
                assert error.errno == wanted, error
            else:
                assert False, wanted
    elif what == 'rmdir':
        os.mkdir(base + 'gone')
        fd = os.open(base + 'gone', os.O_RDONLY)
        os.rmdir(base + 'gone')
        assert os.listdir(fd) == [] and os.fstat(fd).st_nlink == 0
        os.close(fd)
    elif what == 'symlink':
        os.symlink('to%d' % number, base + 'link')
        assert os.readlink(base + 'link') == 'to%d' % number
        os.unlink(base + 'link')
    elif what == 'movedir':
        old = random.choice(dirs)
        new = 'd%d' % number
        os.rename(base + old, base + new)
        dirs[dirs.index(old)] = new
        model = {new + name[len(old):] if name.startswith(old + '/') else name: data for name, data in model.items()}
    elif some is None:
        continue
    elif what == 'write':
        with open(base + some, 'r+b') as file:
            ino = os.fstat(file.fileno()).st_ino
            file.truncate(0)
            data = os.urandom(random.randrange(20000))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            assert os.stat(base + some).st_ino == ino
        for name in names:
            if os.path.samefile(base + name, base + some):
                model[name] = data
    elif what == 'unlink':
        fd = os.open(base + some, os.O_RDWR)
        links = os.fstat(fd).st_nlink
        os.unlink(base + some)
        assert os.fstat(fd).st_nlink == links - 1, (links, os.fstat(fd).st_nlink)
        if links == 1:
            held.append((fd, model.pop(some)))
        else:
            del model[some]
            os.close(fd)
    elif what == 'rename':
        os.rename(base + some, base + fresh)
        model[fresh] = model.pop(some)
    elif what == 'over':
        other = random.choice(names)
        fd = os.open(base + other, os.O_RDONLY)
        same = os.path.samefile(base + some, base + other)
        only = os.fstat(fd).st_nlink == 1
        os.rename(base + some, base + other)
        if same:
            os.close(fd)
            continue
        data = model[other]
        model[other] = model.pop(some)
        if only:
            held.append((fd, data))
        else:
            os.close(fd)
    elif what == 'link':
        os.link(base + some, base + fresh)
        model[fresh] = model[some]
        assert os.path.samefile(base + some, base + fresh)
    elif what == 'exchange':
        other = random.choice(names)
        assert ctypes.CDLL(None).renameat2(-100, (base + some).encode(), -100, (base + other).encode(), 2) == 0
        model[some], model[other] = model[other], model[some]
    elif what == 'chmod':
        os.chmod(base + some, 0o600)
        os.utime(base + some, ns=(1, 10**18 + number))
        assert os.stat(base + some).st_mtime_ns == 10**18 + number
    elif what == 'mmap':
        with open(base + some, 'r+b') as file:
            if os.fstat(file.fileno()).st_size:
                with mmap.mmap(file.fileno(), 0) as area:
                    area[0] = number % 256
                    area.flush()
                data = bytes([number % 256]) + model[some][1:]
                for name in names:
                    if os.path.samefile(base + name, base + some):
                        model[name] = data
    for fd, data in held:
        held_at.setdefault(fd, (number, what, some))
        found = os.pread(fd, len(data) + 1, 0)
        assert found == data, (fd, os.fstat(fd), len(data), len(found), found[:9], data[:9], held_at[fd], log[-12:])
    while len(held) > 8:
        fd = held.pop(random.randrange(len(held)))[0]
        del held_at[fd]
        os.close(fd)
    if number % 50 == 0:
        check()
    if len(model) > 60:
        for name in names[:30]:
            os.unlink(base + name)
            del model[name]
for fd, _ in held:
    os.close(fd)
check()
""",
}


class Shown(Protocol):
    """Whatever has a tree."""

    path: Path


def server_of(tree: LiveTree) -> int:
    """Find the server that the supervisor has now, as `server_below` does."""
    return server_below(tree.server.pid)


def server_below(pid: int) -> int:
    """Find the server that a supervisor has now; wait for the next one where the last one has just died.

    Raises:
        ProcessLookupError: If the supervisor is gone: no server follows.
    """
    while True:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
            is_dead = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            children, is_dead = [], True
        if children:
            return int(children[0])
        if is_dead:
            raise ProcessLookupError(pid)
        time.sleep(0.001)


class Killer:
    """Kills the server of a tree again and again, in a thread.

    Attributes:
        kills: How often it did.
    """

    def __init__(self, supervisor: int, every_s: float) -> None:
        self.kills = 0
        self._supervisor = supervisor
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            with suppress(ProcessLookupError):  # where little gets done, the last one may be dying still
                os.kill(server_below(self._supervisor), signal.SIGKILL)
                self.kills += 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Kill for as long as the block takes."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()


def run_programs(tree: Shown, aside: Path, seconds: float, *names: str, seed: int = 1) -> None:
    """Run programs beside each other until each has been there for that long; all must succeed."""
    for name in names:
        (aside / f"{name}.py").write_text(_HEAD + PROGRAMS[name], "ascii")  # a file, so that a traceback shows lines
    running = {
        name: subprocess.Popen(
            [sys.executable, aside / f"{name}.py", tree.path, aside, str(seconds), str(seed)],
            cwd="/",
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for name in names
    }
    said = {name: process.communicate()[0].decode(errors="replace") for name, process in running.items()}
    failed = {name: said[name] for name, process in running.items() if process.returncode}

    assert not failed, "\n".join(f"--- {name}:\n{text}" for name, text in failed.items())


def prepare(aside: Path) -> Path:
    """Make what the programs need beside the tree; gives the directory that the tree is to begin with."""
    base = aside / "source" / "base"
    for number in range(40):
        directory = base / f"d{number}"
        directory.mkdir(parents=True)
        for index in range(10):
            (directory / f"f{index}").write_bytes(b"%d-%d " % (number, index) * (1 + 97 * index))
    (base / "big").write_bytes(bytes(range(256)) * 20_000)
    subprocess.run(["tar", "cf", aside / "base.tar", "-C", base.parent, "base"], check=True)
    subprocess.run(["sh", "-c", "md5sum $(find base -type f) | sed 's/  / /' > ../sums"], cwd=base.parent, check=True)
    repo = aside / "repo"
    identity = ["-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run(["cp", "-r", base, repo], check=True)
    for argv in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *argv], cwd=repo, check=True)
    return base.parent


def main(seconds: str, every: str, *names: str) -> None:
    """Run some programs for a while in a tree below the working directory, for people."""
    import tempfile

    from tests.support.live_tree import live_tree

    with tempfile.TemporaryDirectory(dir=".") as scratch:
        aside = Path(scratch).resolve()
        source = prepare(aside)
        with live_tree(aside, source, "supervised") as tree:
            killer = Killer(tree.server.pid, float(every))
            try:
                with killer.at_work():
                    run_programs(tree, aside, float(seconds), *(names or PROGRAMS), seed=int(time.time()))
            except AssertionError as error:
                tree.server.kill()
                raise SystemExit(f"{error}\n{tree.server.communicate()[1]}") from None
            time.sleep(0.2)
            print(f"{killer.kills} kills, requests of the last server: {tree.counts()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
