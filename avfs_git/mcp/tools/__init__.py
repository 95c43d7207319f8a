"""The tools and resources of the server, a module for each family.

Annotations of a function are the schemas of its tool.

Called by `mcp.server` alone, which lists the families. Each tool is one call of the SDK, in the vault and fork that
`mcp.scope` finds.
"""
