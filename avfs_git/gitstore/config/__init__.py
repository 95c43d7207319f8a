"""What a repository's configuration says, whose it is, and whether git or avfs may obey it.

Called by everything that opens a repository which a stranger may have made. git itself reads and writes the files.
"""
