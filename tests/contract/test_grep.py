"""Searching files: `Workspace.grep` and `Vault.grep` find what grep(1) finds in a plain copy of the files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git import Home, Vault, Workspace
from avfs_git.errors import CheckpointNotFound, ForkNotFound, InvalidInput, NothingToUndo, PathNotFound
from avfs_git.host.locks.flocks import directory_held
from avfs_git.host.processes.processes import list_family
from avfs_git.model import GrepOutcome, GrepResult
from tests.support.waiting import wait_for

Matches = list[tuple[str, int, bytes]]


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with files that are committed, changed, new, removed and ignored."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write(".gitignore", b"*.log\n")
        work.write("a", b"one\ntwo needle\nthree\nfour\nneedle needles\nsix")
        work.write("src/b.py", b"Needle\n")
        work.write("src/deep/c.txt", b"a needle\n")
        work.write("gone", b"needle\n")
        work.checkpoint("first")
        work.remove("gone")
        work.write("src/b.py", b"new needle\r\n\xe4\xf6 needle\n")
        work.write("src/new.py", b"needle(\n")
        work.write("bin", b"\0needle\n")
        work.write("x.log", b"needle in a log\n")
        work.write("node/dir/y.log", b"needle in another\n")
        yield vault


def lines(result: GrepResult) -> Matches:
    """Give path, number and text of each line."""
    return [(os.fsdecode(file.path), line.number, line.text) for file in result.files for line in file.lines]


def names(result: GrepResult) -> list[str]:
    """Give the paths of the files."""
    return [os.fsdecode(file.path) for file in result.files]


def test_the_workspace_is_searched_as_it_is(work: Workspace) -> None:
    """What is not committed counts, and what is ignored only when it is asked for."""
    found = work.grep("needle")

    assert (found.fork, found.state) == (work.fork, "workspace")
    assert names(found) == ["a", "bin", "src/b.py", "src/deep/c.txt", "src/new.py"]
    assert [file.binary for file in found.files] == [False, True, False, False, False]
    assert lines(found)[:3] == [("a", 2, b"two needle"), ("a", 5, b"needle needles"), ("src/b.py", 1, b"new needle\r")]
    assert {"x.log", "node/dir/y.log"} == {*names(work.grep("needle", ignored=True))} - {*names(found)}
    assert work.grep("nothing like it").files == ()
    assert names(work.grep("needle", ["src"])) == names(work.grep("needle", ["/src/"])) == names(found)[2:]


def test_a_checkpoint_and_all_forks_are_searched(vault: Vault, work: Workspace) -> None:
    """A state is named as anywhere else; several forks give a result each."""
    past = work.grep("needle", at="first")
    assert names(past) == ["a", "gone", "src/deep/c.txt"]
    assert past.state == work.list_checkpoints()[0].id

    vault.fork("other").write("only/there", b"needle\n")
    both = vault.grep("needle", ["only"])
    assert [(result.fork, names(result)) for result in both] == [("other", ["only/there"])]
    assert len(vault.grep("needle")) == 2
    assert [result.fork for result in vault.grep("needle", forks=["main"])] == ["main"]
    with pytest.raises(PathNotFound):
        vault.grep("needle", ["nowhere"])


@pytest.mark.parametrize("outcome", list(GrepOutcome))
def test_forks_are_searched_as_each_alone(vault: Vault, work: Workspace, outcome: GrepOutcome) -> None:
    """What they have in common is searched once: changed, new and removed files, and a file in place of a directory."""
    other = vault.fork("other", source=work.fork)
    other.write("a", b"no longer\n")
    other.write("src/new needle", b"a needle\n")
    other.remove("src/deep", recursive=True)
    other.write("src/deep", b"needle needle\n")
    for options in ({}, {"max_count": 1, "spans": True}, {"include": ("*.py",)}, {"ignored": True}):
        together = vault.grep("needle", outcome=outcome, **options)
        assert [result.fork for result in together] == ["main", "other"]
        assert together == [
            vault.workspace(result.fork).grep("needle", outcome=outcome, **options) for result in together
        ]
    assert vault.grep("needle", ["src"]) == [
        vault.workspace(fork).grep("needle", ["src"]) for fork in ("main", "other")
    ]


@pytest.mark.parametrize(
    "options", [{}, {"after": 1}, {"ignored": True}, {"outcome": "files_without"}, {"invert": True}]
)
def test_many_forks_are_searched_as_each_alone(vault: Vault, work: Workspace, options: dict[str, object]) -> None:
    """Each has another content at one path, some the same, one a directory in its place and one a repository inside."""
    for number in range(5):
        vault.fork(f"fork{number}", source=work.fork).write("a", f"needle {number // 2}\nsix".encode())
    vault.workspace("fork1").checkpoint()
    vault.workspace("fork3").write("src/deep/c.txt", b"\0needle\n")
    vault.workspace("fork4").remove("a")
    vault.workspace("fork4").write("a/needle", b"a needle\n")
    vault.workspace("fork4").write("inside/.git/config", b"needle\n")
    forks = [info.name for info in vault.list_forks()]
    for paths in ([], ["a"], ["src"]):
        assert vault.grep("needle", paths, **options) == [  # type: ignore[arg-type]  # the table's are of all types
            vault.workspace(fork).grep("needle", paths, **options)  # type: ignore[arg-type]
            for fork in forks
        ]


def test_a_binary_file_is_found_first_with_context_too(work: Workspace) -> None:
    """Where git searches with several threads, it leaves that one out."""
    assert [(file.path, file.binary) for file in work.grep("needle", ["bin"], before=1).files] == [(b"bin", True)]


def test_a_fork_is_searched_once_and_may_go_meanwhile(
    vault: Vault, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named twice, it gives one result; deleted since all were listed, none. One that was named is missed."""
    vault.fork("other", source=work.fork)
    (once,) = vault.grep("needle", forks=["other"])
    assert vault.grep("needle", forks=["other", "other"]) == [once]

    forks = vault.list_forks()
    vault.delete_fork("other")
    monkeypatch.setattr(vault, "list_forks", lambda: forks)
    assert (
        [result.fork for result in vault.grep("needle")] == [result.fork for result in vault.find("a")] == [work.fork]
    )
    with pytest.raises(ForkNotFound):
        vault.grep("needle", forks=["other"])


