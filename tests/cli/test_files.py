"""The file commands, import and export, doctor."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from avfs_git.cli.context import UNREAD
from avfs_git.host.locks.locks import LockFile
from tests.support.cli import Cli, Transcript, spawn

Snapshot = Callable[[str, str], None]


def test_grep_as_people_see_it(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """What is found in text, the exit status, and what is said of a pattern that is none."""
    avfs("write notes 'one\ntwo def\nthree\nfour\ndef five\n'")
    avfs("grep def")
    avfs("grep -n -C1 def notes")
    avfs("grep -rn def")
    avfs("grep -c def --include 'n*'")
    avfs("grep -l def --all-forks")
    avfs("grep -L def")
    avfs("grep -o -i DEF notes --at HEAD", status=25)
    avfs("grep nothing-like-it", status=1)
    avfs("grep 'x('", status=2)
    avfs("grep --include '[a' x", status=2)
    avfs("grep -l -c x", status=2)
    avfs("grep x nowhere", status=25)
    avfs("grep two --json")
    snapshot("grep.txt", avfs.text)


def test_matches_are_lines_of_json_where_they_are_asked_for(cli: Cli, work: str) -> None:
    """One a match; what fails is the last line. The status is that of grep, and `--jq` sees each line."""
    assert work
    cli("write", "notes", "one def\ntwo\ndef three\n").ok()
    lines = [json.loads(line) for line in cli("grep", "def", "notes", "--json", "--stream").ok().stdout.splitlines()]

    assert [(line["path"], line["line"]["number"], line["line"]["text"]) for line in lines] == [
        ("notes", 1, "one def"),
        ("notes", 3, "def three"),
    ]
    assert cli("grep", "def", "notes", "--stream", "--jq", ".line.number").ok().text == "1\n3\n"
    ran = cli("grep", "nothing-like-it", "--json", "--stream")
    assert (ran.status, ran.stdout) == (1, b"")
    ran = cli("grep", "x(", "--json", "--stream")
    assert (ran.status, ran.document["error"]["code"]) == (2, "input.invalid")
    assert cli("grep", "def", "notes", "--stream").ok().text == cli("grep", "def", "notes").ok().text


def test_warnings_of_a_search_are_its_last_line(cli: Cli, work: str) -> None:
    """In the document that a failure has, too; `--jq` sees only matches."""
    assert work
    cli("checkpoint", "save").ok()
    cli("rm", "/.gitignore").ok()
    cli("write", "notes", "def\n").ok()

    *matches, last = [
        json.loads(line) for line in cli("grep", "def", "notes", "--json", "--stream").ok().stdout.splitlines()
    ]
    assert [match["path"] for match in matches] == ["notes"]
    assert (last["success"], [warning["path"] for warning in last["warnings"]]) == (True, ["build.log"])
    ran = cli("grep", "def", "notes", "--stream", "--jq", ".path")
    assert (ran.status, ran.text, json.loads(ran.stderr)["warnings"]) == (0, "notes\n", last["warnings"])


def test_a_search_ends_when_its_matches_are_not_read(cli: Cli, work: str) -> None:
    """Those before are written as they come."""
    assert work
    cli("write", "many", stdin=b"needle\n" * 200_000).ok()
    for options in ((), ("--json", "--stream")):
        argv = [sys.executable, "-m", "avfs_git", "grep", "needle", *options]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
            assert asking.stdout is not None
            assert b"many" in asking.stdout.readline()
            asking.stdout.close()
            assert asking.wait() == UNREAD


def test_search_as_people_see_it(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """Present and past contents, and the exit status."""
    avfs("write notes 'one\nparse_tree(x)\n'")
    avfs("checkpoint save first")
    avfs("search tree")
    avfs("write notes 'other'")
    avfs("mkdir hollow")
    avfs("search tree", status=1)
    avfs("search tree hollow", status=1)
    avfs("search tree nowhere", status=25)
    avfs("checkpoint save second")
    avfs("search tree --history")
    avfs("search tree --history --at first", status=1)
    avfs("search tree --history --all-forks", status=2)
    avfs("search '()'", status=2)
    snapshot("search.txt", avfs.text)


def test_find_as_people_see_it(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """What is found in text, the exit status, and what is said of a glob, a size or an age that is none."""
    avfs("write src/new.py 'one'")
    avfs("write big/file 'three'")
    avfs("find")
    avfs("find src --name '*.py'")
    avfs("find --type d")
    avfs("find --changed-since HEAD --type f --all-forks")
    avfs("find --min-size 4 --max-size 5 --max-depth 2 --older 10m", status=1)
    avfs("find --min-size 4 --max-size 5 --newer 1h --name big/*")
    avfs("find --name '[a'", status=2)
    avfs("find --min-size 1x", status=2)
    avfs("find --newer soon", status=2)
    avfs("find --newer 2001-01-01 --older '1 hour ago'", status=1)
    avfs("find nowhere", status=25)
    avfs("find --changed-since nothing", status=31)
    snapshot("find.txt", avfs.text)


@pytest.mark.needs("user-xattrs")
def test_tags_and_metadata_as_people_see_them(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """What is set, found and refused."""
    avfs("write notes 'one'")
    avfs("meta get notes")
    avfs("meta set notes owner 'ada lovelace'")
    avfs("meta tag notes urgent reviewed")
    avfs("meta tag / project")
    avfs("meta get notes")
    avfs("meta get notes owner")
    avfs("--json meta get notes")
    avfs("meta tags")
    avfs("find --tag urgent")
    avfs("find --tag project")
    avfs("find --meta owner=ada", status=1)
    avfs("find --meta owner")
    avfs("status")
    avfs("meta untag notes urgent")
    avfs("meta untag notes urgent", status=26)
    avfs("undo")
    avfs("meta delete notes owner")
    avfs("meta get notes owner", status=26)
    avfs("meta tag notes a,b", status=2)
    avfs("meta set notes overlay.opaque y", status=2)
    avfs("meta get nowhere", status=25)
    avfs("meta rm notes owner", status=2)
    snapshot("meta.txt", avfs.text)


def test_files_as_people_see_them(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """The file commands in text."""
    avfs("ls")
    avfs("ls -l -a")
    avfs("ls -R /")
    avfs("ls src")
    avfs("ls -l README")
    avfs("tree")
    avfs("tree -L 1 /")
    avfs("cat /src/main.py")
    avfs("write a/b/c.txt 'one '")
    avfs("write -a a/b/c.txt two")
    avfs("cat a/b/c.txt")
    avfs("mkdir d e")
    avfs("mkdir d", status=26)
    avfs("mkdir README", status=26)
    avfs("mkdir -p d d/e/f")
    avfs("touch new README")
    avfs("cp README copy")
    avfs("cp README copy", status=26)
    avfs("cp README run.sh d")
    avfs("cp src elsewhere", status=26)
    avfs("cp -r src elsewhere")
    avfs("mv copy moved")
    avfs("mv moved new", status=26)
    avfs("mv elsewhere elsewhere/deeper", status=26)
    avfs("mv new moved d")
    avfs("rm d", status=26)
    avfs("rm -r d e")
    avfs("rm nosuch", status=25)
    avfs("rm -f nosuch")
    avfs("stat README link --oid")
    avfs("cat nosuch", status=25)
    avfs("cat src", status=26)
    avfs("ls nosuch", status=25)
    avfs("write ../x 1", status=2)

    snapshot("files.txt", avfs.text)


def test_file_documents(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """The same for programs."""
    avfs("ls --json")
    avfs("ls src -a -R --json")
    avfs("tree / --json")
    avfs("cat README --json")
    avfs("cat src/data.bin --json")
    avfs("write a/b one --json")
    avfs("mkdir d --json")
    avfs("touch t --json")
    avfs("cp README copy --json")
    avfs("mv copy moved --json")
    avfs("rm moved --json")
    avfs("stat link --oid --json")
    avfs("cat nosuch --json", status=25)

    snapshot("files.json.txt", avfs.text)


@pytest.mark.parametrize("data", [b"", b"\0\xff\n", b"x" * 3_000_000, "ä\r\n".encode()])
def test_bytes_go_in_and_out_unchanged(cli: Cli, work: str, data: bytes) -> None:
    """Standard input to a file and back to standard output, byte for byte; the same in base64."""
    cli("write", "f", stdin=data).ok()

    assert cli("cat", "f").stdout == data
    assert base64.b64decode(cli("cat", "f", "--json").result["content_b64"]) == data


@pytest.mark.parametrize("paths", [("README", "nosuch"), ("README", "src"), ("src/main.py", "README/x")])
def test_rm_refuses_before_it_removes(cli: Cli, work: str, paths: tuple[str, str]) -> None:
    """Where one path is missing or needs `-r`, the others stay, and nothing is recorded."""
    before = cli("op", "log", "--json").result

    refused = cli("rm", *paths)

    assert refused.status in (25, 26)
    assert paths[1] in refused.stderr
    cli("cat", paths[0]).ok()
    assert cli("op", "log", "--json").result == before
    assert [
        each["path"] for each in cli("rm", "-rf", "src", "src/main.py", "nosuch", "src", "--json").result["removed"]
    ] == [
        "src",
        "src/main.py",
    ]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("mv README nosuch d", "/nosuch"),
        ("mv README run.sh d", "/d/run.sh' is there already"),
        ("mv README d/sub/README e", "/e/README' would be the place of two"),
        ("mv run.sh d d/sub", "/d' cannot go into itself"),
        ("mv d d/sub e", "/d/sub' goes with"),
        ("mv README / d", "/' cannot go into itself"),
        ("mv README run.sh src/main.py", "is not a directory"),
        ("cp README nosuch d", "/nosuch"),
        ("cp README run.sh d", "/d/run.sh' is there already"),
        ("cp README d e", "/d' is a directory; copy it with"),
        ("cp -r run.sh d d/sub", "/d' cannot go into itself"),
        ("cp README README e", "/e/README' would be the place of two"),
        ("mkdir new README", "/README' is there already"),
        ("mkdir new a/b", "nothing at '/a'"),
        ("mkdir new README/x", "/README/x' is below"),
        ("mkdir new new", "/new' is named twice"),
        ("mkdir -p new README", "/README' is there already"),
        ("mkdir -p new README/x/y", "/README/x/y' is below"),
        ("touch new nosuch/x", "nothing at '/nosuch'"),
        ("touch new README/x", "/README/x' is below"),
        ("touch README nosuch/x", "nothing at '/nosuch'"),
    ],
)
def test_several_paths_are_refused_before_the_first_is_done(cli: Cli, work: str, typed: str, said: str) -> None:
    """Where one of several paths cannot be, all is as before, and nothing is recorded."""
    cli("mkdir", "-p", "d/sub", "e").ok()
    cli("cp", "README", "d/sub").ok()
    cli("cp", "run.sh", "d").ok()
    before = [cli(*look, "--json").result for look in (("ls", "-R", "/"), ("op", "log"))]

    refused = cli(*typed.split())

    assert refused.status in (25, 26)
    assert said in refused.stderr
    assert [cli(*look, "--json").result for look in (("ls", "-R", "/"), ("op", "log"))] == before


def test_several_paths_may_build_on_each_other(cli: Cli, work: str) -> None:
    """A directory is made in one that is named before it; what is named first is moved out of it first."""
    cli("mkdir", "d", "d/e", "f").ok()
    cli("mkdir", "-p", "d", "d", "d/e/g").ok()
    cli("touch", "d/e/new", "d/e/new", "link").ok()
    moved = cli("mv", "d/e/new", "d", "f", "--json").ok().result["moved"]

    assert [each["destination"] for each in moved] == ["f/new", "f/d"]


@pytest.mark.parametrize("verb", ["mv", "cp"])
def test_a_slash_at_the_end_means_a_directory(cli: Cli, work: str, verb: str) -> None:
    """A file does not become what was named as a directory; a directory may, and what is one takes it."""
    for destination in ("newdir/", "run.sh/"):
        refused = cli(verb, "README", destination)
        assert (refused.status, "is not a directory" in refused.stderr) == (26, True)
    assert b"newdir" not in cli("ls").stdout

    cli(verb, *(["-r"] if verb == "cp" else []), "src", "made/").ok()
    cli(verb, "README", "made/").ok()

    cli("cat", "made/main.py").ok()
    cli("cat", "made/README").ok()


def test_cat_of_earlier_states(cli: Cli, work: str) -> None:
    """A version, a checkpoint and a fork can be named."""
    cli("checkpoint", "save", "a").ok()
    cli("write", "README", "new").ok()
    cli("checkpoint", "save", "b").ok()
    cli("write", "README", "newer").ok()

    assert [
        cli("cat", "README", *how).text for how in ([], ["--at", "a"], ["--at", "b"], ["-v", "1"], ["-v", "2"])
    ] == [
        "newer",
        "hello\n",
        "new",
        "hello\n",
        "new",
    ]
    assert cli("cat", "nosuch", "--at", "a").status == 25
    assert cli("cat", "README", "--at", "nosuch").status == 31


def test_cat_of_several_files(cli: Cli, work: str) -> None:
    """They come one after the other; a path that is missing, or a directory, does not keep the others away."""
    assert cli("cat", "README", "src/main.py", "README").ok().text == "hello\nprint(1)\nprint(2)\nprint(3)\nhello\n"
    ran = cli("cat", "README", "src", "nosuch", "src/main.py")
    assert (ran.status, ran.text) == (26, "hello\nprint(1)\nprint(2)\nprint(3)\n")
    assert [line for line in ran.stderr.splitlines() if line.startswith(("error", "hint: List"))] == [
        "error: '/src' is a directory",
        "hint: List it with `avfs ls /src`.",
        "error: there is nothing at '/nosuch'",
    ]
    assert cli("cat", "nosuch", "README", "--at", "nosuch").status == 31


def test_a_document_of_several_files(cli: Cli, work: str) -> None:
    """It lists the contents in their order and the paths that could not be read.

    All contents together have one limit.
    """
    ran = cli("cat", "README", "src", "nosuch", "src/main.py", "--json")
    assert (ran.status, ran.document["success"], ran.document["error"]) == (26, False, None)
    assert [(file["path"], file["content"]) for file in ran.result["files"]] == [
        ("README", "hello\n"),
        ("src/main.py", "print(1)\nprint(2)\nprint(3)\n"),
    ]
    assert [(each["path"], each["code"]) for each in ran.result["unread"]] == [
        ("src", "path.unsuitable"),
        ("nosuch", "path.not_found"),
    ]
    cli("write", "large", stdin=b"x" * (5 << 20)).ok()
    cli("write", "other", stdin=b"x" * (5 << 20)).ok()
    ran = cli("cat", "large", "other", "README", "--json")
    assert (ran.status, [file["path"] for file in ran.result["files"]]) == (26, ["large", "README"])
    assert "with the files before it" in ran.result["unread"][0]["message"]


def test_expected_content_guards_a_write(cli: Cli, work: str) -> None:
    """A file that somebody else changed is left alone."""
    oid = cli("stat", "README", "--oid", "--json").result["entries"][0]["oid"]

    assert oid == hashlib.sha1(b"blob 6\0hello\n", usedforsecurity=False).hexdigest()
    assert cli("write", "README", "mine", "--expect", oid).status == 0
    ran = cli("write", "README", "yours", "--expect", oid, "--json")
    assert (ran.status, ran.document["error"]["code"]) == (27, "path.content_changed")
    assert cli("cat", "README").text == "mine"
    assert cli("write", "fresh", "1", "--expect", "").status == 0
    assert cli("write", "fresh", "2", "--expect", "").status == 27


def test_names_that_are_not_utf8_survive(cli: Cli, work: str) -> None:
    """A name of any bytes can be written, listed, read and removed."""
    name = os.fsdecode(b"odd/\xff\n\x1b")
    cli("write", name, "1").ok()

    entry = cli("ls", "odd", "--json").result["entries"][0]
    assert base64.b64decode(entry["path_b64"]) == b"odd/\xff\n\x1b"
    assert cli("ls", "odd").stdout == b'"\\377\\n\\033"\n'
    assert cli("cat", name).text == "1"
    cli("rm", name).ok()
    assert cli("ls", "odd").stdout == b""
    assert "remove 'odd/\\377\\n\\x1b'" in cli("undo").text


def test_names_that_are_not_utf8_survive_the_process(work: str) -> None:
    """The same through a real argument vector, and with a locale that is not UTF-8."""
    for locale in ("C", "C.UTF-8"):
        assert spawn("write", b"\xfe\xff", "1", env={"LC_ALL": locale}).status == 0
        assert spawn("cat", b"\xfe\xff", env={"LC_ALL": locale}).stdout == b"1"


def test_an_error_names_the_path_that_is_in_the_way(cli: Cli, work: str, tmp_path: Path) -> None:
    """Not the source of a copy, nor the root of an import, which tells that it stopped half way."""
    cli("rm", "README").ok()  # `link` leads nowhere then
    for typed in ("mv run.sh link", "cp run.sh link", "mv src link", "cp -r src link"):
        ran = cli(*typed.split())
        assert (ran.status, ran.stderr.splitlines()[0]) == (26, "error: '/link' is there already"), typed
    assert "'/run.sh/x' is below" in cli("mv", "link", "run.sh/x").stderr

    source = tmp_path / "source"
    (source / "z/run.sh").mkdir(parents=True)
    (source / "a").write_text("1")
    cli("mkdir", "z").ok()
    cli("mv", "run.sh", "z").ok()
    ran = cli("import", "-r", str(source))
    assert (ran.status, ran.stderr.splitlines()[0]) == (26, "error: '/z/run.sh' is there already")
    assert "What was imported before that stays" in ran.stderr
    assert cli("cat", "a").ok().text == "1"
    assert "stays" not in cli("import", str(source / "a"), "z/run.sh/a").stderr


def test_symbolic_link_cannot_lead_out(cli: Cli, project: Path) -> None:
    """A link to the machine's files stays a link."""
    (project / "out").symlink_to("/etc/passwd")
    (project / "up").symlink_to("../../../../..")
    cli("vault", "create", "work", "--from", str(project)).ok()

    for path in ("out", "up/etc/passwd", "link/../../etc/passwd"):
        ran = cli("cat", path)
        assert ran.status != 0
        assert b"root:" not in ran.stdout


