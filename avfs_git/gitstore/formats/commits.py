"""What a git commit says: parsed from bytes and written to bytes.

Decided here: the header `avfs-sidecar` that ties a checkpoint to its sidecar, which odd commits of other programs are
accepted, and that what is written passes `git fsck --strict` with any names and clocks of its authors. Pure functions.
"""

from __future__ import annotations

import codecs

from avfs_git.errors import InvalidInput, ObjectCorrupt
from avfs_git.paths import Oid, oid_of
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple, value_class

SIDECAR_HEADER = b"avfs-sidecar"

_LAST_SECOND_S = 253402300799  # the end of year 9999, the last that a date has a name for
_OWN_HEADERS = frozenset({b"tree", b"parent", b"author", b"committer", SIDECAR_HEADER})
_HEX_OID = compiled(rb"[0-9a-f]{40}")
# A commit as git writes it, with its sidecar; any other commit is read as a whole. `fromhex` passes over ends of lines.
_LINKS = compiled(
    rb"tree [0-9a-f]{40}\n((?:parent [0-9a-f]{40}\n)*)author [^\n]+\n"
    rb"committer [^\n<>]*<[^\n<>]*> ([0-9]{1,11}) [+-][0-9]{4}\n"
    rb"(?:avfs-sidecar [0-9a-f]{40}\n)?(?:\n|(?:encoding|gpgsig|mergetag) )"
)
_WHEN = compiled(rb" *(\d+)(?: +([+-])(\d{1,2})(\d\d))?")

# Encodings that an `encoding` header may name: encodings that keep ASCII as it is. Others could hide what a header
# says.
_ENCODINGS = frozenset(
    {"ascii", "utf-8", "koi8-r", "koi8-u", "shift_jis", "euc_jp", "euc_kr", "gb2312", "gbk", "gb18030", "big5"}
    | {f"iso8859-{part}" for part in range(1, 17)}
    | {f"cp{page}" for page in range(1250, 1259)}
)


@value_class
class Signature:
    """A person and a time."""

    name: str
    email: str
    when_s: int
    """Seconds since the epoch."""
    offset_min: int = 0
    """Of their clock from UTC."""


@value_class
class Commit:
    """A commit, decoded; `extra` holds the headers that nothing here needs, as they stand."""

    tree: Oid
    parents: tuple[Oid, ...]
    author: Signature
    committer: Signature
    message: str
    sidecar: Oid | None = None
    """The commit that keeps what this one's tree cannot."""
    extra: tuple[tuple[bytes, bytes], ...] = ()


class Links(NamedTuple):
    """Of a commit, what a walk through history needs."""

    parents: tuple[Oid, ...]
    when_s: int
    """When it was committed, in seconds since the epoch."""


def parse_links(data: bytes, oid: Oid) -> Links:
    """Read of a commit object what leads to others; a tenth of what reading all of it takes.

    Raises:
        ObjectCorrupt: As `parse_commit`, but for what stands behind the committer, which is not always looked at.
    """
    found = _LINKS.match(data)
    if found is None:
        commit = parse_commit(data, oid)
        return Links(commit.parents, commit.committer.when_s)
    lines, when = found.groups()
    parents = bytes.fromhex(lines.decode("ascii").replace("parent ", "")) if lines else b""
    return Links(tuple([Oid(parents[at : at + 20]) for at in range(0, len(parents), 20)]), int(when))


def parse_commit(data: bytes, oid: Oid) -> Commit:
    """Read a commit object; bytes that its encoding does not explain come as surrogate escapes.

    Raises:
        ObjectCorrupt: If a header that every commit has is missing or makes no sense.
    """
    head, separator, message = data.partition(b"\n\n")
    if not separator:
        head = head.removesuffix(b"\n")
    tree: Oid | None = None
    parents: list[Oid] = []
    author = committer = b""
    sidecar: Oid | None = None
    extra: list[tuple[bytes, bytes]] = []
    for line in head.replace(b"\n ", b"\0").split(b"\n"):  # a header's further lines start with a space
        key, _, value = line.partition(b" ")
        if key == b"tree" and tree is None:
            tree = _oid(value, oid)
        elif key == b"parent":
            parents.append(_oid(value, oid))
        elif key == b"author" and not author:
            author = value
        elif key == b"committer" and not committer:
            committer = value
        elif key == SIDECAR_HEADER and sidecar is None:
            sidecar = _oid(value, oid)
        else:
            extra.append((key, value.replace(b"\0", b"\n")))
    if tree is None or not author or not committer:
        raise ObjectCorrupt(oid.hex(), "a header of the commit is missing")
    encoding = _encoding_of(extra)
    return Commit(
        tree,
        tuple(parents),
        _parse_signature(author, encoding),
        _parse_signature(committer, encoding),
        message.decode(encoding, "surrogateescape"),
        sidecar,
        tuple(extra),
    )


