"""Objects, refs and packs of a bare git repository: the only importer of pygit2 and GitPython.

Bytes go in and come out: names in trees are bytes, object ids are 20 raw bytes. What libgit2 and git
report as failures leaves here as errors of `avfs_git.errors`.

    trees, commits   what objects say; pure functions
    objects          read any object of a repository
    packfile         where objects are in packs, and what stands there
    packs            merge small packs
    packwriter       write the objects of one checkpoint as one pack
    drywriter        compute what they would be
    refs             read refs, move them by compare-and-swap
    repository       make, check, find and take over repositories
    gitcommand       run git itself, for what is git's job
"""
