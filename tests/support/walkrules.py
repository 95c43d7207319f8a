"""What must be true of a walk after each of its steps. Where that is not certain, nothing is told.

Decided here: which lines of others and of ours may leave what, or come there, by which step (`tests.support.walks`).

- A step that changes no file, or is refused, leaves the files as they are.
- What others have put on the branch stays there, and what they have taken back stays away, unless git showed the
  opposite as staged before a commit, or a step of ours asked for it: a restore, an undo, a reset, a revert.
- After an update that succeeded the files have what others put on the branch. It changes no other path, and tells of
  no conflict where only others have changed something.
- What is staged by nobody is in no commit.
- After a checkpoint the branch is as the files; `status` names what differs between the two.
- An ignored file that avfs has kept beside history stays there, also without the rule, until git is told to add it; no
  step but ours takes it from the files.
- Another fork changes by its own steps alone, and what it did comes here by request alone, and whole.
- What was in the files when avfs changed or saved them, or was committed, can be had again.

A line of others is *open* once a step of ours has put it aside in any way: from then on nothing is told of it. A walk
is *calm* while nothing was done but edits, checkpoints, updates and commits of all.

Known, and told of by no rule here:

- what a commit of git's over an unseen push takes out or stages otherwise than the files have it, the next update takes
  from the files or puts there (`Rules.of_others`);
- a file that others created, git brought into the tree over an unseen push, and we renamed, counts as ours when others
  take it back (`Rules.brought`); so does any such file whose old name a commit of git's has removed;
- a commit that a forced push took from the branch comes back with what the fork has on it, as git merges
  (`Rules.dropped`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.walkfiles import Files, is_secret, tokens_in_diff, tokens_of, tokens_taken
from tests.support.walkscene import FILES, Done, Scene, View

_SAVES = {"checkpoint", "restore", "undo", "redo"}
_KEEPS = {"checkpoint", "squash", "fork", "status", "diff", "gc"}
"""Verbs of avfs that change no file."""
_KEEPS_IN_GIT = {"status", "diff", "add", "commit"}
_BRINGS = {"update", "merge", "rebase", "pick"}
"""Verbs of avfs that bring what somebody else has done."""
_ASKS_IN_GIT = {"reset", "revert", "switch", "checkout", "stash", "rm", "mv", "restore", "rebase"}
"""Verbs of git that may take a commit from the branch, or what is there from the index."""
_FROM_SIDE = {"merge", "rebase", "pick", "cherry-pick", "undo", "redo", "continue"}
_CHANGES_SECRETS = {"secret", "delete", "restore", "undo", "redo", "giveup", "continue", "resolve"}
_CALM = {"checkpoint", "update", "status", "diff", "gc"}


@dataclass
class Step:
    """A step that was taken, and what there was before and after it."""

    line: str
    before: View
    done: Done
    after: View

    def __post_init__(self) -> None:
        if self.line.startswith("at ") and self.before.side is None:
            self.line = "avfs fork side"
        self.words = self.line.split()
        self.kind = self.words[0]
        self.verb = self.words[1] if self.kind in ("git", "avfs") else self.kind
        self.is_done = self.done.status == "done"
        self.outcomes = {
            getattr(one, "outcome", None)
            for one in (self.done.said if isinstance(self.done.said, list) else [self.done.said])
        }

    def is_of_git(self, *verbs: str) -> bool:
        return self.kind == "git" and (not verbs or self.verb in verbs)

    def is_of_avfs(self, *verbs: str) -> bool:
        return self.kind == "avfs" and (not verbs or self.verb in verbs)

    @property
    def keeps_files(self) -> bool:
        """Whether the step leaves the files as they are."""
        if self.kind == "avfs":
            return (
                self.verb in _KEEPS or not self.is_done or (self.verb != "conflict" and self.outcomes == {"conflicted"})
            )
        if self.kind == "git":
            return (
                self.verb in _KEEPS_IN_GIT
                or (self.verb == "rm" and "--cached" in self.words)
                or (self.verb == "reset" and not {"--hard", "--merge", "--keep"} & {*self.words})
            )
        return self.kind in ("others", "unmount", "mount", "tick", "side", "at")

    @property
    def names_side(self) -> bool:
        """Whether the other fork, or something beside this one, may change by the step, or come into this one."""
        return self.kind in ("side", "at") or bool({"side", "other"} & {*self.words})


@dataclass
class Rules:
    """What is known of a walk.

    Attributes:
        open: Lines of others of which nothing more is told.
        gone: Lines that others have taken from the branch.
        dropped: Those that they took by a forced push.
        brought: Lines of others that git in the tree put into the files.
        fresh: Lines of others that the files, the branch and, as far as avfs knows, git's index have.
        stale: Those of which git in the tree may have staged anything.
        ours: Lines of ours that can be had again.
        touched: Paths that a step of ours has changed.
        of_others: Paths that others have changed.
        seen: Lines that the branch had when a step of ours ended last.
        beside: Ignored files that avfs has kept beside history.
        shown: Ignored files that were on the branch once.
        elsewhere: Lines of ours that only the other fork has.
        of_side: What is known of the other fork, where there is one.
    """

    scene: Scene
    open: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    brought: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)
    ours: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    of_others: set[str] = field(default_factory=set)
    seen: frozenset[str] = frozenset()
    beside: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    of_side: Rules | None = None
    is_calm: bool = True
    has_all: bool = True
    """The files have what is on the branch, and git has done nothing since that was so."""
    is_moved: bool = False
    """A step of ours has moved a file, or let git forget one."""
    undone: View | None = None
    """What was there before an undo that was the last step."""

    def judge(self, line: str, before: View, done: Done, after: View) -> list[str]:
        """Tell what is wrong after a step."""
        wrong = list(done.wrong)
        if done.status == "skipped":
            return wrong
        step = Step(line, before, done, after)
        if step.keeps_files and before.files != after.files:
            wrong.append(f"the files changed: {_describe(before.files, after.files)}")
        if step.kind == "others":
            wrong += self._judge_secrets(step) + self._judge_side(step)
            self._note_others(step)
            return wrong
        wrong += self._judge_files(step)
        wrong += self._judge_commit(step) if step.is_of_git("commit") else self._judge_branch(step)
        wrong += self._judge_result(step) if step.is_of_avfs() and step.is_done else []
        wrong += self._judge_ours(step)
        wrong += self._judge_secrets(step) + self._judge_side(step)
        if self.has_all and (
            done.code == "vault.ref_conflict" or (step.is_of_avfs("status") and _tells_of_others(done.said))
        ):
            wrong.append("tells that others have moved the branch, and the files have that")
        self._note(step)
        self._note_git(step)
        return wrong

    # --- what is wrong

    def _judge_files(self, step: Step) -> list[str]:
        """What brings others' work takes nothing away."""
        lost = tokens_of(step.before.files) - tokens_of(step.after.files)
        if not step.is_of_avfs(*_BRINGS):
            self.open |= _theirs(lost)
            return []
        wrong = _tell("the files lack, and the branch has", (_theirs(lost) & tokens_of(step.after.saved)) - self.open)
        if self.is_calm:
            wrong += _tell("the files lack our", lost & self.ours)
        beside = _list_differing(step.before.files, step.after.files) - self.of_others
        if step.verb == "update" and not self.is_moved:
            wrong += _tell("changed, which no others have:", beside)
        return wrong

    def _judge_commit(self, step: Step) -> list[str]:
        """Git commits what it showed as staged, and the index has what the files have."""
        left, came = self._compare_branch(step)
        stale = left & self.fresh & tokens_of(step.before.files) & tokens_taken(step.done.staged)
        self.open |= tokens_in_diff(step.done.staged, "-") - stale
        self.open |= came & tokens_in_diff(step.done.staged, "+")
        return [
            *_tell("takes from the branch, though the files have it and nobody staged that:", stale),
            *_tell("takes from the branch, and git had not shown it:", left - self.open - stale),
            *_tell("brings again what others have taken back:", came - self.open),
        ]

    def _judge_branch(self, step: Step) -> list[str]:
        left, came = self._compare_branch(step)
        if step.is_of_avfs("exec") and _ASKS_IN_GIT & {*step.words}:
            self.open |= left | came
        if step.is_of_git(*_ASKS_IN_GIT) or (step.is_of_avfs("restore") and step.words[2] != "HEAD"):
            self.open |= left | came
        elif step.is_of_avfs("undo", "redo"):
            self.open |= (left & self.seen) | came
        elif step.is_of_avfs(*_BRINGS):
            self.open |= came & self.dropped
        return [
            *_tell("takes from the branch what others put there:", left - self.open),
            *_tell("brings again what others have taken back:", came - self.open),
        ]

    def _compare_branch(self, step: Step) -> tuple[set[str], set[str]]:
        was, now = tokens_of(step.before.saved), tokens_of(step.after.saved)
        return _theirs(was - now), self.gone & (now - was)

    def _judge_result(self, step: Step) -> list[str]:
        after, said = step.after, step.done.said
        differ = {
            path for path in _list_differing(after.files, after.saved) if path in after.saved or not is_secret(path)
        }
        wrong: list[str] = []
        if step.verb == "update" and "conflicted" not in step.outcomes:
            files, saved = tokens_of(after.files), tokens_of(after.saved)
            wrong += _tell("an update left out", _theirs(saved - files) - self.open)
            wrong += _tell("an update left what others have taken back:", (self.gone & files) - saved - self.open)
        elif step.verb == "update" and self.is_calm:
            paths = {conflict.path.decode() for each in said for conflict in each.conflicts}
            wrong += _tell(
                "a conflict where nobody here has changed anything:", paths if not paths & self.touched else ()
            )
        elif step.verb == "restore" and step.words[2] == "HEAD" and not after.is_elsewhere and not after.under_way:
            wrong += _tell("after a restore of HEAD, the files differ from it:", differ)
        elif step.verb == "checkpoint" and said.outcome != "recorded":
            wrong += _tell("after a checkpoint, the files differ from it:", differ)
        elif step.verb == "status" and not after.under_way and not _tells_of_others(said):
            named = {path.decode() for each in said.changed_files for path in (each.path, each.old_path) if path}
            named = {path for path in named if path in after.saved or not is_secret(path)}
            wrong += _tell("status names, though it is as on the branch:", named - differ)
            wrong += _tell("status does not name, though it differs from the branch:", differ - named)
        elif step.verb == "redo" and self.undone is not None:
            wrong += _tell("other files than before undo and redo:", _list_differing(self.undone.files, after.files))
        return wrong

    def _judge_ours(self, step: Step) -> list[str]:
        was, now, saved = (tokens_of(files) for files in (step.before.files, step.after.files, step.after.saved))
        if step.is_of_avfs():
            self.ours |= _ours(was if step.is_done and step.verb in _SAVES else was - now)
        self.ours |= _ours(saved)
        gone = self.ours - now - saved
        missing = gone - self.scene.read_reachable() if gone else set[str]()
        self.ours -= missing
        return _tell("cannot be had again:", missing)

    def _judge_secrets(self, step: Step) -> list[str]:
        before, after = step.before, step.after
        came = {path for path in after.saved.keys() - before.saved.keys() if is_secret(path)}
        wrong = _tell("kept beside history, and on the branch now:", came & self.beside - self.shown)
        self.shown |= came
        held = {path for path in before.files if is_secret(path) and path not in before.saved} - self.shown
        if before.ignores and after.ignores and step.verb not in _CHANGES_SECRETS:
            wrong += _tell("an ignored file changed:", held & _list_differing(before.files, after.files))
        self.beside &= after.files.keys()
        if step.is_of_avfs(*_SAVES) and step.is_done and before.ignores:
            self.beside |= held & after.files.keys()
        elif (step.kind == "git" or step.is_of_avfs("exec")) and not {"status", "diff"} & {*step.words}:
            self.beside = self.beside if before.ignores and after.ignores else set()
        return wrong

    def _judge_side(self, step: Step) -> list[str]:
        """Look at the other fork, which has rules of its own."""
        before, after, wrong = step.before.side, step.after.side, list[str]()
        here = tokens_of(step.after.files) | tokens_of(step.after.saved)
        is_source = {"main", "update"} & {*step.words}  # what is uncommitted there is committed first
        if step.kind in ("side", "at") and not is_source and step.before.head != step.after.head:
            wrong.append("a step in the other fork moved the branch")
        if before is None or after is None:
            self.of_side = None
            self.elsewhere |= _ours(tokens_of(before.files)) - here if before is not None else set()
        elif step.kind == "at" and step.done.status != "skipped":
            self.of_side = self.of_side or Rules(self.scene, is_calm=False, is_moved=True)
            self.of_side.has_all = False  # a branch that it merges may have been moved
            self.of_side.of_others |= _list_differing(before.files, step.before.saved)
            found = self.of_side.judge(" ".join(step.words[2:]), before, step.done, after)
            wrong += [f"in the other fork: {each}" for each in found]
            self.elsewhere |= _ours(tokens_of(after.files) - tokens_of(before.files)) - here
        elif step.kind == "side":
            self.elsewhere |= _ours(tokens_of(after.files) - tokens_of(before.files)) - here
            self.of_side = None
        elif (before.files, before.head) != (after.files, after.head) and not step.names_side:
            wrong.append(f"the other fork changed: {_describe(before.files, after.files)}")
        came = self.elsewhere & here
        self.elsewhere -= came
        if not step.names_side and step.verb not in _FROM_SIDE:
            wrong += _tell("came from the other fork, which nobody asked for:", came)
        if (
            step.line == "avfs merge side"
            and step.is_done
            and after is not None
            and step.outcomes & {"clean", "fast_forward"}
        ):
            wrong += _tell("a merge left out", self.elsewhere & tokens_of(after.saved))
        return wrong

    # --- what is known after a step

    def _note_others(self, step: Step) -> None:
        self.has_all = False
        was, now = tokens_of(step.before.saved), tokens_of(step.after.saved)
        self.of_others |= _list_differing(step.before.saved, step.after.saved)
        self.gone = (self.gone | _theirs(was - now)) - now
        if step.words[1] == "drop":
            self.dropped |= _theirs(was - now)
        self.ours -= was - now
        self.fresh &= now

    def _note(self, step: Step) -> None:
        files, saved = tokens_of(step.after.files), tokens_of(step.after.saved)
        if not step.is_of_avfs("update"):
            self.touched |= _list_differing(step.before.files, step.after.files)
        if step.kind == "side" or (step.is_of_avfs() and step.verb not in _CALM):
            self.is_calm = False
        if step.is_of_avfs("undo", "redo", "restore"):
            self.has_all = self.has_all and step.verb == "restore"
            self.of_others |= _list_differing(step.before.files, step.after.files) if step.verb != "undo" else set()
            self.fresh.clear()
        elif step.is_of_avfs("update", "checkpoint") and step.is_done and not step.after.is_elsewhere:
            self.has_all = step.outcomes.isdisjoint({"conflicted", "recorded"})
            self.fresh = _theirs(files & saved)
            self.fresh -= self.stale
        else:
            self.fresh &= files
        if step.kind != "tick":
            self.undone = step.before if step.is_of_avfs("undo") and step.is_done else None
        self.seen = saved

    def _note_git(self, step: Step) -> None:
        before, after = step.before, step.after
        if step.kind == "rename" or step.is_of_git("mv"):
            self.is_moved = True
            moved = {path: before.files.get(path, b"") for path in step.words[1:] if path not in FILES}
            self.open |= self.brought & tokens_of(moved)
        if not step.is_of_git():
            return
        self.has_all = self.has_all and step.verb in ("status", "diff", "add")
        self.brought |= tokens_of(after.files) - tokens_of(before.files)
        self.is_calm = self.is_calm and (step.verb in ("status", "diff") or "-a" in step.words)
        self.is_moved = self.is_moved or "--cached" in step.words
        if step.verb not in _KEEPS_IN_GIT:
            self.fresh.clear()
            self.stale |= tokens_of(before.files) | tokens_of(before.saved)  # it may have staged anything of these
        if step.verb == "commit" and before.head != after.head:
            self.open |= self.brought & (tokens_of(after.files) - tokens_of(after.saved))
            self.of_others |= _list_differing(before.saved, after.saved) & _list_differing(after.saved, after.files)


def _theirs(tokens: set[str] | frozenset[str]) -> set[str]:
    return {one for one in tokens if one.startswith("theirs")}


def _ours(tokens: set[str] | frozenset[str]) -> set[str]:
    return {one for one in tokens if not one.startswith("theirs")}


def _tells_of_others(status: object) -> bool:
    return any(told.code == "fork.moved_outside" for told in getattr(status, "warnings", ()))


def _list_differing(one: Files, other: Files) -> set[str]:
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


def _tell(what: str, names: set[str] | frozenset[str] | tuple[()]) -> list[str]:
    return [f"{what} {', '.join(sorted(names))}"] if names else []


def _describe(one: Files, other: Files) -> str:
    def lines(files: Files, path: str) -> str:
        return f"{sorted(tokens_of([files[path]]))}" if path in files else "absent"

    return ", ".join(
        f"{path} ({lines(one, path)} -> {lines(other, path)})" for path in sorted(_list_differing(one, other))
    )
