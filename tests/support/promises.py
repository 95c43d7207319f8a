"""What programs may rely on in a workspace that is shown as a directory: scripts and programs to be run in one.

Decided here: what is promised, whoever shows it. A script prints the same as in a plain directory and leaves the same
behind; a program checks for itself. Both begin with what `make_source` makes.
"""

from __future__ import annotations

import os
from pathlib import Path


def make_source(directory: Path) -> Path:
    """Fill a directory with some of everything that a base can hold."""
    base = os.fsencode(directory)
    directory.mkdir()
    for path in (b"src", b"src/deep", b"doc", b"empty", b"\xff\xfe dir"):
        os.mkdir(base + b"/" + path)
    for path, data in {
        b"README": b"one\ntwo\nthree\n",
        b"src/a.c": b"int a(void) { return 1; }\n",
        b"src/main.c": b"int a(void);\nint main(void) { return a() - 1; }\n",
        b"src/deep/big": bytes(range(256)) * 12_000,
        b"src/deep/middle": b"0123456789" * 20_000,
        b"doc/" + b"n" * 255: b"a long name\n",
        b"\xff\xfe dir/\x80 file": b"not UTF-8\n",
        b".gitignore": b"*.o\n",
        b"src/old.o": b"ignored\n",
        b"Makefile": b"prog: src/a.o src/main.o\n\tcat src/a.o src/main.o > prog\n%.o: %.c\n\tcp $< $@\n",
    }.items():
        with open(base + b"/" + path, "wb") as file:
            file.write(data)
    os.chmod(base + b"/src/main.c", 0o755)
    os.symlink("../src/a.c", base + b"/doc/link")
    os.symlink("nowhere", base + b"/dangling")
    return directory


SCRIPTS = {
    "git": """
        export GIT_AUTHOR_DATE=2026-01-01T00:00:00Z GIT_COMMITTER_DATE=2026-01-01T00:00:00Z
        mkdir repo; cd repo; git init -q -b main .; cp -r ../src ../README ../.gitignore .
        git add -A; git commit -q -m one; git status --porcelain
        sed -i s/two/TWO/ README; git status --porcelain; git commit -q -a -m two
        git checkout -q -b side HEAD~1; echo four >> README; git mv src/a.c src/b.c; git commit -q -a -m side
        git stash list; git checkout -q main; git merge -q side -m merged; git log --format=%s --stat
        git clean -fdxn; git gc -q; git fsck --strict; git worktree add -q ../other side; git -C ../other status --porcelain
        git rebase -q side; git reset -q --hard HEAD~1; cat README; git clone -q . ../clone; git -C ../clone log --format=%s
        rm -rf ../clone ../other ../repo
    """,
    "edit": """
        sed -i s/two/TWO/ README; cat README; printf end >> src/a.c; cat src/a.c; : > src/main.c; wc -c src/main.c
        cp README copy; mv copy README; echo new > x; mv x doc/y; cat doc/y; truncate -s 5 doc/y; cat doc/y
        cp -a src src2; diff -r src src2; mv src2 src3; ls src3 src3/deep; ln -sfn src3 l; ls l; ln -sfn doc l; ls l | wc -l
    """,
    "make": """
        make -s; make -q prog; echo $?; touch -d '2 hours ago' Makefile prog src/*.[co]; make -q prog; echo $?
        touch src/a.c; make -q prog; echo $?; make -s; cat prog
        rm src/old.o; make -s; mv src lib; mkdir src; mv lib/* src; rmdir lib; make -q prog; echo $?
    """,
    "tar": """
        tar cf all.tar src doc README; mkdir out; tar xf all.tar -C out; diff -r src out/src; tar tvf all.tar | cut -c1-10 | sort
        tar xf all.tar; tar df all.tar; rm -rf out all.tar; ls
    """,
    "remove": """
        find . -name '*.c' -delete; find . -type f | sort; rm -rf src; ls; mkdir src; ls -la src | wc -l; touch src/a.c
        cat src/a.c; rm -r doc; mkdir -p doc/a/b/c; rmdir doc/a/b/c; ls -R doc; rm -rf * ; ls -A
    """,
    "links": """
        ln README hard; echo more >> hard; cat README; stat -c %h README hard; rm README; stat -c %h hard; cat hard
        ln -s hard soft; cat soft; readlink soft dangling doc/link; ln src/deep/big src/bigger; stat -c %h src/deep/big
        mv hard src/deep/hard; ls src/deep; cat soft; ln src/deep/hard again; mv -n again README; cat README
    """,
    "modes": """
        chmod 600 README; chmod 700 src; chmod u+s src/main.c; stat -c %A README src src/main.c
        umask 077; touch private; mkdir dir
        stat -c %A private dir; install -m 755 README tool; stat -c %A tool; touch -d @1000000000.123456789 README src
        stat -c '%.9Y' README src; mkfifo fifo; stat -c %F fifo; rm fifo; test -e fifo; echo $?
    """,
    "sqlite": """
        sqlite3 db 'pragma journal_mode=wal; create table t(a); insert into t values (1); insert into t select a+1 from t;'
        sqlite3 db 'begin; insert into t values (9); rollback; select count(*), sum(a) from t; pragma integrity_check;'
        sqlite3 db 'pragma journal_mode=delete; vacuum;'; ls db*; rm db
    """,
    "names": r"""
        n=$(printf 'z%.0s' $(seq 255)); echo a > "$n"; cat "$n"; touch "x$n" 2>/dev/null; echo $?; rm "$n"
        touch "$(printf 'new\nline')" "$(printf '\377')" ' ' '-' 'a b' '*' '"'; ls -b; rm -- *; ls -A
        mkdir -p $(seq -s / 1 60); find 1 | tail -1; mv 1 one; find one -type d | wc -l; rm -r one
    """,
    "vim": """
        command -v vim >/dev/null || exit 0
        vim -u NONE -es -c '%s/two/2/' -c wq README </dev/null; cat README; ls -A | grep -c sw
    """,
}