def _oid(value: bytes, oid: Oid) -> Oid:
    if not _HEX_OID.fullmatch(value):
        raise ObjectCorrupt(oid.hex(), "a header of the commit names no object")
    return oid_of(value)


def _encoding_of(extra: list[tuple[bytes, bytes]] | tuple[tuple[bytes, bytes], ...]) -> str:
    for key, value in extra:
        if key == b"encoding":
            try:
                name = codecs.lookup(value.decode("ascii").strip()).name
            except (LookupError, ValueError):
                break
            return name if name in _ENCODINGS else "utf-8"
    return "utf-8"


def _parse_signature(line: bytes, encoding: str) -> Signature:
    """Read `NAME <EMAIL> SECONDS OFFSET`, and of a broken one as much as can be read, as git does."""
    name, _, rest = line.partition(b"<")
    email, _, _ = rest.partition(b">")
    when = _WHEN.fullmatch(rest[rest.rfind(b">") + 1 :].rstrip())
    when_s = offset_min = 0
    if when is not None:
        digits, sign, hours, minutes = when.groups()
        when_s = int(digits) if len(digits) < 20 else 0
        if when_s > _LAST_SECOND_S:
            when_s = 0
        if sign is not None:
            offset_min = int(hours) * 60 + int(minutes)
            offset_min = 0 if offset_min >= 24 * 60 else -offset_min if sign == b"-" else offset_min
    return Signature(
        name.strip().decode(encoding, "surrogateescape"),
        email.strip().decode(encoding, "surrogateescape"),
        when_s,
        offset_min,
    )


def serialize_commit(commit: Commit) -> bytes:
    """Write a commit object that `git fsck --strict` accepts.

    Characters that git cannot keep in a name are left out, as git does, and a name that is empty then is
    replaced by the e-mail address.

    Raises:
        InvalidInput: If the message holds a NUL, or text that its encoding cannot say.
    """
    if "\0" in commit.message:
        raise InvalidInput("a message may not hold a NUL character")
    encoding = _encoding_of(commit.extra)
    lines = [b"tree " + commit.tree.hex().encode("ascii")]
    lines += [b"parent " + parent.hex().encode("ascii") for parent in commit.parents]
    lines.append(b"author " + _serialize_signature(commit.author, encoding))
    lines.append(b"committer " + _serialize_signature(commit.committer, encoding))
    if commit.sidecar is not None:
        lines.append(SIDECAR_HEADER + b" " + commit.sidecar.hex().encode("ascii"))
    for key, value in commit.extra:
        if key not in _OWN_HEADERS and b"\0" not in value:
            lines.append(key + b" " + value.replace(b"\n", b"\n "))
    return b"\n".join(lines) + b"\n\n" + _encode(commit.message, encoding)


def _serialize_signature(signature: Signature, encoding: str) -> bytes:
    email = _without_crud(signature.email)
    name = _without_crud(signature.name) or email or "unknown"
    when_s = min(max(signature.when_s, 0), _LAST_SECOND_S)
    hours, minutes = divmod(min(abs(signature.offset_min), 24 * 60 - 1), 60)
    sign = "-" if signature.offset_min < 0 else "+"
    return _encode(f"{name} <{email}> {when_s} {sign}{hours:02}{minutes:02}", encoding)


def _without_crud(text: str) -> str:
    """Leave out what ends a name for git, and what git strips from its ends."""
    return text.translate(_FORBIDDEN).strip(_CRUD)


_FORBIDDEN = {ord(character): None for character in "<>\n\0\r"}
_CRUD = "".join(map(chr, range(33))) + ".,:;<>\"\\'"


def _encode(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a message or a name holds text that {error.encoding} cannot say") from error
