"""What is known of commands: a table of programs, their options and what each may do.

Decided here: only facts. How they are put together is in `classify`, which is the only reader. A program that is not listed
is taken to change anything in the workspace. Entries are short texts, read when their program is first met:

    does      letters: r reads only · w changes files · d destroys · n network · h reaches outside · i waits for a person
    options   `NAMES: LETTERS [why]`, separated by `;`. A further letter x: the value is a command for a shell
    values    options whose value is the next word

Long options also count when they are shortened, short ones when they stand in a group. `NAME` as in the manuals.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

EVERYTHING = 99
"""As a number of words: all of them."""


class Option(NamedTuple):
    """What an option makes of a program."""

    does: str
    why: str


class Program(NamedTuple):
    """What is known of a program, or of a subcommand of one."""

    does: str = "r"
    why: str = ""
    options: str = ""
    values: str = ""
    attached: str = ""
    """Options whose value, if any, stands in the same word."""
    texts: str = ""
    """Options whose value is text, and no path."""
    flags: str = ""
    """Further options, without a value; given where it matters that all are known: of programs that run others."""
    words: bool = False
    """Options are whole words after one dash, as of `find`."""
    writes: bool = False
    """What it is given as paths it may write to."""
    text: int = 0
    """So many of its first operands are no paths."""
    reads: int = EVERYTHING
    """What stands behind so many operands is written to."""
    runs: int = -1
    """Behind so many operands stands another command; -1 for none."""
    check: str = ""
    """What else `classify` looks at."""
    subcommands: Mapping[str, Program] = MappingProxyType({})
    other: str = ""
    """What a subcommand does that is not listed; empty for a program without subcommands."""


@lru_cache(maxsize=256)
def read_options(text: str) -> dict[str, Option]:
    """Read the options of an entry."""
    found = {}
    for entry in text.split(";"):
        names, _, effect = entry.partition(":")
        does, _, why = effect.strip().partition(" ")
        for name in names.split():
            found[name] = Option(does, why)
    return found


def _same(program: Program, names: str) -> dict[str, Program]:
    return dict.fromkeys(names.split(), program)


_WRITES = Program("w", "changes files", writes=True)
_INTERPRETER = Program("w", "runs a program that is not looked into", check="interpreter")
_EDITOR = Program("wi", "edits files", writes=True)
_NET = Program("n", "talks to other machines")
_NET_WRITES = Program("nw", "talks to other machines, and may write files")
_HOST = Program("hw", "changes the machine, not the workspace")
_INSTALLS = Program("nw", "installs packages from the network", writes=True)
_RUNS = Program("w", "runs what the project says")
_RUNS_INSIDE = Program(
    "w",
    "runs in an environment of the project",
    values="--with --python -p --extra --group --project --directory --env-file --package -n --name -e --env",
    flags="--frozen --locked --isolated --no-sync -q --quiet --no-project --active --all-extras --no-dev --offline "
    "-v --verbose -y --yes --no-install --live-stream --no-capture-output",
    runs=0,
)
"""A command of the project's own environment."""
_RUN = Program("r", flags="-p -f -c -w -l --fork --ctty --wait", runs=0)

_GIT_LOOKS = (
    "--output: w writes a file; --ext-diff --textconv: w runs a program that the configuration names; --exec: x; --upload-pack: x"
)
_GIT_READS = Program("r", options=_GIT_LOOKS, values="--output --format --since --until --author -n -L -S -G --grep", text=0)
_GIT_GREP = _GIT_READS._replace(
    options=f"{_GIT_LOOKS}; -O --open-files-in-pager: x",
    attached="-O --open-files-in-pager",
    text=1,
    texts="-e",
    values="-e -f -A -B -C -m --max-depth --threads",
)
_GIT_NET = Program(
    "nw",
    "talks to another repository",
    "-u --upload-pack --receive-pack --exec: x; -f --force --force-with-lease --mirror -d --delete --prune: d overwrites "
    "branches; "
    "-c --config: w sets the configuration",
    values="-b --branch --depth -o --origin -j --jobs --reference",
    writes=True,
)
_GIT_DISCARDS = Program("d", "discards changes")


