"""Reading the headers of a tar archive: a damaged header, and a cut, are no end of the archive.

Decided here: what counts as the end, which is a block of zeros. For `tarfile`, a header that makes no sense and the end
of the file are ends as well, so that an archive that is damaged looks like a shorter one. Called by `transfer`.
"""

from __future__ import annotations

import tarfile
from typing import Self


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
