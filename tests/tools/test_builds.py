"""Incremental builds in a live tree: after another mount, in a fork and after a restore, only differences are built.

What a build tool goes by, times to the nanosecond, hard links, locks and renames, is the same as in a plain directory;
the scripts say which steps they take, and are compared with the same there.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from tests.support.workbench import Workbench
from tests.tools.conftest import Begin

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")]

_PARTS = 8
_MAKEFILE = f"""
OBJECTS := main.o $(patsubst %,part%.o,$(shell seq {_PARTS}))
OUT := $(addprefix build/,$(OBJECTS))
build/prog: $(OUT)
\t@echo link; gcc -o $@ $(OUT)
build/%.o: src/%.c | build
\t@echo compile $*; gcc -MMD -MP -c -o $@ $<
build:
\t@mkdir -p build
-include $(OUT:.o=.d)
"""


def _fill_c(place: Path) -> None:
    src = place / "src"
    src.mkdir()
    (place / "Makefile").write_text(_MAKEFILE)
    (place / ".gitignore").write_text("build/\n")
    (src / "even.h").write_text("#define EVEN 2\n")
    (src / "odd.h").write_text("#define ODD 1\n")
    calls = "".join(f"int part{number}(void);\n" for number in range(1, _PARTS + 1))
    total = "+".join(f"part{number}()" for number in range(1, _PARTS + 1))
    (src / "main.c").write_text(
        f'#include <stdio.h>\n{calls}int main(void) {{ printf("%d\\n", {total}); return 0; }}\n'
    )
    for number in range(1, _PARTS + 1):
        kind = "odd" if number % 2 else "even"
        (src / f"part{number}.c").write_text(
            f'#include "{kind}.h"\nint part{number}(void) {{ return {kind.upper()}; }}\n'
        )


_NOTHING = "make: 'build/prog' is up to date.\n12\n[0]\n"
_BUILD = "make -j2 | sort; build/prog"


def _is_built(bench: Workbench) -> None:
    assert bench.run("LC_ALL=C make; build/prog").replace("`", "'") == _NOTHING
    assert bench.run("make -q; echo $?") == "0\n[0]\n"


@pytest.mark.needs("compiler")
def test_make_builds_what_changed(begin: Begin) -> None:
    """An incremental C build does the same steps as in a plain directory, with dependencies that the compiler wrote."""
    bench = begin(_fill_c)
    said = bench.same(_BUILD, leaves_same=False)
    assert said.count("compile") == _PARTS + 1
    _is_built(bench)
    for change in (
        "sleep 0.02; touch src/part3.c",
        "sleep 0.02; echo '#define ODD 5' > src/odd.h",
        "sleep 0.02; sed -i s/EVEN/EVEN+1/ src/part2.c",
        "rm build/part1.o",
        "mv src/odd.h src/o.h; sleep 0.02; sed -i s/odd.h/o.h/ src/part[1357].c",
        "cp -p src/part4.c src/x.c; mv src/x.c src/part4.c",
        "rm -r build",
    ):
        bench.same(f"{change}; {_BUILD}; make -q; echo $?", leaves_same=False)


@pytest.mark.needs("compiler")
def test_make_stays_incremental(begin: Begin) -> None:
    """Nothing is built again after another mount, after a checkpoint, and in a fork.

    There, one changed file builds one.
    """
    bench = begin(_fill_c)
    bench.run(_BUILD)
    bench.remount()
    _is_built(bench)
    bench.work.checkpoint("built")
    _is_built(bench)
    bench.go_to_fork("next")
    _is_built(bench)
    assert bench.run(f"sed -i s/EVEN/EVEN+1/ src/part2.c; {_BUILD}") == "compile part2\nlink\n13\n[0]\n"
    bench.remount()
    assert bench.run("make -q; echo $?; build/prog") == "0\n13\n[0]\n"


@pytest.mark.needs("compiler")
def test_a_restore_is_built(begin: Begin) -> None:
    """What a restore of the mounted tree changes is newer than what was built of it: make builds that, and no more."""
    bench = begin(_fill_c)
    bench.run(_BUILD)
    bench.work.checkpoint("first")
    bench.run(f"sleep 0.02; echo '#define ODD 7' > src/odd.h; {_BUILD}")
    bench.work.checkpoint("second")
    # The sources of then, and what was built since: the ignored files of the present stay out of it.
    bench.work.restore("first", paths=["src"])
    said = bench.run(_BUILD)
    assert said == "".join(f"compile part{number}\n" for number in range(1, _PARTS + 1, 2)) + "link\n12\n[0]\n"
    bench.work.restore("second")
    assert bench.run("make >/dev/null; build/prog") == "36\n[0]\n"
    bench.work.restore("first")
    assert bench.run("make >/dev/null; build/prog") == "12\n[0]\n"


# --- a build in the manner of cargo ---------------------------------------------------------------------------

_CARGO_LIKE = r"""
import fcntl, hashlib, os, pathlib, sys
target = pathlib.Path("target")
for name in ("deps", ".fingerprint", "incremental"):
    (target / name).mkdir(parents=True, exist_ok=True)