def test_a_carriage_return_is_part_of_a_pattern(vault: Vault, work: Workspace) -> None:
    """Also the last character, where git takes it for an end of line."""
    work.write("dos", b"a needle\r\n")
    vault.fork("other", source=work.fork)

    assert [names(work.grep(pattern)) for pattern in ("\r", "needle\r", "a needle\r")] == [["dos", "src/b.py"]] * 2 + [
        ["dos"]
    ]
    assert {tuple(names(result)) for result in vault.grep("x y z\r\na needle\r")} == {("dos",)}


def test_options_are_those_of_grep(work: Workspace) -> None:
    """Each option changes what is found as it does for grep."""
    assert "src/deep/c.txt" in names(work.grep("NEEDLE", ignore_case=True))
    assert lines(work.grep("needles?", ["a"], only_matching=True)) == [
        ("a", 2, b"needle"),
        ("a", 5, b"needle"),
        ("a", 5, b"needles"),
    ]
    assert [number for _, number, _ in lines(work.grep("needle", ["a"], invert=True))] == [1, 3, 4, 6]
    assert names(work.grep("needles", words=True)) == ["a"]
    assert names(work.grep("needl", words=True)) == []
    assert names(work.grep("needle(", fixed=True)) == ["src/new.py"]
    assert names(work.grep(r"needle\(\Z", perl=True)) == ["src/new.py"]
    context = work.grep("two", ["a"], before=1, after=2).files[0]
    assert [(line.number, line.column) for line in context.lines] == [(1, None), (2, 1), (3, None), (4, None)]
    assert [line.number for line in work.grep("needle", ["a"], max_count=1, after=1).files[0].lines] == [2, 3]
    assert [(file.path, file.count) for file in work.grep("needle", ["a"], outcome="count").files] == [(b"a", 2)]
    assert work.grep("needle", ["a"], outcome="count", max_count=1).files[0].count == 1
    assert names(work.grep("needle", outcome=GrepOutcome.FILES_WITHOUT)) == [".gitignore"]
    assert names(work.grep("needle", outcome="files")) == names(work.grep("needle"))
    assert names(work.grep("needle\nthree", ["a", "bin"], outcome="files")) == ["a", "bin"]


