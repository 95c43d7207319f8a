"""The modules that the public API calls, each loaded at its first use: a light command does not pay for the others.

Decided here: which those are. The other modules of `avfs_git.sdk` take them from here; `avfs_git.lazy` says how they
are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.lazy import LazyModule

if TYPE_CHECKING:
    from avfs_git.backends import lower, tree
    from avfs_git.gitstore import holding
    from avfs_git.gitstore.remote import runner as remotegit
    from avfs_git.host.files import removal
    from avfs_git.proxy.policy import gate
    from avfs_git.sdk import background, renaming, turning
    from avfs_git.sdk.repository import events, policy
    from avfs_git.session.control import client, content, operations, table
    from avfs_git.session.life import mountsource, point, record, request, stop
    from avfs_git.session.serve import nursery_client, start
    from avfs_git.workspace.capture import requests
    from avfs_git.workspace.checkpoint import aftermath, checkpoint
    from avfs_git.workspace.creation import atomic, create
    from avfs_git.workspace.exchange import apply, cloning, pushing, remotes, upstreams, userhooks
    from avfs_git.workspace.files import files, transfer
    from avfs_git.workspace.forks import clones, fold, forks
    from avfs_git.workspace.forks import rename as forkrename
    from avfs_git.workspace.history import audited, blame, compare, find, grep, history, lent, opdetails, opundo, undo
    from avfs_git.workspace.merge import overlap
    from avfs_git.workspace.opened import beside, vaultroom
    from avfs_git.workspace.opened import workspace as workspaces
    from avfs_git.workspace.restore import asked, recovery
    from avfs_git.workspace.search import removed, search
    from avfs_git.workspace.upkeep import doctor, garbage, maintenance, stats
    from avfs_git.workspace.upkeep import due as upkeepdue
    from avfs_git.workspace.vault import forkinfo, gitmoves, identity, revisions
    from avfs_git.workspace.vault.log import oprecord
else:
    _FOLDERS = {
        "avfs_git.backends": "lower tree",
        "avfs_git.gitstore": "holding",
        "avfs_git.gitstore.remote": "runner",
        "avfs_git.host.files": "removal",
        "avfs_git.proxy.policy": "gate",
        "avfs_git.sdk": "background renaming turning",
        "avfs_git.sdk.repository": "events policy",
        "avfs_git.session.control": "client content operations table",
        "avfs_git.session.life": "mountsource point record request stop",
        "avfs_git.session.serve": "nursery_client start",
        "avfs_git.workspace.capture": "requests",
        "avfs_git.workspace.checkpoint": "aftermath checkpoint",
        "avfs_git.workspace.creation": "atomic create",
        "avfs_git.workspace.exchange": "apply cloning pushing remotes upstreams userhooks",
        "avfs_git.workspace.files": "files transfer",
        "avfs_git.workspace.forks": "clones fold forks rename",
        "avfs_git.workspace.history": "audited blame compare find grep history lent opdetails opundo undo",
        "avfs_git.workspace.merge": "overlap",
        "avfs_git.workspace.opened": "beside vaultroom workspace",
        "avfs_git.workspace.restore": "asked recovery",
        "avfs_git.workspace.search": "removed search",
        "avfs_git.workspace.upkeep": "doctor due garbage maintenance stats",
        "avfs_git.workspace.vault": "forkinfo gitmoves identity revisions",
        "avfs_git.workspace.vault.log": "oprecord",
    }
    _NAMES = {"due": "upkeepdue", "rename": "forkrename", "runner": "remotegit", "workspace": "workspaces"}
    """Names that say here what the modules are of."""
    for _folder, _modules in _FOLDERS.items():
        for _module in _modules.split():
            globals()[_NAMES.get(_module, _module)] = LazyModule(f"{_folder}.{_module}")
