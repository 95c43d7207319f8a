"""Operations on a workspace where it is: in this process, or over the control socket of the session that mounts it.

`operations` lists what can be asked; docs/reference/control.md is the text of the protocol. A peer of another user or
namespace is refused.
"""
