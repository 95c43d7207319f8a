"""Which settings of a repository could make git run a program.

Decided here: what each setting of git's, and of the tools that write into a repository's configuration, can do to whom.
A setting that no table has is not harmless. `gitstore.config.trust` asks, of each setting of a vault; nothing is read
from disk here.

The tables name settings in lower case; `*` stands for any text, dots and nothing included. What they say is from
git-config(1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from avfs_git.patterns import compiled


def _any_of(table: str) -> str:
    return "|".join(re.escape(name).replace(r"\*", ".*") for name in table.split())


_HARMLESS = compiled(
    _any_of("""
    core.repositoryformatversion core.filemode core.bare core.fsync core.fsyncmethod core.fsyncobjectfiles
    core.logallrefupdates core.ignorecase core.precomposeunicode core.symlinks core.protecthfs core.protectntfs
    core.sharedrepository core.compression core.loosecompression core.bigfilethreshold core.packedgitlimit
    core.packedgitwindowsize core.deltabasecachelimit core.quotepath core.autocrlf core.safecrlf core.eol core.abbrev
    core.commitgraph core.multipackindex core.preferasymlinkrefs core.checkstat core.trustctime core.untrackedcache
    core.sparsecheckout core.sparsecheckoutcone core.splitindex core.preloadindex core.whitespace core.commentchar
    core.warnambiguousrefs core.hidedotfiles core.filesreflocktimeout core.packedrefstimeout core.notesref
    extensions.noop extensions.partialclone extensions.preciousobjects extensions.objectformat extensions.refstorage
    extensions.worktreeconfig extensions.relativeworktrees
    gc.auto gc.autodetach gc.autopacklimit gc.pruneexpire gc.packrefs gc.aggressivedepth gc.aggressivewindow
    gc.bigpackthreshold gc.writecommitgraph gc.*reflogexpire gc.*reflogexpireunreachable gc.worktreepruneexpire
    gc.logexpiry gc.cruftpacks gc.rerereresolved gc.rerereunresolved
    maintenance.auto maintenance.strategy maintenance.*.enabled maintenance.*.schedule maintenance.*.auto
    transfer.* receive.* fetch.* fsck.* http.receivepack http.uploadpack http.getanyfile daemon.*
    uploadpack.hiderefs uploadpack.keepalive uploadpack.allow* uploadarchive.allowunreachable
    merge.conflictstyle merge.ff merge.log merge.renames merge.renamelimit merge.stat merge.autostash merge.branchdesc
    merge.defaulttoupstream merge.directoryrenames merge.verbosity merge.suppressdest merge.*.name merge.*.recursive
    pack.* repack.* index.* init.defaultbranch user.name user.email user.useconfigonly author.name author.email
    committer.name committer.email branch.* remote.* remotes.* submodule.*
    push.default push.autosetupremote push.followtags push.negotiate push.recursesubmodules push.useforceifincludes
    push.usebitmaps pull.rebase pull.ff rerere.autoupdate rerere.enabled
    rebase.abbreviatecommands rebase.autosquash rebase.autostash rebase.backend rebase.forkpoint
    rebase.missingcommitscheck rebase.reschedulefailedexec rebase.stat rebase.updaterefs sequence.commentchar
    status.* stash.* tag.sort color.* column.* advice.* log.abbrevcommit log.date log.decorate log.follow log.showroot
    commit.cleanup commit.status commit.verbose checkout.* clean.requireforce worktree.guessremote versionsort.suffix
    diff.algorithm diff.colormoved diff.colormovedws diff.context diff.ignoresubmodules diff.indentheuristic
    diff.interhunkcontext diff.mnemonicprefix diff.noprefix diff.renamelimit diff.renames diff.submodule diff.*.binary
    diff.*.xfuncname diff.*.funcname diff.*.wordregex diff.*.cachetextconv
    i18n.commitencoding i18n.logoutputencoding apply.ignorewhitespace apply.whitespace am.keepcr am.threeway
    grep.column grep.extendedregexp grep.linenumber grep.patterntype grep.threads
    blame.blankboundary blame.coloring blame.date blame.marki* blame.marku* blame.showemail blame.showroot
    feature.experimental feature.manyfiles sparse.expectfilesoutsideofpatterns notes.mergestrategy
    gui.* lfs.repositoryformatversion lfs.locksverify lfs.*.locksverify lfs.*.access lfs.url lfs.pushurl
    lfs.concurrenttransfers lfs.fetchinclude lfs.fetchexclude lfs.fetchrecentrefsdays lfs.allowincompletepush
    gitflow.branch.* gitflow.prefix.* gitflow.version hub.protocol
    avfs.*
    """),
    re.DOTALL,
)
_HARMFUL = compiled(
    _any_of("""
    pack.packobjectshook remote.*.receivepack remote.*.uploadpack remote.*.vcs remote.*.proxy receive.fsck.skiplist
    fetch.fsck.skiplist fsck.skiplist
    """),
    re.DOTALL,
)
"""Exceptions from the harmless ones: they name programs, or files to read."""
_OF_OTHERS = compiled(
    _any_of("""
    core.askpass core.editor core.pager core.fsmonitor core.fsmonitorhookversion core.hookspath core.sshcommand
    core.gitproxy core.excludesfile core.alternaterefscommand core.createobject core.checkroundtripencoding
    core.restrictinheritedhandles core.unsetenvvars remote.*.receivepack remote.*.uploadpack remote.*.vcs remote.*.proxy
    remote.*.url remote.*.pushurl submodule.*.update submodule.*.url
    diff.external diff.*.command diff.*.textconv diff.tool diff.guitool diff.orderfile merge.tool merge.guitool
    merge.verifysignatures user.signingkey log.showsignature pull.twohead pull.octopus push.gpgsign push.pushoption
    """),
    re.DOTALL,
)
"""What no git obeys that avfs runs itself: it edits, shows, signs, checks out and sends nothing, and runs no hook."""
_READ = compiled(
    _any_of("""
    core extensions include includeif merge diff blame grep mailmap pack repack index fsck fetch receive transfer log
    i18n color feature protocol safe trace2 user remote submodule uploadpack bundle pretty notes attr commitgraph gc
    """)
)
"""The sections that such a git reads.

Of the others, as `alias` or `credential`, or those of other tools, it knows nothing.
"""
_PROGRAM_URL = compiled(r"[A-Za-z0-9]+::")
_URL_KEY = compiled(r"(?:remote|submodule)\..*\.(?:push)?url", re.DOTALL)
_UPDATE_KEY = compiled(r"submodule\..*\.update", re.DOTALL)


def is_harmless(key: str, values: Sequence[str]) -> bool:
    """Tell whether a setting makes git run no program, in any use of the repository.

    The section and the name of the setting are in lower case.
    """
    if _URL_KEY.fullmatch(key) and any(map(_PROGRAM_URL.match, values)):
        return False
    if _UPDATE_KEY.fullmatch(key) and any(value.lstrip().startswith("!") for value in values):
        return False
    return bool(_HARMLESS.fullmatch(key)) and not _HARMFUL.fullmatch(key)


def is_passed_over(key: str) -> bool:
    """Tell whether a setting means nothing to the commands of git that avfs itself runs in a repository."""
    return not _READ.fullmatch(key.partition(".")[0]) or bool(_OF_OTHERS.fullmatch(key))
