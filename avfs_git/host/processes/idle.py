"""How deeply idle processors of this machine may sleep.

Decided here: how Linux is asked to keep idle processors awake for a short time (the PM QoS interface
`/dev/cpu_dma_latency`), and that nothing fails where it cannot be asked: it belongs to root, and containers rarely have
it. Where the setting `mount.keep_awake` says so, `fuse.channel` asks while programs make requests in close succession, because
each of them wakes the program and the server in turn, and waking a processor that sleeps costs more than the request: on
virtual machines, where it is the host that wakes it, five times as much.

One thread uses an object. The request ends with the descriptor, so that no death of this process leaves it behind.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_DEVICE: Final = Path("/dev/cpu_dma_latency")
_AT_ONCE: Final = (0).to_bytes(4, sys.byteorder)
"""The longest time that waking may take, in µs, as the device wants it."""


class AwakeProcessors:
    """A request to the system that idle processors stay awake, while it is held."""

    def __init__(self, device: Path = _DEVICE) -> None:
        """Ask nothing yet."""
        self._device = device
        self._fd = -1
        self._is_refused = False

    @property
    def is_held(self) -> bool:
        """Whether processors are kept awake now."""
        return self._fd >= 0

    def hold(self) -> None:
        """Keep idle processors awake from now on, where that is allowed."""
        if self._fd >= 0 or self._is_refused:
            return
        try:
            self._fd = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
            os.write(self._fd, _AT_ONCE)
        except OSError:
            self._is_refused = True
            self.release()

    def release(self) -> None:
        """Let them sleep as they like."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
