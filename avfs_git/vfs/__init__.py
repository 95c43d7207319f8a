"""A workspace as a filesystem: its layers, what they show together, and what changed. No FUSE, no mount."""