def test_globs_choose_files_and_directories(work: Workspace) -> None:
    """A glob without a slash is about names at any depth, one with a slash about whole paths."""
    assert names(work.grep("needle", include=["*.py"])) == ["src/b.py", "src/new.py"]
    assert names(work.grep("needle", ["src/deep"], include=["*.py", "*.txt"])) == ["src/deep/c.txt"]
    assert names(work.grep("needle", include=["src/*.py"], exclude=["b.*"])) == ["src/new.py"]
    assert names(work.grep("needle", exclude=["src"])) == ["a", "bin"]
    assert names(work.grep("needle", exclude=["deep", "bin"])) == ["a", "src/b.py", "src/new.py"]
    work.write("[x]/:(top)a", b"needle\n")
    assert (
        names(work.grep("needle", ["[x]"], include=["*a"]))
        == names(work.grep("needle", ["[x]/:(top)a"]))
        == ["[x]/:(top)a"]
    )


_GLOBBED = (
    *(
        "a.py",
        "src/a.py",
        "src/B.PY",
        "src/lib/c.py",
        "lib.py/x",
        "lib/src/y.txt",
        "lib/src.py",
        "[x].py",
        "d/[x].py",
        "x.py",
    ),
    *(
        "back\\slash",
        "q/back\\slash",
        "!bang",
        "q/!bang",
        ":colon",
        "q/:colon",
        ":(glob)x",
        "é.py",
        "q/é.py",
        "-dash",
        "a b",
    ),
    *(
        "star*",
        "q/star*",
        "a\nb",
        "#h",
        "{a}",
        "x]",
        "q/x]",
        "x-y",
        "xay",
        "z",
        "q/z",
        ".hid",
        "q/.hid.py",
        "ab",
        "q/AB",
    ),
)


def test_globs_of_names_mean_what_they_mean_to_grep(tmp_path: Path) -> None:
    """Whatever stands in them, at every depth, and the same to `find`; `exclude` leaves directories out as well."""
    with Home(tmp_path / "home") as home:
        work = home.create_vault("v").workspace()
        for name in _GLOBBED:
            work.write(name.encode(), b"needle\n")
        work.export_path("/", tmp_path / "plain")
        for glob in (
            *(
                "*.py",
                "a.py",
                "src",
                "lib",
                "*.PY",
                "lib.py",
                "[x].py",
                "[[]x].py",
                "\\[x\\].py",
                "?.py",
                "[!a].py",
                "[^a].py",
            ),
            *(
                "[a-c].py",
                "[[:upper:]]*",
                "[[:digit:][:punct:]]*",
                "!bang",
                "!*",
                ":colon",
                ":*",
                ":(glob)x",
                ":(top,icase)Z",
            ),
            *(
                "back\\slash",
                "back\\\\slash",
                "back*",
                "star\\*",
                "star[*]",
                "star*",
                "a?b",
                "-dash",
                "#h",
                "{a}",
                "{a,z}",
            ),
            *(
                "x]",
                "x[]]",
                "[]x]*",
                "x[a-]y",
                "x[-a]y",
                "x[!a]y",
                "[z-a]",
                "[é].py",
                "*",
                "**",
                "*b",
                "a**b",
                "[a-z]?",
                "nothing",
            ),
        ):
            chosen = scan_names(tmp_path / "plain", f"--include={glob}")
            assert {*names(work.grep("needle", include=[glob]))} == chosen, glob
            assert {os.fsdecode(each.path) for each in work.find(glob, kinds=["file"]).entries} == chosen, glob
            left = scan_names(tmp_path / "plain", f"--exclude={glob}", f"--exclude-dir={glob}")
            assert {*names(work.grep("needle", exclude=[glob]))} == left, glob