def test_transfers_as_people_see_them(avfs: Transcript, project: Path, tmp_path: Path, snapshot: Snapshot) -> None:
    """Import and export in text."""
    avfs("vault create empty")
    avfs("import $TMP/project", status=2)
    avfs("import -r $TMP/project /project-copy")
    avfs("import $TMP/project/README one.txt")
    avfs("import $TMP/nosuch", status=1)
    avfs("ls -R")
    avfs("export -r /project-copy $TMP/out")
    avfs("export one.txt $TMP/single")
    avfs("export one.txt $TMP/single", status=26)
    avfs("export one.txt $TMP/single --overwrite")
    avfs("export nosuch $TMP/x", status=25)
    avfs("export --tar / $TMP/all.tar")
    avfs("import --tar $TMP/all.tar again")
    avfs("ls again")
    avfs("import -r $TMP/project shallow --max-depth 1 --json")
    avfs("export -r shallow $TMP/out2 --json")

    snapshot("transfer.txt", avfs.text)
    assert (tmp_path / "out/link").readlink() == Path("README")
    assert (tmp_path / "out/run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/empty").is_dir()
    assert (tmp_path / "out/build.log").read_text() == "ignored\n"
    assert (tmp_path / "out/README").stat().st_mtime_ns == (project / "README").stat().st_mtime_ns


