"""Rules about paths as git reads them from files of the tree: what is ignored, and which attributes a path has.

Called by captures, imports and merges. Agrees with `git check-ignore` and `git check-attr`, which the tests ask.
"""
