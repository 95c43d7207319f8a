"""Ignore rules against `git check-ignore`, on generated rules, names and trees."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.gitversion import installed_git
from avfs_git.gitstore.rules.ignore import Ignorer
from avfs_git.paths import TreePath


@dataclass(frozen=True)
class Scene:
    """Directories, the ignore files in them, rules for all, and paths to ask about."""

    paths: Mapping[bytes, bool]
    """Each path and whether it is a directory."""
    ignore_files: Mapping[bytes, bytes]
    exclude: bytes
    folds_case: bool = False


class GitOracle:
    """Asks git itself, in a work tree that is made anew for each scene."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.count = 0
        self.git_dir = home / "oracle.git"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_DIR": str(self.git_dir),
        }
        self._run("init", "-q", "--bare", str(self.git_dir))

    def _run(self, *arguments: str, data: bytes = b"", work_tree: str | None = None) -> bytes:
        environment = self.environment if work_tree is None else {**self.environment, "GIT_WORK_TREE": work_tree}
        done = subprocess.run(
            ["git", *arguments], input=data, capture_output=True, env=environment, cwd=work_tree, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def ignored(self, scene: Scene) -> dict[bytes, bool]:
        """Tell of each path of a scene whether git ignores it."""
        self.count += 1
        work_tree = self.home / str(self.count)
        root = os.fsencode(work_tree)
        os.makedirs(root)
        for path, is_dir in scene.paths.items():
            if is_dir:
                os.makedirs(os.path.join(root, path), exist_ok=True)
        for directory, content in scene.ignore_files.items():
            os.makedirs(os.path.join(root, directory), exist_ok=True)
            with open(os.path.join(root, directory, b".gitignore"), "wb") as file:
                file.write(content)
        (self.git_dir / "info/exclude").write_bytes(scene.exclude)
        # A name may start with a colon, which git would take for pathspec magic.
        question = b"\0".join(b"./" + path for path in scene.paths)
        answer = self._run(
            "-c",
            f"core.ignoreCase={scene.folds_case}",
            "check-ignore",
            "--no-index",
            "-z",
            "--stdin",
            "-v",
            "-n",
            data=question,
            work_tree=str(work_tree),
        )
        fields = answer.split(b"\0")
        verdicts = {}
        # Each answer is source, line, rule, path.
        for at in range(0, len(fields) - 1, 4):
            rule, path = fields[at + 2], fields[at + 3]
            verdicts[path[2:]] = rule != b"" and not rule.startswith(b"!")
        return verdicts


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> GitOracle:
    """Git, ready to be asked."""
    return GitOracle(tmp_path_factory.mktemp("ignore"))


def ours(scene: Scene) -> dict[bytes, bool]:
    """Tell of each path of a scene whether we ignore it."""
    ignorer = Ignorer(scene.ignore_files.get, scene.exclude, folds_case=scene.folds_case)
    return {path: ignorer.is_ignored(TreePath(path), is_dir=is_dir) for path, is_dir in scene.paths.items()}


# --- generated scenes ------------------------------------------------------------------------------------

SPECIAL = [bytes([byte]) for byte in b" \t\n\r\\!#*?[]-^:~.\x01\x0b\x0c\x7f\x80\xff"] + ["é".encode(), "…".encode()]
NAME_BYTES = st.one_of(st.sampled_from([b"a", b"b", b"c", b"A", b"1"]), st.sampled_from(SPECIAL))
NAMES = (
    st.one_of(
        st.sampled_from([b"a", b"b", b"ab", b"foo", b"bar", b"foo.o", b"a.b", b"-", b"]", b"!a", b"#a", b"a ", b" ", b"\\"]),
        st.lists(NAME_BYTES, min_size=1, max_size=4).map(b"".join),
    )
    .filter(lambda name: name not in (b".", b"..") and name.lower() != b".git")
)  # fmt: skip
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)