def test_tar_through_pipes(cli: Cli, work: str) -> None:
    """An archive on standard output is a whole archive, and comes back from standard input."""
    archive = cli("export", "--tar", "/", "-").ok().stdout

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {"README", "src/main.py", "build.log"} <= {member.name.removeprefix("./") for member in tar.getmembers()}
    cli("import", "--tar", "-", "back", stdin=archive).ok()
    assert cli("cat", "back/src/main.py").text == "print(1)\nprint(2)\nprint(3)\n"
    assert cli("export", "--tar", "/", "-", "--json").status == 2


def test_doctor_looks_at_the_machine(cli: Cli) -> None:
    """`--host` needs no vault, and finds no fault: what is missing is said, with what it is for and how to get it."""
    result = cli("doctor", "--host", "--json").ok().result
    rows = [line.split("\t") for line in cli("doctor", "--host").ok().text.splitlines()]

    assert [row[:2] for row in rows] == [
        [each["name"], "yes" if each["works"] else "no"] for each in result["abilities"]
    ]
    assert all(row[4] == "-" if row[1] == "yes" else row[3:] for row in rows)
    assert cli("doctor", "--host", "--repair").status == 2


def test_doctor_finds_a_healthy_vault(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """Nothing to mend in a new vault."""
    avfs("checkpoint save")
    avfs("doctor")
    avfs("doctor --json")

    snapshot("doctor.txt", avfs.text)


def test_a_path_of_this_machine_is_never_one_of_the_vault(
    cli: Cli, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path of this machine is refused, and a plain name that both have is remarked; `rm` refuses that one as well.

    An option that names the vault or the fork decides.
    """
    place = tmp_path / "place"
    (place / "src").mkdir(parents=True)
    (place / "broken").symlink_to("nowhere")
    inside = str(place).lstrip("/")
    cli("mkdir", "-p", f"{inside}/src").ok()
    cli("write", "broken", "1").ok()
    monkeypatch.chdir(place)

    for text in (str(place), str(place / "src"), "src", "./src", "broken"):
        refused = cli("rm", "-rf", text)
        assert (refused.status, "--vault NAME" in refused.stderr) == (2, True), text
    assert "avfs end src" in cli("rm", "-r", "README", "src").stderr
    for kept in ("README", "src", "broken", f"{inside}/src"):
        cli("stat", kept).ok()
    assert (place / "src").is_dir()

    taking = {
        "mv": ("{}", "new"), "cp": ("{}", "new"), "write": ("{}", "x"), "touch": ("{}",), "mkdir": ("{}",), "add": ("{}",),
        "checkout": ("{}", "--at", "HEAD"), "revert": ("{}",), "cat": ("{}",), "ls": ("{}",), "stat": ("{}",), "log": ("{}",),
        "tree": ("{}",), "export": ("{}", "out"), "resolve": ("{}",), "diff": ("--", "{}"), "exec": ("--cwd", "{}", "--", "true"),
    }  # fmt: skip
    for verb, arguments in taking.items():
        for text in (str(place / "src"), "./src", "../place/src", "~/place/src", "~/new", str(place / "new")):
            refused = cli(verb, *(argument.format(text) for argument in arguments), env={"HOME": str(tmp_path)})
            assert (refused.status, f"avfs {verb}`" in refused.stderr) == (125 if verb == "exec" else 2, True), (
                verb,
                text,
            )
            assert "--vault NAME" in refused.stderr
    refused = cli("checkpoint", "restore", "HEAD", "./src")
    assert (refused.status, "a directory on this machine" in refused.stderr) == (2, True)
    assert "the one in the vault" in cli("write", "broken", "2").ok().stderr
    assert [told["code"] for told in cli("cat", "broken", "--json").ok().document["warnings"]] == ["path.on_machine"]
    assert cli("cat", "broken", "--vault", work).ok().stderr == ""
    cli("ls", "/").ok()

    cli("rm", "-r", "src", "--fork", "main").ok()
    cli("rm", f"{place}/src", "-r", "--vault", work).ok()
    assert (place / "src").is_dir()
    cli("rm", "README").ok()


def test_a_warning_is_told_once(cli: Cli, work: str) -> None:
    """A search of a fork that another program works in says so in one line."""
    (vault,) = Path(os.environ["AVFS_HOME"]).glob("vaults/*.git")
    lock = LockFile(vault / "avfs" / "workspaces" / "main" / "lock", owner="another program")
    with closing(lock):
        assert lock.acquire(0)
        lock.begin_change()
        for line in ("find", "search print", "meta tags", "status", "grep print"):
            assert cli(*line.split()).stderr.count("in use by") == 1, line
        lock.end_change()
        lock.release()
