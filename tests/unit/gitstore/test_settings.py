"""Which settings could run a program, held against the list of git's own, and against what daily work writes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from avfs_git.errors import GitFailed
from avfs_git.gitstore import gitcommand
from avfs_git.gitstore.config.settings import is_harmless, is_passed_over


def _words(text: str) -> list[str]:
    return text.split()


_DAILY = _words("""
submodule.lib.active=true submodule.lib.url=/srv/lib submodule.lib.update=rebase submodule.active=.
submodule.recurse=true branch.main.remote=origin branch.main.merge=refs/heads/main branch.a.b/c.description=text
branch.main.vscode-merge-base=origin/main branch.x.gh-merge-base=main branch.x.github-pr-owner-number=o#r#1
branch.main.rebase=true branch.autosetuprebase=always remote.origin.url=git@example.org:x
remote.origin.fetch=+refs/heads/*:refs/remotes/origin/* remote.origin.gh-resolved=base remote.origin.tagopt=--no-tags
remote.pushdefault=origin lfs.repositoryformatversion=0 lfs.https://e.org/x.git/info/lfs.access=basic
lfs.https://e.org/x.git/info/lfs.locksverify=true gitflow.branch.master=main gitflow.prefix.feature=feature/
gui.geometry=1x1 gui.wmstate=normal rerere.enabled=true extensions.worktreeconfig=true core.sparsecheckout=true
core.sparsecheckoutcone=true index.sparse=true user.name=Ada user.email=a@example.org pull.rebase=true pull.ff=only
push.default=current push.autosetupremote=true merge.conflictstyle=zdiff3 init.defaultbranch=main
maintenance.auto=false maintenance.strategy=incremental maintenance.gc.enabled=false gc.auto=0
gc.refs/stash.reflogexpire=never core.untrackedcache=true core.commentchar=; rebase.autosquash=true
rebase.updaterefs=true diff.colormoved=zebra color.ui=auto status.showuntrackedfiles=no advice.detachedhead=false
commit.verbose=true fetch.prune=true feature.manyfiles=true
""")
_HARMFUL = _words("""
submodule.lib.update=!touch submodule.lib.url=ext::sh remote.x.url=ext::sh remote.x.vcs=y remote.x.uploadpack=y
core.fsmonitor=y core.editor=vi core.sshcommand=ssh core.hookspath=.husky core.askpass=y core.pager=less alias.x=!y
alias.st=status pager.log=less filter.lfs.clean=y filter.lfs.process=y merge.x.driver=y diff.x.textconv=y
diff.x.command=y diff.external=y credential.helper=y gpg.program=y gpg.ssh.program=y include.path=../x
includeif.gitdir:x.path=y sequence.editor=y interactive.difffilter=y mergetool.x.cmd=y difftool.x.path=y
lfs.customtransfer.x.path=y lfs.extension.x.clean=y gitflow.path.hooks=y gc.recentobjectshook=y
uploadpack.packobjectshook=y core.gitproxy=y core.alternaterefscommand=y trailer.x.command=y tar.x.command=y
guitool.x.cmd=y commit.gpgsign=true nobody.knows=this core.nobodyknows=this
""")
_PASSED_OVER = _words("alias.x core.editor core.hookspath filter.lfs.process credential.helper submodule.l.update a.b")
_OBEYED = _words("include.path includeif.x.path merge.x.driver extensions.new core.new core.attributesfile trace2.x")
_NAMES_A_PROGRAM = re.compile(
    r"(?i).*(cmd|command|program|helper|editor|pager|hook|hookspath|textconv|driver|external|askpass|proxy|tunnel|difffilter"
    r"|smtpserver|uploadpack|receivepack|\.vcs|clean|smudge|process|fsmonitor|browser|\.path|packobjectshook)"
)
_ONLY_SOUNDS_SO = re.compile(
    r"http\.(receivepack|uploadpack)|column\..*|advice\..*|diff\.x\.cachetextconv|.*hookversion|color\..*"
)


def _split(setting: str) -> tuple[str, list[str]]:
    key, _, value = setting.partition("=")
    return key, [value]


@pytest.mark.parametrize("setting", _DAILY)
def test_what_daily_work_writes_is_harmless(setting: str) -> None:
    """Git, its tools and editors write these into a repository on their own."""
    assert is_harmless(*_split(setting))


@pytest.mark.parametrize("setting", _HARMFUL)
def test_what_names_a_program_is_not(setting: str) -> None:
    """Nor is what nobody knows."""
    assert not is_harmless(*_split(setting))


def test_no_setting_that_git_lists_and_that_names_a_program_is_harmless() -> None:
    """By git's own list: what is named as if it held a program, or where one is, is in no table of harmless ones."""
    listed = subprocess.run(["git", "help", "--config"], capture_output=True, text=True, check=True).stdout.split()
    keys = [re.sub(r"<[^>]*>", "x", key).lower() for key in listed if "." in key and not key.endswith(".*")]
    assert len(keys) > 300
    risky = [key for key in keys if _NAMES_A_PROGRAM.fullmatch(key) and not _ONLY_SOUNDS_SO.fullmatch(key)]
    assert len(risky) > 30
    assert [key for key in risky if is_harmless(key, ["x"])] == []


def test_what_avfs_has_git_do_obeys_little() -> None:
    """A setting of a person's git is passed over; one that reaches every git, or that a later git may have, is not."""
    assert [key for key in _PASSED_OVER if not is_passed_over(key)] == []
    assert [key for key in _OBEYED if is_passed_over(key)] == []


def test_gits_own_run_of_avfs_runs_no_program_of_a_repository(git_dir: Path, tmp_path: Path) -> None:
    """With all that is passed over set, the commands that avfs has git do run none of it."""
    trap = f"touch {tmp_path}/ran; false"
    with (git_dir / "config").open("a") as file:
        file.write(
            f'[alias]\n\tfsck = "!{trap}"\n[credential]\n\thelper = "!{trap}"\n[filter "x"]\n\tclean = "{trap}"\n'
        )
        file.write(
            f'[core]\n\teditor = "{trap}"\n\tfsmonitor = "{trap}"\n\thooksPath = {tmp_path}\n\tpager = "{trap}"\n'
        )
        file.write(
            f'\tsshCommand = "{trap}"\n\talternateRefsCommand = "{trap}"\n[remote "x"]\n\turl = "ext::sh -c '
            f'{tmp_path}"\n'
        )
        file.write(f'\tuploadpack = "{trap}"\n[diff]\n\texternal = "{trap}"\n[submodule "x"]\n\tupdate = "!{trap}"\n')
    assert gitcommand.fsck(git_dir) == []
    assert gitcommand.run(git_dir, "rev-list", ["--objects", "--reflog"]).status == 0
    assert (
        gitcommand.run(git_dir, "pack-objects", ["--revs", "--reflog", "--quiet"], [str(tmp_path / "pack")]).status == 0
    )
    assert not (tmp_path / "ran").exists()


def test_a_refusal_says_what_to_do(git_dir: Path) -> None:
    """It names the setting, and the way out."""
    with (git_dir / "config").open("a") as file:
        file.write("[include]\n\tpath = ../more\n")
    with pytest.raises(GitFailed, match=r"include\.path") as refused:
        gitcommand.fsck(git_dir)
    assert "--global" in str(refused.value.hint)