_GIT: dict[str, Program] = {
    **_same(
        _GIT_READS,
        "status log show diff blame annotate shortlog describe rev-parse rev-list ls-files ls-tree cat-file for-each-ref "
        "merge-base "
        "name-rev cherry count-objects version whatchanged show-ref show-branch diff-tree diff-index diff-files check-ignore "
        "check-attr "
        "check-mailmap verify-commit verify-tag range-diff check-ref-format var fsck merge-tree patch-id stripspace column "
        "get-tar-commit-id verify-pack",
    ),
    "grep": _GIT_GREP,
    "help": Program("i", "shows a manual page"),
    **_same(_GIT_NET, "fetch pull push clone ls-remote fetch-pack send-pack http-fetch http-push remote-http remote-https"),
    "archive": _GIT_READS._replace(
        options=f"{_GIT_LOOKS}; -o: w writes a file; --remote: n asks another repository",
        values="-o --output --remote --prefix --format",
    ),
    "clean": Program("d", "removes files that git does not know"),
    "reset": _GIT_DISCARDS,
    "restore": _GIT_DISCARDS,
    "checkout": _GIT_DISCARDS,
    "switch": Program("w", "changes files", "-f --force --discard-changes -C --force-create: d discards changes"),
    "rm": Program("d", "removes files"),
    "branch": Program(
        "r",
        options="-d -D --delete: d removes branches; -f --force -m -M --move -c -C --copy -u --set-upstream-to --unset-upstream "
        "--edit-description -t --track: w changes branches",
        values="--format --sort --contains --merged --no-merged --points-at",
        reads=0,
    ),
    "tag": Program(
        "r",
        options="-d --delete: d removes tags; -f --force -a --annotate -s --sign -m --message -F -u: w makes tags",
        values="--format --sort --contains --merged --points-at -n",
        reads=0,
    ),
    "remote": Program(
        "r",
        subcommands={"show": _GIT_NET, "update": _GIT_NET, "prune": _GIT_NET, "get-url": Program("r")},
        other="w",
    ),
    "stash": Program(
        "w",
        "changes files",
        subcommands={"list": _GIT_READS, "show": _GIT_READS, **_same(_GIT_DISCARDS, "drop clear")},
        other="w",
    ),
    "config": Program("w", "changes the configuration, which can name programs to run", check="git-config"),
    "worktree": Program("r", subcommands={"list": Program("r"), "remove": _GIT_DISCARDS, "prune": _GIT_DISCARDS}, other="w"),
    "reflog": Program(
        "r", subcommands={"show": _GIT_READS, "exists": _GIT_READS, **_same(_GIT_DISCARDS, "expire delete")}, other="r"
    ),
    "notes": Program("r", subcommands={"list": Program("r"), "show": Program("r")}, other="w"),
    "bundle": Program("w", "writes a file", subcommands={"verify": Program("r"), "list-heads": Program("r")}, other="w"),
    "submodule": Program(
        "r",
        subcommands={
            "status": Program("r"),
            "summary": Program("r"),
            "foreach": Program("w", "runs a command in each module", text=EVERYTHING, check="eval"),
            **_same(_GIT_NET, "update add sync"),
        },
        other="w",
    ),
    "symbolic-ref": Program("r", options="-d --delete: d removes a reference; -m: w", reads=1),
    "bisect": Program(
        "w", "moves between commits", subcommands={"run": Program("w", "moves between commits", runs=0)}, other="w"
    ),
    **_same(
        Program(
            "w",
            "changes the repository",
            values="-m --message -F --file -C -c --author --date -s -X --strategy",
            texts="-m --message --author --date",
        ),
        "commit merge",
    ),
    "rebase": Program(
        "w", "rewrites commits", "-x --exec: x; -i --interactive --edit-todo: i opens an editor", values="--onto -s -X"
    ),
    "format-patch": Program("w", "writes files", "--stdout: r; --output: w"),
    **_same(
        Program("d", "rewrites or removes what is recorded"),
        "filter-branch gc prune update-ref replace reflog-expire prune-packed",
    ),
    **_same(Program("wi", "opens a tool"), "difftool mergetool gui citool gitk instaweb"),
    **_same(
        Program("nh", "serves or sends to other machines"), "daemon send-email imap-send svn p4 cvsserver http-backend credential"
    ),
    **_same(Program("nw", "talks to a server of large files"), "lfs"),
    **_same(
        Program("w", "changes the repository"),
        "add mv cherry-pick revert am apply init maintenance repack pack-refs update-index read-tree write-tree "
        "commit-tree "
        "hash-object mktree mktag sparse-checkout rerere fast-import fast-export unpack-objects index-pack pack-objects "
        "checkout-index update-server-info merge-file",
    ),
}

