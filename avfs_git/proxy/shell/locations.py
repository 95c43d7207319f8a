"""Where the paths of a command lie: in the workspace, outside of it, or somewhere that is not known before it runs.

Decided here: how a word becomes a location, and which places outside may be read, or written, without a question.
`shell` and `classify` call this. Pure functions: nothing is looked up, so that a symbolic link that leads outside is
not seen.

A location is a text: `:` and a path from the root of the workspace, an absolute path outside, or `NOWHERE`. Where
`UNKNOWN` stands in it, it may turn out as any other.
"""

from __future__ import annotations

import posixpath

from avfs_git.patterns import compiled
from avfs_git.proxy.shell.words import AMBIENT, GLOB, HOME, PLAIN, ROOT, UNKNOWN

NOWHERE = UNKNOWN
"""The location of which nothing is known."""

DEVICES = compiled(r"/dev/(?:null|zero|full|u?random|stdin|stdout|stderr|tty|fd/\d+)")
"""Devices that hold no data."""
_SCRATCH = compiled(r"/(?:var/)?tmp/(?!ssh-)[^/].*|/(?:var/)?tmp")
_SYSTEM = compiled(
    r"/(?:usr|bin|sbin|lib|lib32|lib64|libx32|opt|nix/store|sys/devices/system|sys/fs/cgroup)(?:/.*)?"
    r"|/etc/(?:os-release|lsb-release|debian_version|alpine-release|redhat-release|issue|hostname|hosts|timezone|localtime|shells"
    r"|services|protocols|mime\.types|resolv\.conf|nsswitch\.conf|profile|bash\.bashrc|apt/sources\.list(?:\.d/.*)?|alternatives/.*|ld\.so\.conf(?:\.d/.*)?|ssl/certs(?:/.*)?|ca-certificates(?:/.*)?)"
    r"|/proc/(?:cpuinfo|meminfo|loadavg|version|uptime|stat|filesystems|self/(?:status|limits|cgroup))"
)
"""Programs and their data, and what they say of the machine: much the same on every machine, and no secret."""
_TOOLCHAIN = compiled(
    r"(?:/~[^/]*|/\$HOME|/home/[^/]+|/root|/Users/[^/]+)/"
    r"(?:\.cargo(?=/)(?!/[^/]*[*?\[]|/config(?:/|\.|$))|\.rustup|\.nvm|\.pyenv|\.rbenv|\.asdf|\.volta|\.fnm|\.bun|\.deno|\.goenv|go|\.sdkman|\.jenv|\.nodenv|\.gradle/caches"
    r"|\.m2/repository|\.npm|\.local/bin|\.local/lib|\.local/share/(?:mise|uv|pnpm|virtualenvs|pypoetry|fnm)|\.conda|miniconda3|anaconda3"
    r"|\.cache/(?:pip|uv|pypoetry|go-build|yarn|pre-commit|node|deno|bazel|ccache))(?:/(?!\.?credentials|\.npmrc|\.condarc)[^/]*)*"
)


def locate(value: str, directory: str, mountpoint: str | None) -> str:
    """Tell where a path lies."""
    if value.startswith(UNKNOWN):
        return NOWHERE
    if value.startswith(ROOT):
        return _below("", value[len(ROOT) :])
    if value.startswith("/"):
        return _on_host(value, mountpoint)
    if directory == NOWHERE:
        return NOWHERE
    return _below(directory[1:], value) if directory.startswith(":") else _on_host(f"{directory}/{value}", mountpoint)


def _below(directory: str, value: str) -> str:
    parts = [part for part in directory.split("/") if part]
    for part in value.split("/"):
        if part == "..":
            if not parts:
                return "/.."
            if any(mark in parts[-1] for mark in (UNKNOWN, GLOB)):
                return NOWHERE
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return ":" + "/".join(parts)


def _on_host(value: str, mountpoint: str | None) -> str:
    parts: list[str] = []
    for part in value.split("/"):
        if part == "..":
            if parts and any(mark in parts[-1] for mark in (UNKNOWN, GLOB)):
                return NOWHERE
            parts[-1:] = []
        elif part not in {"", "."}:
            parts.append(part)
    path = "/" + "/".join(parts)
    if mountpoint is not None and (path + "/").startswith(mountpoint.rstrip("/") + "/"):
        return ":" + path[len(mountpoint.rstrip("/")) :].strip("/")
    return path


def start(cwd: str) -> str:
    """Give the location of a directory that is named from the root of the workspace."""
    return ":" + posixpath.normpath("/" + cwd.strip("/")).strip("/")


def is_inside(location: str) -> bool:
    """Whether it is proven to lie in the workspace."""
    return location.startswith(":") and UNKNOWN not in location


def is_outside(location: str) -> bool:
    """Whether it lies, or begins, outside; what is not known at all does not count."""
    return location.startswith("/")


def may_be_read(location: str) -> bool:
    """Whether reading it, though it lies outside, needs no question."""
    if UNKNOWN in location:
        return False
    return any(places.fullmatch(location) for places in (DEVICES, _SCRATCH, _SYSTEM, _TOOLCHAIN))


def may_be_written(location: str, mountpoint: str | None, *, removes: bool = False) -> bool:
    """Whether writing it, though it lies outside, needs no question: what is in a scratch directory, and devices.

    With `removes`, the scratch directory itself does not count.
    """
    if DEVICES.fullmatch(location):
        return True
    if UNKNOWN in location or (mountpoint is not None and mountpoint.startswith(location.rstrip("/") + "/")):
        return False
    is_top = location.count("/") == 1 + location.startswith("/var/")
    return _SCRATCH.fullmatch(location) is not None and not (removes and is_top)


def shown(location: str) -> str:
    """Give it as people and the rules of a policy write it: from the root of the workspace, absolute if outside."""
    text = location.removeprefix(":")
    if text.startswith(HOME):
        text = "~" + text[2:]
    elif text.startswith(AMBIENT):
        text = text[1:]
    return text.replace(UNKNOWN, "*").replace(PLAIN, "*").replace(GLOB, "*")
