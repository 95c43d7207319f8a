"""How the files of an open workspace may change meanwhile: one object for each case, chosen by `OpenWorkspace`.

`Plain`: only this process changes them, under the lock. `Served`: programs do, through this process. `Shown`: the kernel's
overlayfs does. `ReadOnly`: nothing may be written. `beside.Beside` looks at a workspace that another thread serves.
"""
