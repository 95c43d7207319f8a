"""Commands that mount a workspace as a directory, list the mounts, and end them."""