CLASSES = st.sampled_from(b"alnum alpha blank cntrl digit graph lower print punct space upper xdigit nonsense".split())
BRACKET_PARTS = st.one_of(
    NAME_BYTES,
    st.tuples(NAME_BYTES, NAME_BYTES).map(lambda ends: ends[0] + b"-" + ends[1]),
    CLASSES.map(lambda name: b"[:" + name + b":]"),
    st.sampled_from(
        [b"-", b"]", b"\\]", b"\\-", b"\\\\", b"[", b"[:", b":]", b"!", b"^", b"/", b"a-\\c", b"--a", b"a-c-e"]
    ),
)
BRACKETS = st.tuples(
    st.sampled_from([b"", b"", b"!", b"^"]),
    st.lists(BRACKET_PARTS, max_size=3).map(b"".join),
    st.sampled_from([b"]", b"]", b"]", b""]),
).map(lambda parts: b"[" + b"".join(parts))
RULE_PARTS = st.one_of(
    NAMES,
    st.sampled_from(
        [
            b"*",
            b"*",
            b"**",
            b"***",
            b"?",
            b"/",
            b"/",
            b"/**/",
            b"**/",
            b"/**",
            b"\\/",
            b"\\*",
            b"\\",
            b" ",
            b"\\ ",
            b"[",
            b"]",
        ]
    ),
    BRACKETS,
    NAME_BYTES.map(lambda byte: b"\\" + byte),
)
LOOSE_RULES = st.lists(RULE_PARTS, max_size=5).map(b"".join)


@st.composite
def near_rules(draw: st.DrawFn, paths: list[bytes]) -> bytes:
    """Draw a rule made from one of the paths, so that rules often match."""
    rule = bytearray()
    path = draw(st.sampled_from(paths))
    if draw(st.booleans()):
        path = draw(st.sampled_from(path.split(b"/")))
    for byte in path:
        char = bytes([byte])
        choice = draw(st.integers(0, 15))
        if choice < 9 or (byte == ord("/") and choice < 13):
            rule += char
        else:
            rule += draw(
                st.sampled_from(
                    [
                        b"?",
                        b"*",
                        b"**",
                        b"\\" + char,
                        b"[" + char + b"]",
                        b"[!" + char + b"]",
                        b"",
                        char + b"*",
                        b"[[:alpha:]]",
                        b"[a-z]",
                        b"[!-~]",
                    ]
                )
            )
    return (
        draw(st.sampled_from([b"", b"", b"", b"/", b"**/", b"*/"]))
        + bytes(rule)
        + draw(st.sampled_from([b"", b"", b"", b"/", b"/*", b"/**"]))
    )


