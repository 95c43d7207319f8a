"""A vault that is open: where its files are, its settings, labels, revisions, operation log and notes.

Called by all other packages of `workspace`; imports none of them. Ref moves are logged before they are made, so that a
crash between the two is completed or taken back by the next process.
"""