def scan_names(plain: Path, *options: str) -> set[str]:
    """List the files in which grep(1) finds needles."""
    done = subprocess.run(
        ["grep", "-rlZ", *options, "needle", "--", *os.listdir(plain)],
        cwd=plain,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        check=False,
    )
    return {os.fsdecode(name) for name in done.stdout.split(b"\0")[:-1]}


def test_globs_with_a_slash_are_about_whole_paths(work: Workspace) -> None:
    """Below a path that is searched, too, as in `find`; a directory's path is no file's. A named file may match."""
    for glob in (
        "src/deep/*.txt",
        "src/**/c.txt",
        "s**/c.txt",
        "**/deep/c.txt",
        "/src/deep/c.txt",
        "src/d??p/*",
        "src/deep/**",
    ):
        for paths in ([], ["src"], ["src/deep/c.txt"]):
            assert names(work.grep("needle", paths, include=[glob])) == ["src/deep/c.txt"], (glob, paths)
            assert "src/deep/c.txt" not in names(work.grep("needle", paths, exclude=[glob])), (glob, paths)
    assert names(work.grep("needle", include=["src/deep", "src"])) == []
    assert names(work.grep("needle", ["src/new.py", "src/deep"], include=["*.py"])) == ["src/new.py"]


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        ("x(", {}, "Unmatched"),
        ("x(", {"perl": True}, "parenthesis"),
        ("[[:nothing:]]", {}, "character class"),
        ("", {}, "empty"),
        ("a\0b", {"fixed": True}, "NUL"),
        ("x", {"include": ["[a"]}, r"\[a"),
        ("x", {"exclude": ["a\\"]}, "backslash"),
        ("x", {"include": [""]}, "empty"),
        ("x", {"before": -1}, "negative"),
        ("x", {"max_count": 0}, "at least one"),
        ("x", {"fixed": True, "perl": True}, "either"),
        ("x", {"invert": True, "only_matching": True}, "either"),
        ("x", {"outcome": "all"}, "lines, count"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    work: Workspace, pattern: str, options: dict[str, object], message: str
) -> None:
    """A bad pattern, glob or option is an error, and never an empty result."""
    with pytest.raises(InvalidInput) as caught:
        work.grep(pattern, **options)  # type: ignore[arg-type]  # the table's are of all types
    assert message.replace("\\", "") in f"{caught.value} {caught.value.hint}"


def test_what_does_not_exist_is_named(work: Workspace) -> None:
    """A path or state that is not there is an error."""
    with pytest.raises(PathNotFound):
        work.grep("x", ["a", "nowhere"])
    with pytest.raises(PathNotFound):
        work.grep("x", ["a/below"])
    with pytest.raises(CheckpointNotFound):
        work.grep("x", at="nothing")


