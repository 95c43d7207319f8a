"""A bare git repository: objects, refs, packs, diffs, merges, remotes. The only importer of pygit2 and GitPython.

Bytes go in and come out: names in trees are bytes, object ids are 20 raw bytes. Failures of libgit2, git and the system
leave as errors of `avfs_git.errors`. Any function may raise `ObjectMissing` for an object that is not there,
`ObjectCorrupt` for an object that is not what its id or its referrer says, `HostError` where the system refuses, and
`GitFailed` where git is needed and missing, or fails; docstrings name only what else is raised.

    formats      git's file formats            rules    .gitignore, .gitattributes
    objects      read, write, join, sweep      config   configuration, author, trust
    compare      trees, renames, text, logs    remote   URLs, clone, fetch, push, partial clones
    merge        bases, libgit2's, git's       refs     read refs, move them by compare-and-swap
    repository   make and check repositories   takeover objects and refs of another repository
    judge        refuse objects that do harm   worktree what git keeps of a linked working tree
    gitcommand   run git on a repository       scratch  a git directory that lives for one command
"""
