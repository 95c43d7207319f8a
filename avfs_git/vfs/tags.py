"""How tags and metadata of a path are spelled as extended attributes.

Decided here: the tags are `user.xdg.tags`, separated by commas, as desktop programs write them; the metadata KEY is
`user.KEY`. `workspace.files.metadata` changes them, `workspace.history.find` finds by them, `workspace.restore.carried`
merges them. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from avfs_git.errors import InvalidInput, quote
from avfs_git.paths import text_given

USER = b"user."
OVERLAY = b"overlay."
TAGS = b"user.xdg.tags"
_KEY_MAX = 250
"""The kernel takes names of 255 bytes, `user.` included."""


def tags_of(attributes: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """Pick the tags out of the attributes of an entry."""
    parts = [part.strip().decode("utf-8", "surrogateescape") for part in dict(attributes).get(TAGS, b"").split(b",")]
    return tuple(dict.fromkeys(filter(None, parts)))


def join_tags(name: bytes, before: bytes | None, ours: bytes | None, theirs: bytes | None) -> bytes | None:
    """Merge what two sides made of the tags of a path; None for an attribute that holds no tags."""
    if name != TAGS:
        return None
    old, left, right = (tags_of({TAGS: value or b""}) for value in (before, ours, theirs))
    kept = [tag for tag in left if tag in right or tag not in old]
    return format_tags(dict.fromkeys([*kept, *(tag for tag in right if tag not in old)]))


def format_tags(tags: Iterable[str]) -> bytes:
    """Spell tags as their attribute."""
    return ",".join(tags).encode("utf-8", "surrogateescape")


def attribute_of(key: str) -> bytes:
    """Name the attribute that holds a key.

    Raises:
        InvalidInput: If no attribute can.
    """
    name = _encode(key)
    if not name or b"\0" in name or len(name) > _KEY_MAX or name.startswith(OVERLAY):
        raise InvalidInput(
            f"{quote(name)} cannot be a key of metadata",
            hint=f"A key is 1 to {_KEY_MAX} bytes long and does not begin with `overlay.`, which are marks of "
            "overlayfs.",
        )
    return USER + name


def check_tag(tag: str) -> str:
    """Give a tag as it is stored.

    Raises:
        InvalidInput: If it is empty, or holds a comma or a control character.
    """
    found = text_given(tag).strip()
    if not found or "," in found or any(ord(letter) < 32 or ord(letter) == 127 for letter in found):
        raise InvalidInput(
            f"{quote(tag)} cannot be a tag", hint="A tag is a text without commas and control characters."
        )
    _encode(found)
    return found


def _encode(text: str) -> bytes:
    try:
        return text_given(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"character {error.start} of {quote(ascii(text))} cannot be written in UTF-8") from error