def test_no_configuration_has_a_say(
    vault: Vault, work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that of the vault nor that of the user or the attributes changes what is found, and no program runs."""
    before = work.grep("two (x|needle)")
    ran = tmp_path / "ran"
    settings_ = (
        "[grep]\n\tpatternType = fixed\n\tcolumn = true\n[color]\n\tgrep = always\n[core]\n\tpager = touch {0}\n"
        '[diff "d"]\n\ttextconv = touch {0}; echo\n'
    )
    (tmp_path / ".gitconfig").write_text(settings_.format(ran))
    monkeypatch.setenv("HOME", str(tmp_path))
    with (vault.info().path / "config").open("a") as file:
        file.write("[grep]\n\tpatternType = fixed\n")
    work.write(".gitattributes", b"* diff=d\na -diff\n")

    assert work.grep("two (x|needle)") == before
    assert not ran.exists()


@pytest.mark.slow
@pytest.mark.needs("fuse", "user-xattrs", "whiteout")
def test_a_live_tree_is_searched_with_what_programs_wrote(mount_dir: Path) -> None:
    """The session of a mount answers, with what is in the tree just now."""
    with Home(mount_dir / "h") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write("a", b"needle\n")
        with work.mount(mount_dir / "tree") as session:
            (mount_dir / "tree" / "b").write_text("needle, too\n")
            assert lines(work.grep("needle")) == [("a", 1, b"needle"), ("b", 1, b"needle, too")]
            with pytest.raises(InvalidInput):
                work.grep("x(")
            session.unmount()


_NAMES = st.sampled_from(["a", "b.txt", "d/a", "d/e/f", "d/x.log", "x.log"])
_TEXT = st.lists(st.sampled_from([b"needle", b"pin", b"needle pin", b"", b"\xc3\xa4", b"pin\r"]), max_size=4).map(
    b"\n".join
)
_STEP = st.one_of(
    st.tuples(st.just("write"), _NAMES, _TEXT),
    st.tuples(st.just("remove"), _NAMES, st.just(b"")),
    st.tuples(st.just("checkpoint"), st.just(""), st.just(b"")),
    st.tuples(st.just("undo"), st.just(""), st.just(b"")),
)


@pytest.mark.slow
@pytest.mark.needs("fuse", "user-xattrs", "whiteout")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_search_keeps_nothing_waiting_and_ends_with_its_program(mount_dir: Path, number: signal.Signals) -> None:
    """During a slow search a checkpoint is made; git ends with the program that asked for it, however that ends."""
    with Home(mount_dir / "h") as home:
        work = home.create_vault("v").workspace()
        work.write("a", b"x" * 1_500_000)
        with work.mount(mount_dir / "tree") as session:
            argv = [sys.executable, "-m", "avfs_git", "--vault", "v", "grep", r"\w+o"]
            asking = subprocess.Popen(argv, env={**os.environ, "AVFS_HOME": os.fspath(mount_dir / "h")})
            searching: list[int] = []
            try:
                wait_for(lambda: list_searching(asking.pid))
                searching = list_searching(asking.pid)
                (mount_dir / "tree" / "b").write_bytes(b"new")
                assert work.checkpoint("meanwhile").checkpoint is not None
                assert asking.poll() is None
                asking.send_signal(number)
                asking.wait()
                wait_for(lambda: not any(map(is_running, searching)))
            finally:
                asking.kill()
                asking.wait()
                for pid in searching:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            session.unmount()


def is_running(pid: int) -> bool:
    """Tell whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_matches_come_as_they_are_found(vault: Vault, work: Workspace) -> None:
    """The same as those of `grep`; closing the iterator ends git before it has found all."""
    for options in ({}, {"before": 1, "after": 1, "max_count": 1}, {"outcome": "count"}, {"invert": True, "after": 1}):
        for where in ({}, {"ignored": True}, {"at": "first"}):
            result = work.grep("needle", **options, **where)
            hits = list(work.grep_stream("needle", **options, **where))
            assert {(hit.fork, hit.state) for hit in hits} == {(result.fork, result.state)}
            assert [*dict.fromkeys(hit.path for hit in hits)] == [file.path for file in result.files]
            assert [hit.line for hit in hits if hit.line is not None] == [
                line for file in result.files for line in file.lines
            ]
            assert [hit.count for hit in hits if hit.line is None] == [
                file.count for file in result.files if not file.lines
            ]
    work.write("many", b"needle\n" * 200_000)
    found = work.grep_stream("needle")
    before = list_searching(os.getpid())
    assert next(found).path == b"a"
    assert len(list_searching(os.getpid())) == len(before) + 1
    found.close()
    assert list_searching(os.getpid()) == before

    vault.fork("other").write("only/there", b"needle\n")
    both = list(vault.grep_stream("needle"))
    assert {(hit.fork, hit.path) for hit in both} == {
        (result.fork, file.path) for result in vault.grep("needle") for file in result.files
    }


def test_matches_that_were_given_are_not_kept(work: Workspace) -> None:
    """However many there are."""
    work.write("many", b"needle\n" * 50_000)
    tracemalloc.start()
    try:
        hits = work.grep_stream("needle", ["many"])
        assert next(hits).path == b"many"
        tracemalloc.reset_peak()  # capturing the workspace is over
        assert sum(1 for _ in hits) == 49_999
        assert tracemalloc.get_traced_memory()[1] < 5_000_000  # a tenth of what they take
    finally:
        tracemalloc.stop()


def test_one_git_searches_all_forks(vault: Vault, work: Workspace) -> None:
    """However many there are."""
    for number in range(5):
        vault.fork(f"fork-{number}", source=work.fork).write(f"own-{number}", b"x\nneedle\n" * 20_000)
    found = vault.grep_stream("needle", invert=True)
    seen, gits = set(), set()
    for hit in found:
        if hit.fork not in seen:
            seen.add(hit.fork)
            gits.update(list_searching(os.getpid()))
    assert len(seen) == 6
    assert len(gits) == 1


def list_searching(asking: int) -> list[int]:
    """List the processes of git that search for a process."""
    return [pid for pid in list_family(asking) if b"git\0--git-dir" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, max_size=8), pattern=st.sampled_from(["needle", "^pin$", "n.*p|^$", "[^a-z]"]))
