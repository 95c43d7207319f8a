"""`python -m avfs_git` is the same as `avfs`."""

from __future__ import annotations

from avfs_git.cli.app import main

if __name__ == "__main__":
    main()