GIT_HARMLESS_KEYS = (
    "user.",
    "author.",
    "committer.",
    "color.",
    "advice.",
    "column.",
    "core.quotepath",
    "core.abbrev",
    "core.autocrlf",
    "core.filemode",
    "core.preloadindex",
    "diff.algorithm",
    "diff.renames",
    "diff.noprefix",
    "diff.mnemonicprefix",
    "diff.context",
    "grep.",
    "init.defaultbranch",
    "log.",
    "merge.conflictstyle",
    "pull.",
    "push.default",
    "rebase.autosquash",
    "safe.directory",
    "status.",
    "gc.auto",
    "commit.gpgsign",
    "tag.gpgsign",
    "i18n.",
)
"""Keys, or beginnings of keys, of git's configuration that run nothing and write nothing."""

GIT_COMMAND_KEYS = (
    "core.pager",
    "pager.",
    "core.editor",
    "sequence.editor",
    "core.sshcommand",
    "core.askpass",
    "diff.external",
    "interactive.difffilter",
    "core.fsmonitor",
)
"""Those whose value is a command for a shell."""

_NODE_PACKAGES = Program(
    "w",
    "runs what the project says",
    subcommands={
        **_same(
            Program("nw", "installs or asks for packages from the network", writes=True),
            "install i add ci update up upgrade audit outdated publish unpublish view info show search login adduser create "
            "init dlx exec "
            "x fund ping dedupe rebuild link global import fetch deploy it install-test clean-install isntall in ins",
        ),
        **_same(Program("r"), "ls list ll la why explain root prefix bin"),
        **_same(Program("d", "removes packages"), "uninstall remove rm un unlink prune"),
        **_same(_RUNS, "run run-script test t tst start stop restart build pack version workspace workspaces"),
    },
    other="nw",
)

_PIP = Program(
    "w",
    "changes packages",
    subcommands={
        **_same(
            Program("nw", "installs or asks for packages from the network", writes=True),
            "install download wheel search index lock",
        ),
        "uninstall": Program("d", "removes packages"),
        **_same(Program("r"), "list show freeze check inspect debug help"),
    },
    other="nw",
)

_BUILDS = Program("w", "builds, which runs what the project says")