def test_a_search_equals_grep_in_a_plain_copy(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]], pattern: str
) -> None:
    """After any sequence of changes, checkpoints and undos, the result is that of a scan."""
    place = tmp_path_factory.mktemp("scan")
    with Home(place / "home") as home:
        work = home.create_vault("v").workspace()
        work.write(".gitignore", b"*.log\n")
        for verb, name, data in steps:
            if verb == "write":
                work.write(name, data)
            elif verb == "remove":
                work.remove(name, missing_ok=True)
            elif verb == "checkpoint":
                work.checkpoint()
            else:
                with contextlib.suppress(NothingToUndo):
                    work.undo()
        if not work.exists("/"):
            return
        plain = place / "plain"
        work.export_path("/", plain)
        assert lines(work.grep(pattern, ignored=True)) == scan(plain, pattern)


def scan(plain: Path, pattern: str) -> Matches:
    """Search a directory with grep(1)."""
    done = subprocess.run(
        ["grep", "-rZnE", "--binary-files=without-match", "-e", pattern, "."],
        cwd=plain,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode in (0, 1)
    found: Matches = []
    for record in done.stdout.split(b"\n")[:-1]:
        path, _, rest = record.partition(b"\0")
        number, _, text = rest.partition(b":")
        found.append((os.fsdecode(path)[2:], int(number), text))
    return sorted(found, key=lambda match: (os.fsencode(match[0]), match[1]))


def test_matches_are_marked_if_that_is_asked_for(work: Workspace) -> None:
    """Each match in its line, in bytes; a line that has marks like those of git's own keeps every byte."""
    found = {
        line.text: [(span.begin, span.end) for span in line.spans]
        for file in work.grep("needles?", spans=True, before=1).files
        for line in file.lines
    }
    assert found[b"needle needles"] == [(0, 6), (7, 14)]
    assert found[b"\xe4\xf6 needle"] == [(3, 9)]
    assert found[b"four"] == []
    assert work.grep("needle").files[0].lines[0].spans == ()
    text = b"\x1b[1mneedle\x1b[m \x1b[m"
    work.write("painted", text + b"\n")
    assert [line.text for line in work.grep("needle\x1b|m", ["painted"], spans=True).files[0].lines] == [text]
    assert work.grep("needle", spans=True, invert=True).files


def test_context_of_an_inverted_search(work: Workspace) -> None:
    """Lines of context are told from those that do not match, and only the latter are counted for a limit."""
    found = work.grep("needle", ["a"], invert=True, before=1, max_count=2).files[0]
    assert [(line.number, line.column is None) for line in found.lines] == [(1, False), (2, True), (3, False)]
    assert found.count == 2


def test_what_a_killed_search_left_is_removed(vault: Vault, tmp_path: Path) -> None:
    """By the next one; what another process uses stays."""
    for name in (".avfs-locked-left", ".avfs-locked-used", "else"):
        (tmp_path / "temporary" / name / "git").mkdir(parents=True)
    argv = [sys.executable, "-m", "avfs_git", "--vault", vault.name, "grep", "needle"]
    with directory_held(tmp_path / "temporary" / ".avfs-locked-used"):
        environment = {**os.environ, "AVFS_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
        subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=True)

    assert sorted(os.listdir(tmp_path / "temporary")) == [".avfs-locked-used", "else"]
