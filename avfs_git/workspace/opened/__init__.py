"""An open workspace: its lock, its layers, and how its files may change while it is open.

Plain, served by a session, shown by the kernel's overlayfs, or read-only: one module each, behind one protocol
(`mode`). Everything above that reads or changes a workspace works on an `OpenWorkspace`.
"""