PROGRAMS: dict[str, Program] = {
    # --- looking -------------------------------------------------------------------------------------------
    **_same(
        Program("r"),
        "ls dir vdir cat tac head tail wc cut paste nl od hexdump strings cmp diff3 comm join fold fmt expand unexpand column "
        "rev "
        "pr stat du df realpath readlink md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum sum base64 base32 "
        "tsort nproc free ps pgrep pidof lsof uptime whoami id groups who w uname arch tty getconf locale lscpu lsblk printenv "
        "nm "
        "size objdump readelf zcat bzcat xzcat zstdcat zgrep zipinfo lsattr getfacl getfattr whereis colordiff wdiff "
        "exa eza lsd tokei cloc scc shellcheck namei mountpoint findmnt logname users sleep "
        "pwdx pstree vmstat iostat dircolors",
    ),
    **_same(
        Program("r", text=EVERYTHING),
        "echo true false : expr seq yes factor numfmt basename dirname cal printf pwd type which whatis apropos tput uuidgen "
        "caller dirs jobs times return exit break continue shift wait ulimit umask getopts set shopt disown suspend logout "
        "getent",
    ),
    **_same(Program("r"), "cd pushd popd"),
    **_same(Program("r", check="test"), "test [ [["),
    **_same(
        Program("r", text=EVERYTHING, check="test"), "let unset local export declare typeset readonly read mapfile readarray"
    ),
    "tr": Program("r", text=EVERYTHING),
    "diff": Program("r", options="--output: w", values="--output"),
    **_same(
        Program(
            "r",
            texts="-e --regexp --include --exclude",
            values="-A -B -C -m -e -f --include --exclude --exclude-dir -d -D",
            text=1,
        ),
        "grep egrep fgrep",
    ),
    "rg": Program(
        "r",
        options="--pre --hostname-bin: x",
        texts="-e --regexp -g --glob -r --replace",
        values="-A -B -C -m -e -f -g -t -T -r --glob --type --iglob --max-depth --sort -d -j -M --colors --pre-glob",
        text=1,
    ),
    "ag": Program("r", options="--pager: x", values="-A -B -C -m -G --ignore", text=1),
    "ack": Program("r", options="--pager: x", values="-A -B -C -m", text=1),
    "sort": Program(
        "r",
        options="-o --output: w writes a file; --compress-program: x; -T --temporary-directory: w",
        values="-o --output -T --temporary-directory -k -t -S --key --field-separator --parallel --batch-size",
    ),
    "uniq": Program("r", values="-f -s -w --skip-fields --skip-chars --check-chars", reads=1),
    "xxd": Program("r", values="-c -g -l -o -s -n -R", reads=1),
    "shuf": Program("r", options="-o --output: w writes a file", values="-o --output -n -i -e"),
    "tree": Program("r", options="-o: w writes a file; -R: w may write files", values="-o -L -P -I -H -T --filelimit"),
    "file": Program("r", options="-C --compile: w writes a file", values="-m -f -F -e"),
    "date": Program("r", options="-s --set: h sets the clock", values="-d -f -r --date --file --reference", text=EVERYTHING),
    "hostname": Program("r", options="-F --file -b: h names the machine", check="hostname"),
    "jq": Program("r", values="--arg --argjson --indent -f --from-file -L", text=1),
    "yq": Program("r", options="-i --inplace --in-place -s --split-exp: w changes files", values="-o -p", text=1),
    "xmllint": Program("r", options="--output -o: w writes a file", values="--output -o --xpath --encode"),
    "find": Program("r", words=True, check="find"),
    **_same(Program("r", check="fd", values="-e -t -d -E -S --extension --type --max-depth --exclude", text=1), "fd fdfind"),
    "locate": Program("r", text=EVERYTHING),
    "less": Program("wi", "shows pages and runs what is typed", "-o -O --log-file --LOG-FILE: w writes a file"),
    **_same(Program("wi", "shows pages and runs what is typed"), "more most pg man info"),
    **_same(Program("r", options="--pager: x"), "bat batcat delta"),
    **_same(Program("wi", "waits at a terminal"), "top htop btop dialog whiptail"),
    **_same(Program("r", text=EVERYTHING, check="bc"), "bc dc"),
    "openssl": Program("nw", "may talk to other machines"),
    "sdiff": Program("r", options="-o --output: w writes a file; --diff-program: x", values="-o --output"),
    "compgen": Program("r", options="-C -F: w runs a command", text=EVERYTHING),
    "history": Program("r", options="-w -a -n -r: h writes the history of the shell; -c -d: d"),
    # --- the shell itself ----------------------------------------------------------------------------------
    **_same(Program("r", text=EVERYTHING, check="shell"), "sh bash dash ash ksh mksh zsh rbash"),
    **_same(
        Program("wdnh", "is a shell whose language avfs does not read", check="other-shell"),
        "fish csh tcsh pwsh nu elvish xonsh rc es",
    ),
    "eval": Program("r", text=EVERYTHING, check="eval"),
    "trap": Program("r", text=EVERYTHING, check="trap"),
    "alias": Program("r", text=EVERYTHING, check="alias"),
    "unalias": Program("r", text=EVERYTHING),
    **_same(Program("r", check="source"), "source ."),
    **_same(Program("w", "changes what commands mean"), "enable bind complete compopt hash ldd"),
    **_same(Program("wi", "edits and runs commands"), "fc"),
    "coproc": _RUN,
    # --- what runs other commands --------------------------------------------------------------------------
    **_same(
        _RUN,
        "nohup builtin noglob nocorrect setsid chronic exec catchsegv fakeroot pseudo eatmydata",
    ),
    "command": Program("r", flags="-p -v -V", runs=0, check="command"),
    "env": Program(
        "r",
        values="-S --split-string -u -C --unset --chdir",
        flags="-i -0 -v --ignore-environment --null --debug",
        runs=0,
        check="env",
    ),
    "nice": Program("r", values="-n --adjustment", flags="-0 -1 -2 -3 -4 -5 -6 -7 -8 -9", runs=0),
    "ionice": Program("r", options="-p -P -u: h", values="-c -n --class --classdata", flags="-t --ignore", runs=0),
    "chrt": Program("r", values="-T -P -D", flags="-b -f -i -o -r -d --batch --fifo --idle --other --rr", runs=1),
    "taskset": Program("r", flags="-c --cpu-list", runs=1),
    "timeout": Program(
        "r", values="-s -k --signal --kill-after", flags="-p -f -v --foreground --preserve-status --verbose", runs=1
    ),
    "stdbuf": Program("r", values="-i -o -e --input --output --error", runs=0),
    "unbuffer": _RUN,
    "flock": Program(
        "w",
        "makes a lock",
        "-c --command: x",
        values="-w -E --timeout --wait --conflict-exit-code",
        flags="-n -x -e -s -u -o -F -v --nonblock --exclusive --shared --unlock --close",
        runs=1,
        check="flock",
    ),
    "time": Program(
        "r",
        options="-o --output: w writes a file",
        values="-o --output -f --format",
        flags="-a -p -v -q --append --portability --verbose",
        runs=0,
    ),
    "xargs": Program(
        "r",
        options="-p --interactive: i asks",
        values="-I -n -L -P -d -E -s -a --max-args --max-procs --delimiter --arg-file --max-lines --max-chars --process-slot-var "
        "--replace-str",
        attached="-i -e -l --replace --eof --max-lines",
        flags="-0 -r -t -x -o --null --no-run-if-empty --verbose --exit --open-tty --show-limits",
        runs=0,
        check="xargs",
    ),
    "parallel": Program(
        "w",
        "runs commands that it makes up",
        values="-j -N -I --jobs --joblog --results -a --colsep -S --delay --timeout --retries",
        flags="-k -0 -m -X --keep-order --null --bar --progress --eta --halt -u --ungroup -v -t --will-cite",
        runs=0,
        check="parallel",
    ),
    "watch": Program("ri", "shows pages", values="-n --interval", text=EVERYTHING, check="eval"),
    "entr": Program("w", "runs commands when files change", flags="-a -c -d -n -p -r -s -x -z", runs=0),
    "script": Program("w", "writes a file", options="-c --command: x"),
    "expect": Program("w", "runs a program that is not looked into"),
    "busybox": Program("r", text=EVERYTHING, check="busybox"),
    **_same(
        Program(
            "h",
            "runs with other rights",
            values="-u -g -U -C -h -p -r -t -T -D --user --group",
            flags="-n -E -H -S -k -K -b -A -i -s -P --preserve-env --non-interactive --login --set-home",
            runs=0,
            check="env",
        ),
        "sudo doas pkexec",
    ),
    "su": Program("h", "runs with other rights", "-c --command: x"),
    "runuser": Program("h", "runs with other rights", "-c --command: x", values="-u -g", runs=0),
    "setpriv": Program("h", "runs with other rights", runs=0),
    **_same(Program("h", "leaves the workspace", runs=1), "chroot"),
    **_same(
        Program(
            "h",
            "leaves the workspace",
            values="-t -S -G",
            flags="-r -m -n -p -f -U -u -i -C -T -c -a --user --mount --net --pid --fork --map-root-user",
            runs=0,
        ),
        "unshare nsenter bwrap systemd-run firejail",
    ),
    **_same(Program("hw", "looks into other programs", values="-e -o -p -s -u -E -P"), "strace ltrace gdb lldb perf bpftrace"),
    # --- changing files ------------------------------------------------------------------------------------
    **_same(
        _WRITES,
        "touch mkdir cp ln install tee split csplit chmod chown chgrp chattr setfacl setfattr mkfifo mknod zip unzip gzip "
        "gunzip bzip2 "
        "bunzip2 xz unxz zstd unzstd lz4 7z 7za unrar cpio ar dos2unix unix2dos convert magick ffmpeg iconv sponge msgfmt gpg "
        "rename prename mmv patch sqlite3 prettier black isort autopep8 yapf rustfmt gofmt goimports clang-format ruff eslint",
    ),
    "mv": Program("w", "moves files", "-f --force: d overwrites without asking", writes=True),
    "rm": Program(
        "w", "removes files", "-r -R --recursive: d removes whole directories; -f --force: d removes without asking", writes=True
    ),
    "rmdir": Program("w", "removes directories", writes=True),
    "unlink": Program("d", "removes a file", writes=True),
    "shred": Program("d", "destroys files", writes=True),
    "truncate": Program("d", "cuts files", values="-s -r --size --reference", writes=True),
    "dd": Program("d", "overwrites what it is told", writes=True),
    "mktemp": Program(
        "w", "makes a file", options="-p --tmpdir -t: h makes it outside", values="--suffix", check="mktemp", writes=True
    ),
    "sed": Program(
        "r",
        options="-i --in-place: w changes files",
        values="-e -f -l --expression --file --line-length",
        attached="-i",
        texts="-e --expression",
        text=EVERYTHING,
        check="sed",
    ),
    **_same(
        Program(
            "r",
            options="-i --include -l --load -E --exec: w loads code; -o -p -d: w writes files",
            values="-F -v -W -f -e --file --source --assign --field-separator",
            texts="-F -v -e --source --field-separator --assign",
            text=EVERYTHING,
            check="awk",
        ),
        "awk gawk mawk nawk",
    ),
    "tar": Program(
        "w",
        "writes files",
        "--to-command -I --use-compress-program --rsh-command --rmt-command -F --info-script --new-volume-script: x; "
        "--checkpoint-action: x; --remove-files --recursive-unlink --overwrite: d removes files",
        values="-f -C -T -X --file --directory --exclude --files-from --exclude-from -b -H -V --transform --owner --group --mode",
        writes=True,
        check="tar",
    ),
    "rsync": Program(
        "w",
        "copies files",
        "-e --rsh --rsync-path: x; --delete --del --delete-before --delete-after --delete-excluded --remove-source-files: d "
        "removes files",
        values="--exclude --include --filter -f --exclude-from --include-from --files-from",
        writes=True,
        check="remote",
    ),
    **_same(
        _EDITOR,
        "vi vim nvim view ex ed red nano pico emacs emacsclient joe mcedit micro helix hx code subl gedit kate sensible-editor",
    ),
    # --- building and interpreters -------------------------------------------------------------------------
    **_same(
        _INTERPRETER,
        "perl ruby node nodejs deno bun lua luajit php Rscript R julia tclsh wish guile racket sbcl ghci irb scala kotlin "
        "groovy osascript",
    ),
    **_same(_INTERPRETER._replace(check="python"), "python python2 python3 pypy pypy3 ipython"),
    **_same(
        _BUILDS,
        "make gmake bmake nmake ninja cmake ctest meson scons bazel bazelisk buck buck2 ant mvn mvnw gradle gradlew sbt lein "
        "rake just task tox nox "
        "pytest py.test jest mocha vitest tsc webpack vite rollup esbuild gulp grunt gcc g++ cc c++ clang clang++ ld as ar "
        "rustc javac java "
        "jar kotlinc swiftc ocaml dune ghc mypy pyright pylint flake8 autoconf automake autoreconf configure libtool pkg-config "
        "cython f2py nasm "
        "protoc flex bison pandoc pdflatex xelatex latex latexmk sphinx-build mkdocs pre-commit lerna nx turbo",
    ),
    **_same(_NODE_PACKAGES, "npm pnpm yarn"),
    **_same(
        Program("nw", "fetches and runs packages"),
        "yarnpkg pipx corepack nvm fnm volta rbenv pyenv sdk asdf mise",
    ),
    **_same(
        Program(
            "nw",
            "fetches and runs packages",
            values="-p --package --from --with -c --python",
            flags="-y --yes --no-install -q",
            runs=0,
        ),
        "npx bunx pnpx uvx",
    ),
    **_same(_PIP, "pip pip2 pip3"),
    "uv": Program(
        "nw",
        "installs packages from the network",
        subcommands={"pip": _PIP, "run": _RUNS_INSIDE, "tree": Program("r"), "version": Program("r")},
        other="nw",
    ),
    **_same(
        Program(
            "nw",
            "installs packages from the network",
            subcommands={
                "run": _RUNS_INSIDE,
                "shell": Program("wi", "starts a shell"),
                **_same(Program("r"), "show list check"),
                "build": _BUILDS,
            },
            other="nw",
        ),
        "poetry pipenv pdm hatch rye conda mamba micromamba",
    ),
    "cargo": Program(
        "w",
        "builds, which runs what the project says",
        subcommands={
            **_same(_INSTALLS, "install add update fetch publish search login owner yank generate-lockfile vendor"),
            **_same(Program("r"), "tree metadata version locate-project pkgid read-manifest"),
            "clean": Program("d", "removes build output"),
            "uninstall": Program("d", "removes packages"),
            **_same(_BUILDS, "build b check c test t run r bench doc clippy fmt fix rustc rustdoc package new init remove"),
        },
        other="nw",
    ),
    "go": Program(
        "w",
        "builds, which runs what the project says",
        subcommands={
            **_same(_INSTALLS, "get install mod work"),
            **_same(Program("r"), "version list"),
            "env": Program("r", options="-w -u: h changes the settings of go"),
            "doc": Program("r"),
            **_same(
                Program("w", "builds, which runs what the project says", "-exec -toolexec -vettool: w"),
                "build test run vet generate fmt fix tool",
            ),
            "clean": Program("d", "removes build output"),
        },
        other="nw",
    ),
    **_same(
        Program(
            "nw",
            "installs packages from the network",
            subcommands={**_same(Program("r"), "list show info outdated"), "exec": _RUNS_INSIDE},
            other="nw",
        ),
        "gem bundle bundler composer cabal stack mix rebar3 hex dotnet nuget swift pod flutter dart opam luarocks cpan cpanm "
        "rustup ghcup",
    ),
    # --- other machines ------------------------------------------------------------------------------------
    "curl": Program(
        "n",
        "talks to other machines",
        "-o --output -O --remote-name --remote-name-all -c --cookie-jar -D --dump-header --trace --trace-ascii --stderr "
        "--libcurl "
        "--output-dir --etag-save --hsts --alt-svc -J: w writes a file; -K --config: w reads its options from a file",
        values="-o --output -c --cookie-jar -D --dump-header --trace --trace-ascii --stderr --output-dir -K --config "
        "-H -d -X -u -A -e -b -F -T -x --header --data "
        "--data-raw --data-binary --request --user --url -m --max-time --retry "
        "-w --connect-timeout --form",
    ),
    "wget": Program("nw", "fetches files from the network", "--use-askpass: x", writes=True),
    **_same(
        _NET_WRITES,
        "aria2c axel lynx w3m links elinks http https httpie xh youtube-dl yt-dlp ftp sftp tftp lftp rclone s3cmd "
        "magic-wormhole wormhole croc",
    ),
    **_same(
        Program(
            "nw",
            "talks to other machines",
            "-o: w sets options, which can run commands; -F: w; -E: w; -L -R -D -w: n",
            values="-p -i -l -b -c -J -m -P -S",
        ),
        "ssh scp autossh mosh sshfs ssh-copy-id",
    ),
    **_same(Program("nw", "talks to other machines", "-e --exec -c --sh-exec: x", values="-p -s -w"), "nc ncat netcat"),
    **_same(_NET_WRITES, "socat telnet rsh rlogin rexec"),
    **_same(_NET, "ping ping6 traceroute tracepath mtr dig nslookup host drill whois nmap arp iperf iperf3 finger"),
    **_same(
        Program("nh", "talks to other machines or services"),
        "kubectl helm aws gcloud az gh glab hub heroku flyctl vercel netlify wrangler firebase terraform tofu pulumi ansible "
        "ansible-playbook vagrant "
        "psql mysql mysqldump pg_dump mongo mongosh redis-cli mail sendmail mutt msmtp twine svn hg bzr fossil cvs",
    ),
    "git": Program(
        "r",
        check="git",
        attached="--exec-path",
        values="-c --config-env -C --git-dir --work-tree --namespace",
        subcommands=_GIT,
        other="w",
    ),
    # --- the machine ---------------------------------------------------------------------------------------
    **_same(
        Program("nhw", "installs packages into the machine"),
        "apt apt-get aptitude dpkg rpm dnf yum zypper pacman apk brew port snap flatpak emerge nix nix-env nix-shell guix",
    ),
    **_same(
        _HOST,
        "mount umount fusermount fusermount3 losetup mkfs mkswap swapon swapoff fdisk parted sfdisk cryptsetup lvm systemctl "
        "service rc-service "
        "initctl journalctl crontab at batch shutdown reboot halt poweroff init telinit insmod rmmod modprobe sysctl iptables "
        "ip6tables nft ufw ip ifconfig "
        "route tc useradd userdel usermod groupadd passwd chpasswd chsh visudo vipw setcap ldconfig update-alternatives "
        "hostnamectl "
        "timedatectl loginctl docker podman nerdctl ctr crictl lxc lxd virsh qemu-system-x86_64 tmux screen zellij xdg-open "
        "open start-stop-daemon killall "
        "pkill xkill renice hwclock dmesg launchctl defaults security pbcopy pbpaste xclip xsel wl-copy wl-paste ssh-agent "
        "ssh-add ssh-keygen gpg-agent dbus-send "
        "gdbus busctl avfs",
    ),
    "kill": Program("w", "ends programs", values="-s -n", check="kill"),
}
"""Every program that is known."""

