"""How a live tree survives the death of its server: the supervisor, the shared memory, and judging what was begun."""
