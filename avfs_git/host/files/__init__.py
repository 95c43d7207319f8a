"""Files of the host: durable writes, walks beneath a descriptor, extended attributes, ranges, modes, removal.

Called by every package above. No function follows a symbolic link below the directory that it was given.
"""
