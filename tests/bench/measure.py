"""Taking times and memory, and the words that figures are written in.

Decided here: a figure is the median of its rounds, and the fastest round stands beside it, so that a busy machine
shows. Nothing is thrown away but a first round that warms caches where the caller asks for it.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """The times of one piece of work, in seconds."""

    times_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The time that counts."""
        return statistics.median(self.times_s)

    @property
    def best_s(self) -> float:
        """The fastest round."""
        return min(self.times_s)

    @property
    def text(self) -> str:
        """Median and fastest, for a table."""
        median = show_time(self.median_s)
        return median if len(self.times_s) == 1 else f"{median} ({show_time(self.best_s)})"


def measure(
    action: Callable[[], object], rounds: int, *, before: Callable[[], object] | None = None, warm_up: bool = False
) -> Sample:
    """Time some rounds of an action; `before` runs ahead of each, untimed."""
    times = []
    gc.collect()
    for number in range(-1 if warm_up else 0, rounds):
        if before is not None:
            before()
        start = time.perf_counter()
        action()
        took = time.perf_counter() - start
        if number >= 0:
            times.append(took)
    return Sample(tuple(times))


def show_time(seconds: float) -> str:
    """Write a time with three significant digits and a unit."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{_digits(seconds * factor)} {unit}"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def show_ratio(ours: float, theirs: float) -> str:
    """Write how much longer we take than something else, as a factor."""
    ratio = ours / theirs
    return f"{ratio:.2g}" if ratio < 1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def peak_memory_kib() -> int:
    """Tell the largest resident size that this process has had.

    The kernel's ru_maxrss counts the process that started this one, too, whose memory it shared until exec:
    it is asked only where there is no /proc.
    """
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
