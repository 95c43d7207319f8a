"""The server for agents' clients: vaults and forks over the Model Context Protocol.

`server.make_server` makes it of a `Scope`; `cli.commands.running.mcp` runs it. The folder needs the packages of the
extra `avfs-git[mcp]`, takes a second to import, and is imported by `avfs mcp` alone.
"""