SAFE_ENDINGS = frozenset({"--version", "--help"})
"""As the only argument, most programs only say something."""

COMMAND_VARIABLES = frozenset(
    """PAGER GIT_PAGER MANPAGER LESSOPEN LESSCLOSE GIT_EXTERNAL_DIFF GIT_SSH_COMMAND GIT_SSH GIT_EDITOR GIT_SEQUENCE_EDITOR
    EDITOR VISUAL FCEDIT GIT_ASKPASS SSH_ASKPASS SUDO_ASKPASS GIT_PROXY_COMMAND RSYNC_RSH CVS_RSH TAR_RSH BROWSER PROMPT_COMMAND
    SYSTEMD_PAGER BAT_PAGER AWS_PAGER GH_PAGER DELTA_PAGER MANROFFOPT
    GIT_DIFFTOOL_EXTCMD RUSTC_WRAPPER CC CXX LD AR""".split()  # noqa: SIM905 - names read best as one text
)
"""Variables whose value is run by programs that find them."""

CODE_VARIABLES = (
    "BASH_ENV",
    "BASH_FUNC_",
    "BASHOPTS",
    "BASH_LOADABLES_PATH",
    "CDPATH",
    "CLASSPATH",
    "DYLD_",
    "ENV",
    "GCONV_PATH",
    "GIT_ATTR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_EXEC_PATH",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_TEMPLATE_DIR",
    "GIT_WORK_TREE",
    "GREP_OPTIONS",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LD_",
    "LESS",
    "LOCPATH",
    "MAKEFILES",
    "MAKEFLAGS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NPM_CONFIG_",
    "npm_config_",
    "PATH",
    "PERL5",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PIP_",
    "PS4",
    "PYTHON",
    "RIPGREP_CONFIG_PATH",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTFLAGS",
    "SHELLOPTS",
    "TAR_OPTIONS",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
)
"""Variables, or beginnings of their names, that make programs load code, or options that can run some."""

CODE_VARIABLES_WHOLE = frozenset({"ENV", "IFS", "PATH", "LESS", "PS4", "GIT_DIR"})
"""Of these, those that count as whole names only."""

SYSTEM_PROGRAMS = ("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/local/sbin/", "/opt/homebrew/bin/")
"""Where a program with a path is the one of that name."""

SYSTEM_FILES = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/proc/cpuinfo",
    "/proc/meminfo",
)
"""What may be read without reaching outside: programs and their data, the same on every machine."""

DEVICES = frozenset(
    {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty"}
)
"""Devices that hold nothing of anybody."""
