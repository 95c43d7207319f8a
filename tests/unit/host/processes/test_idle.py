"""Keeping processors awake: what is asked of the system, and that nothing fails where it cannot be asked."""

from __future__ import annotations

from pathlib import Path

from avfs_git.host.processes.idle import AwakeProcessors


def test_it_asks_while_held_and_no_longer(tmp_path: Path) -> None:
    """Holding writes a latency of 0 as the device wants it, once; releasing ends that, and can be done again."""
    device = tmp_path / "device"
    device.touch()
    processors = AwakeProcessors(device)
    held = [processors.is_held]
    for _ in range(2):
        processors.hold()
        processors.hold()
        held.append(processors.is_held)
        processors.release()
        processors.release()
        held.append(processors.is_held)
    assert held == [False, True, False, True, False]
    assert device.read_bytes() == bytes(4)


def test_where_it_cannot_be_asked_nothing_happens(tmp_path: Path) -> None:
    """Without the device, and for whoever may not open it, holding does nothing, and does not try again."""
    processors = AwakeProcessors(tmp_path / "absent")
    processors.hold()
    assert not processors.is_held
    (tmp_path / "absent").touch()
    processors.hold()
    assert not processors.is_held