lock = open(target / ".lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
for unit in sorted(pathlib.Path("src").rglob("*.rs")):
    key = hashlib.sha256(str(unit).encode()).hexdigest()[:16]
    fingerprint, out = target / ".fingerprint" / f"{unit.stem}-{key}", target / "deps" / f"{unit.stem}-{key}"
    invoked, link = fingerprint / "invoked.timestamp", target / unit.stem
    depends = [unit, *map(pathlib.Path, (fingerprint / "dep").read_text().split() if (fingerprint / "dep").exists() else [])]
    if invoked.exists() and link.exists() and link.samefile(out):
        if all(one.exists() and one.stat().st_mtime_ns <= invoked.stat().st_mtime_ns for one in depends):
            print("fresh", unit.stem)
            continue
    print("compile", unit.stem)
    fingerprint.mkdir(exist_ok=True)
    invoked.write_text("This file has an mtime of when this was started.")
    working = target / "incremental" / f"s-{key}-working"
    working.mkdir()
    text = unit.read_text()
    uses = [line.split()[1] for line in text.splitlines() if line.startswith("use ")]
    for part in range(3):
        (working / f"{part}.o").write_text(text + "".join(pathlib.Path(use).read_text() for use in uses))
    final = target / "incremental" / f"s-{key}"
    for old in final.glob("*"):
        old.unlink()
    os.rename(working, final)
    (fingerprint / "dep.tmp").write_text("\n".join(uses))
    os.replace(fingerprint / "dep.tmp", fingerprint / "dep")
    out.unlink(missing_ok=True)
    with open(out, "wb") as file:
        for part in sorted(final.glob("*.o")):
            os.sendfile(file.fileno(), os.open(part, os.O_RDONLY), 0, 1 << 20)
    out.chmod(0o755)
    link.unlink(missing_ok=True)
    os.link(out, link)
    os.utime(fingerprint / "dep", ns=(invoked.stat().st_atime_ns, invoked.stat().st_mtime_ns))
"""


def _fill_cargo_like(place: Path) -> None:
    (place / "build.py").write_text(_CARGO_LIKE)
    (place / ".gitignore").write_text("/target\n")
    (place / "src" / "more").mkdir(parents=True)
    (place / "shared.inc").write_text("shared\n")
    for name in ("main", "lib", "more/one", "more/two"):
        (place / "src" / f"{name}.rs").write_text(f"// {name}\n" + "use shared.inc\n" * (name != "lib"))


def test_a_cargo_like_build_stays_fresh(begin: Begin) -> None:
    """Time stamps to the nanosecond, hard links, file locks and directory renames carry over a mount, and into a fork.

    A checkpoint keeps two names of one file as two files: in a fork, the link is made again once.
    """
    bench = begin(_fill_cargo_like)
    build = "python3 build.py"
    assert bench.same(build).count("compile") == 4
    assert bench.same(build).count("fresh") == 4
    assert bench.same(f"sleep 0.02; echo more >> shared.inc; {build}").count("compile") == 3
    bench.same(f"sleep 0.02; touch src/lib.rs; rm target/main; {build}")
    bench.remount()
    assert bench.run(build).count("fresh") == 4
    bench.work.checkpoint("built")
    assert bench.run(build).count("fresh") == 4
    shutil.copy(bench.live / "build.py", bench.live / "by_time.py")
    bench.run("sed -i 's/ and link.samefile(out)//' by_time.py")
    bench.go_to_fork("next")
    assert bench.run("python3 by_time.py").count("fresh") == 4
    assert bench.run(f"sleep 0.02; touch src/more/one.rs; {build} | grep one") == "compile one\n[0]\n"


@pytest.mark.needs("cargo", "compiler")
def test_cargo_stays_fresh(begin: Begin, tmp_path: Path) -> None:
    """Cargo compiles once: its build is fresh after another mount, a checkpoint, and in a fork at the same place."""

    def fill(place: Path) -> None:
        (place / "helper" / "src").mkdir(parents=True)
        (place / "src").mkdir()
        (place / ".gitignore").write_text("/target\n")
        (place / "Cargo.toml").write_text(
            '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nhelper = { path = '
            '"helper" }\n'
        )
        (place / "helper" / "Cargo.toml").write_text(
            '[package]\nname = "helper"\nversion = "0.1.0"\nedition = "2021"\n'
        )
        (place / "helper" / "src" / "lib.rs").write_text("pub fn number() -> u32 { 41 }\n")
        (place / "src" / "main.rs").write_text('fn main() { println!("{}", helper::number() + 1); }\n')

    bench = begin(fill)
    # The tests have a home of their own, and a cargo that rustup installed looks for its compiler in the user's.
    toolchains = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".rustup"
    setting = f"export CARGO_HOME={tmp_path}/cargo" + (f" RUSTUP_HOME={toolchains}" if toolchains.exists() else "")
    build = (
        f"{setting}; cargo build -v --offline 2>&1 | grep -oE '^ +(Fresh|Dirty|Compiling) [a-z]+' | sort; "
        "target/debug/app"
    )
    fresh = "       Fresh app\n       Fresh helper\n42\n[0]\n"
    assert "Compiling app" in bench.same(build, leaves_same=False)
    assert bench.run(build) == fresh
    bench.remount()
    assert bench.run(build) == fresh
    bench.go_to_fork("next")
    assert bench.run(build) == fresh
    said = bench.run(f"echo 'pub fn more() {{}}' >> src/main.rs; {build}")
    assert "Fresh helper" in said
    assert "Compiling app" in said


# --- packages ------------------------------------------------------------------------------------------------

_BACKEND = """
import pathlib, zipfile
METADATA = "Metadata-Version: 2.1\\nName: local-pkg\\nVersion: 1.0\\n"
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "local_pkg-1.0-py3-none-any.whl"
    info = "local_pkg-1.0.dist-info/"
    files = {"local_pkg/__init__.py": pathlib.Path("local_pkg/__init__.py").read_text(),
             "local_pkg/data.txt": "data\\n" * 1000, info + "METADATA": METADATA,
             info + "WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
             info + "entry_points.txt": "[console_scripts]\\nlocal-tool = local_pkg:main\\n"}
    files[info + "RECORD"] = "".join(f"{one},,\\n" for one in [*files, info + "RECORD"])
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
def build_editable(directory, config_settings=None, metadata_directory=None):
    raise NotImplementedError
"""


def _fill_python(place: Path) -> None:
    package = place / "pkg"
    (package / "local_pkg").mkdir(parents=True)
    (package / "backend.py").write_text(_BACKEND)
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (package / "local_pkg" / "__init__.py").write_text("def main():\n    print('it works')\n")
    (place / ".gitignore").write_text("/venv\n")


@pytest.mark.needs("venv")
def test_pip_in_a_venv(begin: Begin) -> None:
    """A virtual environment made in the tree takes a package that pip builds there.

    Also after another mount, and in a fork.
    """
    bench = begin(_fill_python)
    # Only here, because making such an environment takes seconds anywhere.
    said = bench.run("""
        python3 -m venv venv && venv/bin/pip install -q ./pkg && venv/bin/local-tool
        venv/bin/pip list --format=freeze | grep local
    """)
    assert said == "it works\nlocal-pkg==1.0\n[0]\n"
    works = "venv/bin/local-tool; venv/bin/python -c 'import local_pkg, sys; print(local_pkg.__file__, sys.prefix)'"
    expected = bench.run(works)
    assert "TREE/venv/lib" in expected
    bench.remount()
    assert bench.run(works) == expected
    bench.go_to_fork("next")
    assert bench.run(works) == expected
    assert (
        bench.run(
            "venv/bin/pip uninstall -qy local-pkg; venv/bin/local-tool; ls venv/bin | grep local", check=False
        ).count("local-tool")
        == 1
    )
    assert bench.run("venv/bin/pip install -q ./pkg; venv/bin/local-tool") == "it works\n[0]\n"


def _fill_npm(place: Path) -> None:
    for name, more in (("tool", ', "bin": {"the-tool": "cli.js"}'), ("linked", ', "bin": "run.js"')):
        (place / "packages" / name).mkdir(parents=True)
        (place / "packages" / name / "package.json").write_text(
            f'{{"name": "{name}", "version": "1.0.0"{more}, "main": "index.js"}}\n'
        )
        (place / "packages" / name / "index.js").write_text(f"module.exports = '{name}';\n")
    (place / "packages" / "tool" / "cli.js").write_text(
        "#!/usr/bin/env node\nconsole.log(require('./index.js'), 'ran');\n"
    )
    (place / "packages" / "linked" / "run.js").write_text("#!/usr/bin/env node\nconsole.log('linked ran');\n")
    (place / ".gitignore").write_text("node_modules/\n")
    (place / "package.json").write_text(
        '{"name": "app", "version": "1.0.0", "private": true, "dependencies": {"linked": "file:packages/linked"}}\n'
    )


@pytest.mark.needs("npm")
def test_npm_install(begin: Begin) -> None:
    """Npm unpacks a local tarball, links a local package and their commands.

    It works after another mount, and in a fork.
    """
    bench = begin(_fill_npm)
    script = """
        (cd packages/tool && npm pack --silent --pack-destination ../..); npm install --silent ./tool-1.0.0.tgz; npm ls --all
        node_modules/.bin/the-tool; node_modules/.bin/linked; readlink node_modules/linked node_modules/.bin/*
        node -p "require('tool') + require('linked')"
    """
    said = bench.same(script, leaves_same=False)
    assert "tool ran\nlinked ran\n../packages/linked\n" in said
    files = r"find node_modules -printf '%P %y %m %l\n' | sort; cat package.json package-lock.json"
    bench.same(files, leaves_same=False)
    works = (
        "node_modules/.bin/the-tool; node_modules/.bin/linked; node -p \"require('tool') + require('linked')\"; "
        "npm ls --all"
    )
    expected = bench.run(works)
    bench.remount()
    assert bench.run(works) == expected
    bench.go_to_fork("next")
    assert bench.run(works) == expected
    bench.same("npm uninstall --silent tool; find node_modules | sort; cat package.json", leaves_same=False)
