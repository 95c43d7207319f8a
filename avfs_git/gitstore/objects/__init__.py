"""A repository's objects: reading (`store`), writing as one durable pack (`packwriter`), joining and sweeping packs.

An object that was read is what its id says. An object that was written is on disk before the writer returns, and no
sweep removes it while its writer holds it.
"""