@st.composite
def ignore_files(draw: st.DrawFn, paths: list[bytes]) -> bytes:
    """Draw the content of an ignore file."""
    content = bytearray(draw(st.sampled_from([b"", b"", b"", b"", b"\xef\xbb\xbf"])))
    for _ in range(draw(st.integers(0, 6))):
        content += draw(st.sampled_from([b"", b"", b"", b"!", b"!", b"#", b"\\!", b" "]))
        content += draw(st.one_of(near_rules(paths), near_rules(paths), LOOSE_RULES))
        content += draw(st.sampled_from([b"", b"", b"", b" ", b"  ", b"\\ ", b"\\  ", b"\t", b"\0x"]))
        content += draw(st.sampled_from([b"\n", b"\n", b"\n", b"\n", b"\r\n", b"\r\n", b"\n\n", b"\r\r\n"]))
    # The last line may lack its end.
    return bytes(content) if draw(st.booleans()) else bytes(content).rstrip(b"\n")


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Draw a tree with ignore files."""
    drawn = draw(st.lists(PATHS, min_size=1, max_size=12, unique=True))
    directories: set[bytes] = set()
    for path in drawn:
        parts = path.split(b"/")
        directories.update(b"/".join(parts[:size]) for size in range(1, len(parts)))
    directories.update(path for path in drawn if draw(st.booleans()))
    paths = {path: path in directories for path in sorted({*drawn, *directories})}
    places = draw(st.lists(st.sampled_from([b"", b"", *sorted(directories)]), max_size=3, unique=True))
    return Scene(
        paths,
        {
            place: draw(
                ignore_files(
                    [path[len(place) + 1 if place else 0 :] for path in paths if path.startswith(place)] or [b"a"]
                )
            )
            for place in places
        },
        draw(ignore_files(list(paths))) if draw(st.integers(0, 3)) == 0 else b"",
        draw(st.booleans()),
    )


@pytest.mark.slow
@settings(max_examples=2 * settings().max_examples, suppress_health_check=list(HealthCheck))
@given(scene=scenes())
def test_verdicts_are_those_of_git(git: GitOracle, scene: Scene) -> None:
    """Every path of a generated tree is ignored exactly where git ignores it."""
    assert ours(scene) == git.ignored(scene)


# --- rules worth a line of their own ---------------------------------------------------------------------

CASES: list[tuple[bytes, list[bytes]]] = [
    # white space, marks, ends of lines
    (b"a\t", [b"a", b"a\t"]),
    (b"a ", [b"a", b"a "]),
    (b"a\\ ", [b"a", b"a "]),
    (b"a\\  ", [b"a", b"a "]),
    (b"a\\\\ ", [b"a\\", b"a\\ "]),
    (b" a", [b"a", b" a"]),
    (b"a\r\nb\r", [b"a", b"b", b"b\r"]),
    (b"a\rb", [b"a\rb"]),
    (b"\xef\xbb\xbf#a\nb\n\xef\xbb\xbfc", [b"#a", b"b", b"c"]),
    (b"a\0b", [b"a"]),
    (b"!\n#a\n\\#b\n\\!c\n#", [b"#a", b"#b", b"!c", b"#", b"!"]),
    (b"/\n//\n\r\n \n", [b"a", b"a/b"]),
    # backslashes
    (b"a\\", [b"a", b"a\\"]),
    (b"*\\", [b"a\\"]),
    (b"\\a\n\\\\b", [b"a", b"\\b"]),
    (b"\\/a", [b"a"]),
    (b"a\\/", [b"a/b"]),
    # stars
    (b"**", [b"a", b"a/b"]),
    (b"**/", [b"a", b"b/c"]),
    (b"/**/", [b"a", b"b/c"]),
    (b"a/**", [b"a/b", b"a/b/c", b"b"]),
    (b"a/**\n!a/b", [b"a/b", b"a/c"]),
    (b"a/**/b", [b"a/b", b"a/x/b", b"a/x/y/b", b"ab"]),
    (b"a/***/b", [b"a/b", b"a/x/y/b"]),
    (b"***/a", [b"a", b"x/y/a"]),
    (b"**a/b", [b"xa/b", b"y/a/b", b"a/b"]),
    (b"a**/b", [b"ab", b"a/b", b"ax/b", b"a/x/b", b"ax/y/b"]),
    (b"x/a**", [b"x/a", b"x/ab", b"x/a/b/c"]),
    (b"*/a**/b", [b"x/a/y/b", b"x/ab", b"x/ay/b"]),
    (b"a/b**", [b"a/bc", b"a/bd/e"]),
    (b"**\\/a", [b"a", b"b/a"]),
    (b"**/a/**/b*c/**/d", [b"x/a/bc/d", b"a/b/a/bxc/y/d", b"a/bc/x"]),
    (b"*a*b*c", [b"abc", b"xaxbxbxc", b"acb"]),
    (b"/a*", [b"ab", b"b/ab", b"a/b"]),
    # brackets
    (b"[a", [b"a", b"[a"]),
    (b"[]", [b"[]", b"]"]),
    (b"[]a]", [b"a", b"]", b"b"]),
    (b"[!]a]", [b"a", b"]", b"b"]),
    (b"[^a]", [b"a", b"^", b"b"]),
    (b"[\\]]", [b"]", b"\\]", b"\\"]),
    (b"[a\\-c]", [b"a", b"b", b"-", b"c"]),
    (b"[\\a-c]", [b"b", b"\\"]),
    (b"[a-\\c]", [b"b", b"\\", b"-"]),
    (b"[z-a]", [b"m", b"z", b"a", b"-"]),
    (b"[a-c-e]", [b"b", b"d", b"-", b"e"]),
    (b"[--a]", [b"-", b"A", b"a", b"b"]),
    (b"[]-a]", [b"]", b"^", b"a", b"-"]),
    (b"[[:]", [b"[", b":"]),
    (b"[[:a]", [b"[", b":", b"a"]),
    (b"[[::]]", [b":", b"[", b":]"]),
    (b"[[:nope:]]", [b"n", b"n]"]),
    (b"[a-[:digit:]]", [b"b", b"1", b"Z", b"Z]", b"d]"]),
    (b"[[:digit:]-z]", [b"1", b"-", b"z", b"m"]),
    (b"x/a[/]b", [b"x/a/b"]),
    (b"x/[!a]b", [b"x/bb", b"x/ab"]),
    (b"[\x80-\xff]", [b"\xff", b"\xc3", b"a"]),
    (b"?", [b"\xff", b"\xc3\xa9", b"\n"]),
    # order, directories, taking back
    (b"a/\n!a/b", [b"a/b"]),
    (b"a/*\n!a/b", [b"a/b", b"a/c"]),
    (b"*\n!a", [b"a", b"b", b"d/a"]),
    (b"*\n!*/\n!a", [b"a", b"b", b"d/a", b"d/b"]),
    (b"a/b/\n!a/", [b"a/b/c"]),
    (b"a/", [b"a", b"b/a", b"b/a/c"]),
]


@pytest.mark.parametrize(("rules", "files"), CASES, ids=[repr(rules)[2:-1] for rules, _ in CASES])
def test_telling_rules_have_git_s_verdict(git: GitOracle, rules: bytes, files: list[bytes]) -> None:
    """Rules at the edge of the syntax mean what git takes them for."""
    paths = {}
    for file in files:
        parts = file.split(b"/")
        paths.update({b"/".join(parts[:size]): True for size in range(1, len(parts))})
    paths = {**dict.fromkeys(files, False), **paths}
    scene = Scene(paths, {b"": rules}, b"")
    assert ours(scene) == git.ignored(scene)


def test_classes_hold_git_s_characters(git: GitOracle) -> None:
    """Each named class holds the bytes that git's own tables give it."""
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"./"]
    for name in b"alnum alpha blank cntrl digit graph lower print punct space upper xdigit".split():
        scene = Scene(dict.fromkeys(names, False), {b"": b"[[:" + name + b":]]\n"}, b"")
        assert ours(scene) == git.ignored(scene), name


def test_files_overrule_each_other_as_in_git(git: GitOracle) -> None:
    """The innermost file that says something decides; the exclude file comes last."""
    paths = {
        b"d": True,
        b"d/e": True,
        b"d/e/a": False,
        b"d/a": False,
        b"a": False,
        b"b": False,
        b"d/b": False,
        b"d/e/b": False,
    }
    scene = Scene(paths, {b"": b"a\n!b\n", b"d": b"!a\n/b\n", b"d/e": b"a\n!/b\n"}, b"b\nd/e/\n!a\n")
    assert ours(scene) == git.ignored(scene)
    assert ours(scene)[b"d/e/a"]


def test_the_installed_git_is_found() -> None:
    """The version that rules are read by is the one that `git` says it has."""
    words = subprocess.run(["git", "version"], capture_output=True, check=True, text=True).stdout.split()
    assert installed_git() == tuple(map(int, words[2].split(".")[:2]))
