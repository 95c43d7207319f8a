"""Variables of the environment that change what programs do.

Decided here: which names make a program run a command, load code or take options, and which of git's settings are
harmless. `classify` and `checks` ask. Pure functions.
"""

from __future__ import annotations

from avfs_git.patterns import compiled

_COMMAND = compiled(
    r"\w*(?:PAGER|EDITOR|ASKPASS|BROWSER)|VISUAL|FCEDIT|LESSOPEN|LESSCLOSE|PROMPT_COMMAND|\w+_RSH|\w+_WRAPPER|CC|CXX|LD|AR"
    r"|GIT_EXTERNAL_DIFF|GIT_SSH|GIT_SSH_COMMAND|GIT_PROXY_COMMAND|GIT_DIFFTOOL_EXTCMD|MANROFFOPT"
)
"""Names whose value is run by programs that find them."""

_HARMLESS = compiled(
    r"GIT_(?:AUTHOR|COMMITTER)_(?:NAME|EMAIL|DATE)|GIT_OPTIONAL_LOCKS|GIT_TERMINAL_PROMPT|GIT_MERGE_AUTOEDIT|NODE_ENV|PYTHONUNBUFFERED"
    r"|PYTHONDONTWRITEBYTECODE|PYTHONHASHSEED|PYTHONIOENCODING|PYTHONUTF8|RUST_BACKTRACE|RUST_LOG|GO111MODULE|CGO_ENABLED"
    r"|(?:NO|FORCE|CLICOLOR)_COLOR|LC_\w+|LANGUAGE"
)
_TELLING = compiled(
    # Beginnings that belong to a program, or a loader, that reads many of them.
    r"(?:LD|DYLD|GIT|BASH|PYTHON|PERL|RUBY|NODE|NPM|npm|PIP|UV|CARGO|RUST|RUSTUP|GO|JAVA|JDK|_JAVA|LUA|PHP|MAKE|MFLAGS|GNUMAKE|TAR|GREP"
    r"|RIPGREP|FZF|BAT|JQ|GZIP|XZ|ZSTD|SSH|OPENSSL|SSL|CURL|WGET|VIM|EMACS|DOTNET|MSBUILD|OCAML|JULIA|GUILE|ERL|ELIXIR|MALLOC|GLIBC"
    r"|TERMINFO|TERMCAP|DEBUGINFOD|HOSTALIASES|RES|LOCALDOMAIN|XDG|MAN|LESS|HIST|DOCKER|KUBE|AWS|BUNDLE|GEM|MOZ|QT|GTK|GCONV|TZDIR"
    r"|NLSPATH|LOCPATH|INPUTRC|EXECIGNORE|FIGNORE|GLOBIGNORE|POSIXLY|FPATH|ZDOTDIR|CDPATH|CLASSPATH|IFS|ENV|PS\d|BC|DC|TMOUT)(?:[A-Z0-9_].*)?"
    # Parts of names that speak of code, options or places.
    r"|.*(?:PATH|HOME|OPTS?$|OPTIONS|FLAGS|CONFIG|COMMAND|CMD|PRELOAD|RC$|SHELL|TOOL|EXEC|PROG|HOOK|TEMPLATE|INIT|PLUGIN|MODULE|LIB"
    r"|LOAD|PROXY|TMP|TEMP|_DIR$).*"
    r"|.*_proxy"
)
"""Names that make programs load code, or take options that can run some."""


def names_a_command(name: str) -> bool:
    """Whether programs run what a variable of that name holds."""
    return _COMMAND.fullmatch(name) is not None


def changes_programs(name: str) -> bool:
    """Whether a variable of that name may change what programs do."""
    return _HARMLESS.fullmatch(name) is None and _TELLING.fullmatch(name) is not None


GIT_HARMLESS_KEYS = compiled(
    r"(?:user|author|committer|color|advice|column|log|status|grep)\.(?!.*(?:program|command|signingkey))[\w.-]+"
    r"|core\.(?:quotepath|abbrev|autocrlf|filemode|preloadindex|untrackedcache|commentchar)|diff\.(?:algorithm|renames|noprefix"
    r"|mnemonicprefix|context|colormoved|submodule|renamelimit|wserrorhighlight)|init\.defaultbranch|merge\.conflictstyle"
    r"|pull\.(?:rebase|ff)|push\.default|rebase\.autosquash|safe\.directory|gc\.auto|commit\.gpgsign|tag\.gpgsign"
    r"|i18n\.\w+|pager\.\w+|core\.pager|versionsort\.\w+|blame\.(?:coloring|date|showemail|showroot|blankboundary)"
)
"""Settings of git that run nothing and write nothing; of those with `pager`, only if the value names no program."""

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
