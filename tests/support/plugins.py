"""Installing plug-ins in Python, as `pip` would."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest


def install_guard(site: Path, code: str, names: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the distribution `shop-guard`, whose module `guard` has the code and each name as a plug-in."""
    info = site / "shop_guard-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-guard\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[avfs.plugins]\n" + "".join(f"{name} = guard:{name}\n" for name in names))
    (site / "guard.py").write_text(code)
    monkeypatch.syspath_prepend(str(site))
