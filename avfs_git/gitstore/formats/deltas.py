"""The format of deltas: how an object is made from another one (gitformat-pack: Deltified representation).

Decided here: what a delta may do. It copies what is there in the other object, and makes as many bytes as it says;
anything else is refused. Called by `objects.packset`. Pure functions.
"""

from __future__ import annotations


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a size: its value, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a delta names an impossible size")


def read_distance(data: bytes, at: int) -> tuple[int, int]:
    """Read how far before a delta the object is that it applies to, and where that ends."""
    byte = data[at]
    value = byte & 0x7F
    while byte & 0x80:
        at += 1
        byte = data[at]
        value = (value + 1 << 7) | byte & 0x7F
        if value > 1 << 63:
            raise ValueError("a delta applies to what is nowhere")
    return value, at + 1


def apply_delta(base: bytes, delta: bytes, most: int) -> bytes:
    """Make an object from another one. Takes the memory of the result, which is at most `most` bytes.

    Raises:
        ValueError: If it is no delta, or not one of this object.
    """
    pieces: list[bytes] = []
    length = 0
    try:
        size, at = read_varint(delta, 0)
        result, at = read_varint(delta, at)
        if size != len(base) or result > most:
            raise ValueError("a delta is not of the object that it names")
        end = len(delta)
        while at < end:
            operation = delta[at]
            at += 1
            if operation & 0x80:
                offset = count = 0
                for bit in range(4):
                    if operation & 1 << bit:
                        offset |= delta[at] << 8 * bit
                        at += 1
                for bit in range(3):
                    if operation & 0x10 << bit:
                        count |= delta[at] << 8 * bit
                        at += 1
                piece = base[offset : offset + (count or 0x10000)]
                missing = (count or 0x10000) - len(piece)
            else:
                piece = delta[at : at + operation]
                missing = operation - len(piece) or not operation
                at += operation
            length += len(piece)
            if missing or length > result:
                raise ValueError("a delta cannot be applied")
            pieces.append(piece)
    except IndexError:
        raise ValueError("a delta is cut short") from None
    if length != result:
        raise ValueError("a delta makes less than it says")
    return b"".join(pieces)