PROGRAMS = {
    "unlinked but open": """
        fd = os.open(tree + '/README', os.O_RDWR); os.unlink(tree + '/README')
        assert os.read(fd, 3) == b'one' and os.fstat(fd).st_nlink == 0
        os.pwrite(fd, b'ONE', 0); os.ftruncate(fd, 5); assert os.pread(fd, 99, 0) == b'ONE\\nt'
        new = os.open(tree + '/README', os.O_CREAT | os.O_EXCL | os.O_RDWR); os.write(new, b'other')
        assert os.pread(fd, 99, 0) == b'ONE\\nt'; os.fchmod(fd, 0o600); assert os.fstat(fd).st_mode & 0o777 == 0o600
    """,
    "closed while open": """
        made = os.open(tree + '/made', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o444); os.write(made, b'by its maker')
        old = os.open(tree + '/README', os.O_RDWR); os.fchmod(old, 0)
        both = os.open(tree + '/src/a.c', os.O_RDWR); os.chmod(tree + '/src/a.c', 0o200)
        before = os.pread(both, 99, 0)
        for n in range(1500):  # so that a server has other files open meanwhile
            with open(tree + '/empty/f%d' % n, 'wb') as f: f.write(b'x')
        assert os.pread(old, 3, 0) == b'one' and os.pread(both, 99, 0) == before
        os.pwrite(made, b'BY', 0); os.pwrite(old, b'ONE', 0); os.ftruncate(old, 3); os.posix_fallocate(made, 0, 20)
        copied = os.open(tree + '/copied', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o400)
        assert os.copy_file_range(made, copied, 12, 0, 0) == 12 and os.pread(copied, 99, 0) == b'BY its maker'
        os.fsync(made); assert os.lseek(made, 0, os.SEEK_HOLE) == 20 and os.pread(old, 99, 0) == b'ONE'
        found = [stat.S_IMODE(os.stat(tree + name).st_mode) for name in ('/made', '/copied', '/README', '/src/a.c')]
        assert found == [0o444, 0o400, 0, 0o200]
    """,
    "renamed over while open": """
        old = os.open(tree + '/src/a.c', os.O_RDONLY); before = os.pread(old, 99, 0)
        with open(tree + '/tmp', 'wb') as f: f.write(b'new')
        ino = os.stat(tree + '/tmp').st_ino
        os.rename(tree + '/tmp', tree + '/src/a.c')
        assert os.pread(old, 99, 0) == before and os.stat(tree + '/src/a.c').st_ino == ino
        assert open(tree + '/src/a.c', 'rb').read() == b'new' and os.fstat(old).st_nlink == 0
    """,
    "removed directory in use": """
        os.chdir(tree + '/empty'); os.rmdir(tree + '/empty')
        assert os.listdir('.') == []
        try: open('x', 'w')
        except FileNotFoundError: pass
        else: raise AssertionError
    """,
    "shared mapping": """
        with open(tree + '/map', 'wb') as f: f.truncate(1 << 20)
        with open(tree + '/map', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
            m[4000:4200] = b'x' * 200; m[-1:] = b'!'; m.flush()
            assert os.pread(f.fileno(), 1, 4100) == b'x'
            os.pwrite(f.fileno(), b'y', 4100); assert m[4100:4101] == b'y'
        data = open(tree + '/map', 'rb').read()
        assert len(data) == 1 << 20 and data[4000:4100] == b'x' * 100 and data[-1:] == b'!'
    """,
    "mapping of an unlinked file": """
        with open(tree + '/src/deep/big', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
            os.unlink(tree + '/src/deep/big')
            assert m[256:512] == bytes(range(256)); m[0:4] = b'mine'; m.flush()
            assert os.pread(f.fileno(), 4, 0) == b'mine'
    """,
    "file without a name": """
        fd = os.open(tree + '/doc', os.O_TMPFILE | os.O_RDWR, 0o640); os.write(fd, b'hidden')
        assert os.fstat(fd).st_nlink == 0
        os.link('/proc/self/fd/%d' % fd, 'shown', dst_dir_fd=os.open(tree + '/doc', os.O_RDONLY))
        assert os.fstat(fd).st_nlink == 1 and os.stat(tree + '/doc/shown').st_mode & 0o777 == 0o640
        os.write(fd, b'!'); assert open(tree + '/doc/shown', 'rb').read() == b'hidden!'
        gone = os.open(tree, os.O_TMPFILE | os.O_RDWR); os.close(gone)
    """,
    "holes": """
        fd = os.open(tree + '/sparse', os.O_CREAT | os.O_RDWR); os.pwrite(fd, b'end', 1 << 20)
        os.fsync(fd)
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0 and 0 < os.lseek(fd, 0, os.SEEK_DATA) <= 1 << 20
        assert os.fstat(fd).st_blocks * 512 < 1 << 19
        os.posix_fallocate(fd, 0, 2 << 20); assert os.fstat(fd).st_size == 2 << 20
        low = os.open(tree + '/src/deep/middle', os.O_RDONLY)
        assert os.lseek(low, 5, os.SEEK_DATA) == 5 and os.lseek(low, 5, os.SEEK_HOLE) == 200000
        for where, offset in ((low, 200000), (low, -1), (fd, 2 << 20), (fd, -1), (fd, -(1 << 63))):
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                try: os.lseek(where, offset, whence)
                except OSError as e: assert e.errno == errno.ENXIO, (offset, whence, e)
                else: raise AssertionError((offset, whence))
    """,
    "copied ranges": """
        low = os.open(tree + '/src/deep/big', os.O_RDONLY); fd = os.open(tree + '/copy', os.O_CREAT | os.O_RDWR)
        done = 0
        while done < 3072000: done += os.copy_file_range(low, fd, 3072000 - done, done, done)
        assert os.pread(fd, 3072001, 0) == bytes(range(256)) * 12000
        own = os.open(tree + '/src/deep/middle', os.O_RDWR); assert os.copy_file_range(own, own, 5, 3, 199995) == 5
        assert os.pread(own, 9, 199994) == b'434567'
    """,
    "rename flags": """
        call = ctypes.CDLL(None, use_errno=True).renameat2
        def rename(a, b, flags):
            return ctypes.get_errno() if call(-100, (tree + a).encode(), -100, (tree + b).encode(), flags) else 0
        assert rename('/README', '/Makefile', 1) == errno.EEXIST and rename('/README', '/R2', 1) == 0
        assert rename('/R2', '/src', 2) == 0 and os.path.isdir(tree + '/R2') and os.path.isfile(tree + '/src')
        assert sorted(os.listdir(tree + '/R2')) == ['a.c', 'deep', 'main.c', 'old.o'] and rename('/R2', '/x', 2) == errno.ENOENT
        assert rename('/R2', '/R2/deep/x', 0) == errno.EINVAL and rename('/R2', '/doc', 0) == errno.ENOTEMPTY
    """,
    "locks": """
        a = os.open(tree + '/README', os.O_RDWR); b = os.open(tree + '/README', os.O_RDWR)
        fcntl.flock(a, fcntl.LOCK_EX)
        try: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError: pass
        else: raise AssertionError
        fcntl.flock(a, fcntl.LOCK_UN); fcntl.lockf(a, fcntl.LOCK_EX, 10)
        pid = os.fork()
        if not pid:
            try: fcntl.lockf(b, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)
            except BlockingIOError: os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    """,
    "extended attributes": """
        p = tree + '/README'
        assert os.listxattr(p) == []; os.setxattr(p, 'user.a', b'1'); os.setxattr(p, 'user.b', b'x' * 1000)
        assert sorted(os.listxattr(p)) == ['user.a', 'user.b'] and os.getxattr(p, 'user.b') == b'x' * 1000
        try: os.setxattr(p, 'user.a', b'2', os.XATTR_CREATE)
        except FileExistsError: pass
        else: raise AssertionError
        os.removexattr(p, 'user.a')
        try: os.getxattr(p, 'user.a')
        except OSError as e: assert e.errno == errno.ENODATA
        else: raise AssertionError
        os.setxattr(tree + '/src', 'user.overlay.opaque', b'y'); assert os.getxattr(tree + '/src', 'user.overlay.opaque') == b'y'
        assert len(os.listdir(tree + '/src')) == 4
    """,
    "attributes stay put": """
        p = tree + '/src/main.c'; before = os.stat(p); above = os.stat(tree + '/src')
        fd = os.open(p, os.O_RDWR); os.fchmod(fd, 0o700)
        after = os.stat(p)
        assert (before.st_ino, before.st_mtime_ns, before.st_size) == (after.st_ino, after.st_mtime_ns, after.st_size)
        assert os.stat(tree + '/src').st_mtime_ns == above.st_mtime_ns
        os.rename(p, tree + '/moved'); assert os.stat(tree + '/moved').st_ino == before.st_ino
        os.write(fd, b'x'); assert os.stat(tree + '/moved').st_mtime_ns > before.st_mtime_ns
        os.rename(tree + '/src', tree + '/lib'); assert os.stat(tree + '/lib').st_ino == above.st_ino
        os.utime(tree + '/moved', ns=(5, -1_500_000_000)); assert os.stat(tree + '/moved').st_mtime_ns == -1_500_000_000
    """,
    "appending side by side": """
        pids = []
        for who in b'abcd':
            pid = os.fork()
            if not pid:
                fd = os.open(tree + '/log', os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                for _ in range(200): os.write(fd, bytes([who]) * 37 + b'\\n')
                os._exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
        lines = open(tree + '/log', 'rb').read().splitlines()
        assert len(lines) == 800 and all(len(set(line)) == 1 and len(line) == 37 for line in lines)
    """,
    "making and removing side by side": """
        pids = []
        for who in range(4):
            pid = os.fork()
            if not pid:
                for n in range(150):
                    d = tree + '/both'; os.makedirs(d, exist_ok=True)
                    with open(f'{d}/{who}-{n}', 'w') as f: f.write(str(n))
                    os.rename(f'{d}/{who}-{n}', f'{d}/{who}')
                    if n % 3 == 0: os.unlink(f'{d}/{who}')
                    assert f'{who}' in os.listdir(d) or n % 3 == 0
                os._exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
        assert sorted(os.listdir(tree + '/both')) == ['0', '1', '2', '3']
        assert [open(f'{tree}/both/{n}').read() for n in range(4)] == ['149'] * 4
    """,
    "removing what is being listed": """
        os.mkdir(tree + '/many')
        for n in range(3000): os.close(os.open(f'{tree}/many/{n}', os.O_CREAT | os.O_WRONLY))
        assert sorted(map(int, os.listdir(tree + '/many'))) == list(range(3000))
        seen = 0
        with os.scandir(tree + '/many') as it:
            for e in it: os.unlink(e.path); seen += 1
        assert seen == 3000; os.rmdir(tree + '/many')
    """,
    "random changes of one file": """
        for seed in range(2):
            draw = random.Random(seed); name = f'{tree}/src/deep/middle' if seed % 2 else tree + "/fsx"; model = bytearray()
            if seed % 2: model[:] = b'0123456789' * 20000
            fd = os.open(name, os.O_RDWR | os.O_CREAT)
            for _ in range(600):
                what = draw.randrange(9); at = draw.randrange(300000); size = draw.randrange(1, 70000)
                if what <= 2:
                    data = draw.randbytes(size); os.pwrite(fd, data, at)
                    if len(model) < at: model.extend(bytes(at - len(model)))
                    model[at:at + size] = data
                elif what == 3:
                    os.ftruncate(fd, at)
                    if len(model) < at: model.extend(bytes(at - len(model)))
                    del model[at:]
                elif what == 4 and at < len(model):
                    with mmap.mmap(fd, 0) as m:
                        size = min(size, len(model) - at); data = draw.randbytes(size); m[at:at + size] = data
                    model[at:at + size] = data
                elif what == 5 and model:
                    into = draw.randrange(300000); source = bytes(model[at:at + size])
                    if abs(into - at) > size and source:
                        done = 0
                        while done < len(source):
                            done += os.copy_file_range(fd, fd, len(source) - done, at + done, into + done)
                        if len(model) < into: model.extend(bytes(into - len(model)))
                        model[into:into + len(source)] = source
                elif what == 6:
                    os.close(fd); fd = os.open(name, os.O_RDWR)
                elif what == 7: os.fsync(fd)
                assert os.pread(fd, size, at) == model[at:at + size] and os.fstat(fd).st_size == len(model), (seed, what)
            assert os.pread(fd, 1 << 20, 0) == model; os.close(fd)
            with open(name, 'rb') as f: assert f.read() == model
    """,
    "sizes of the disk": """
        here, there = os.statvfs(tree), os.statvfs(os.path.dirname(tree))
        assert (here.f_blocks, here.f_frsize, here.f_files) == (there.f_blocks, there.f_frsize, there.f_files)
        assert here.f_namemax == 255
    """,
    "errors": """
        def number(call, *args):
            try: call(*args)
            except OSError as e: return errno.errorcode[e.errno]
        assert number(os.rmdir, tree + '/src') == 'ENOTEMPTY' and number(os.unlink, tree + '/src') == 'EISDIR'
        assert number(os.mkdir, tree + '/src') == 'EEXIST' and number(os.listdir, tree + '/README') == 'ENOTDIR'
        assert number(os.stat, tree + '/' + 'n' * 256) == 'ENAMETOOLONG' and number(os.stat, tree + '/x/y') == 'ENOENT'
        assert number(os.link, tree + '/src', tree + '/y') in ('EPERM',) and number(os.readlink, tree + '/README') == 'EINVAL'
        assert number(os.rename, tree + '/src', tree + '/README') == 'ENOTDIR'
    """,
}  # fmt: skip
