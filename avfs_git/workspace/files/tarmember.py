"""Reading the headers of a tar archive: a damaged header, and a cut, are no end of the archive.

Decided here: which time a member has, and what counts as the end, which is a block of zeros. For `tarfile`, a header
that makes no sense and the end of the file are ends as well, so that an archive that is damaged looks like a shorter
one. Called by `transfer`.
"""

from __future__ import annotations

import re
import tarfile
from typing import Self

from avfs_git.vfs.layer.sidecar import TIME_MAX_NS, TIME_MIN_NS


class Member(tarfile.TarInfo):
    """A member of an archive, up to the first header that makes no sense, which is an error."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Read the next header."""
        at = tarfile_.offset
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed does not have it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {at}, where the next file or its end should be") from error


def read_mtime_ns(member: tarfile.TarInfo) -> int:
    """Read the time of a member; the nearest that a file can have, for an archive may name any number, or none."""
    text = member.pax_headers.get("mtime")
    if text is not None and re.fullmatch(r"-?\d{1,18}(\.\d+)?", text):
        seconds, _, fraction = text.partition(".")
        nanoseconds = int(fraction[:9].ljust(9, "0"))
        found = int(seconds) * 1_000_000_000 + (-nanoseconds if seconds.startswith("-") else nanoseconds)
    elif member.mtime != member.mtime:  # not a number
        return 0
    else:
        found = int(min(max(member.mtime, TIME_MIN_NS), TIME_MAX_NS)) * 1_000_000_000  # which bound the seconds, too
    return min(max(found, TIME_MIN_NS), TIME_MAX_NS)
