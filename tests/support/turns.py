"""Random operation sequences of three long-lived processes that take turns, against a model of each fork's files.

    python -m tests.support.turns [--seed N] [--count N] [--steps N] [--ordinary]

Decided here: which steps there are, and what must be true after each one. The three processes keep the vault open, so
each one must notice what the other two changed. One step in four kills its process at a random fault point; beside one
in three runs an operation that changes no files (gc, maintenance, the doctor, push, fetch, or git's own gc). Steps also
write to live trees.

After each step, a new process must find:

- after a call that succeeded: exactly the files that the call makes; after a refused one: those from before; after a
  death: one or the other;
- after a merge: each content that only one of the two forks ever had, and nothing that neither had;
- after undo: exactly the files from before the last operation; where the model does not know which operation was the
  last one, files that the fork once had. Redo must give back the files from before the undo;
- after a rename, a deletion or their undo: the fork under one name, with its files;
- after a checkpoint: the same files in git;
- after a push of a change of a file, which may be changed here, too: no checkpoint; and once it is brought in, with a
  conflict resolved for the push, that file as it was pushed, and all others as they were.

No call may fail with an internal error or a disk error, wait for a dead process, or hang. Every 12 steps all three
processes must see the files of all forks, and at the end git and the doctor must find no fault, and no process may be
left.

Left out: what `update` brings from elsewhere, and commits of git in a live tree. Their result depends on what the model
does not know; `tests.support.two_actors` has them. `--seed` repeats the steps; where an operation ran beside a step,
their interleaving may differ. The caller runs nothing else in its process: the module forks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.support import ordinary, sweep
from tests.support.capabilities import has
from tests.support.faults import git
from tests.support.fork_model import Files, Fork, Last, check_merged, difference, is_never_ignored
from tests.support.long_lived import Told
from tests.support.turn_bench import IGNORES, Bench, Wrong
from tests.support.two_actors import ENVIRONMENT

_STEPS = (
    *["write"] * 6,
    *["undo"] * 5,
    *["checkpoint", "merge", "rename"] * 5,
    *["restore"] * 3,
    *["remove", "exec", "fork", "delete", "mount", "unmount", "tree_write", "pushed"] * 2,
    *["append", "copy", "move", "ignore", "undo_redo", "collect", "fold", "tree_commit"],
)


class Turns(Bench):
    """One sequence of steps."""

    _number = 0
    """Of the step."""

    def run(self, steps: int) -> None:
        """Take so many steps.

        Raises:
            Wrong: At the first one after which something is wrong.
        """
        try:
            self.make()
            for number in range(steps):
                self._step()
                if number % 12 == 11:
                    self.check_views()
            self.check_views()
            for name, fork in self.forks.items():
                if fork.is_mounted:
                    self.fresh("unmount", name)
            self.fresh("check")
        except AssertionError as error:
            raise Wrong(str(error)) from error
        finally:
            left = self.end()
        if left:
            raise Wrong(f"processes are left: {left}")

    def _step(self) -> None:
        name = self.chance.choice(_STEPS)
        fork = self.chance.choice(list(self.forks))
        self._number += 1
        getattr(self, f"_do_{name}")(fork, self.forks[fork])

    def _data(self) -> bytes:
        """Make up a content that nobody has had."""
        return b"step %d\n" % self._number

    def _new_path(self) -> str:
        kinds = ("d/f%d", "d/f%d", "n%d", "e/x%d", "l%d.log", "build/o%d")
        return self.chance.choice(("a", "env.log", *(kind % self.chance.randrange(4) for kind in kinds)))

    def _old_path(self, state: Fork) -> str:
        return self.chance.choice(sorted(state.files.keys() - {".gitignore"}))

    def _do_write(self, fork: str, state: Fork) -> None:
        path, data = self._new_path(), self._data()
        self.change("write", fork, {**state.files, path: data}, "call", path=path, data=data)

    def _do_append(self, fork: str, state: Fork) -> None:
        path, data = self._old_path(state), self._data()
        self.change("append", fork, {**state.files, path: state.files[path] + data}, "call", path=path, data=data)

    def _do_ignore(self, fork: str, state: Fork) -> None:
        data = self.chance.choice(IGNORES)
        self.change("write", fork, {**state.files, ".gitignore": data}, "call", path=".gitignore", data=data)

    def _do_remove(self, fork: str, state: Fork) -> None:
        path = self._old_path(state)
        self.change("remove", fork, _without(state.files, path), "call", path=path)

    def _do_move(self, fork: str, state: Fork) -> None:
        path, to = self._old_path(state), f"m{self._number}{self.chance.choice(('', '.log'))}"
        self.change("move", fork, {**_without(state.files, path), to: state.files[path]}, "call", path=path, to=to)

    def _do_copy(self, fork: str, state: Fork) -> None:
        path, to = self._old_path(state), f"m{self._number}{self.chance.choice(('', '.log'))}"
        self.change("copy", fork, {**state.files, to: state.files[path]}, "call", path=path, to=to)

    def _do_exec(self, fork: str, state: Fork) -> None:
        path, data = self._new_path(), self._data()
        text = f"mkdir -p $(dirname {path}) && echo {data.decode().strip()} > {path}"
        self.change("exec", fork, {**state.files, path: data}, "operation", text=text)

    def _do_checkpoint(self, fork: str, state: Fork) -> None:
        label = f"label-{self._number}" if self.chance.random() < 0.5 else None
        told = self.call("checkpoint", fork, label=label)
        self.expect(fork, state.files)
        if told.status == "refused":
            return
        state.become(state.files, "operation" if told.value == "created" else "unsure")
        if told.status == "done":
            if label is not None:
                state.labels[label] = state.files
            self._check_saved(fork, state)

    def _check_saved(self, fork: str, state: Fork) -> None:
        saved = git(self.git_dir, "ls-tree", "-r", "-z", "--name-only", f"refs/heads/{fork}").split("\0")[:-1]
        contents = {path: git(self.git_dir, "cat-file", "blob", f"refs/heads/{fork}:{path}").encode() for path in saved}
        wanted = {path: data for path, data in state.files.items() if path in contents or is_never_ignored(path)}
        if contents != wanted:
            raise Wrong(f"the checkpoint of {fork} as (files, git): {difference(wanted, contents)}")

    def _do_restore(self, fork: str, state: Fork) -> None:
        if state.labels:
            label = self.chance.choice(sorted(state.labels))
            self.change("restore", fork, state.labels[label], "operation", label=label)

    def _do_undo(self, fork: str, state: Fork) -> Told | None:
        """Undo; give how it ended where the fork kept its name and its files may be others."""
        told = self.call("undo", fork)
        names = self._names_after(told)
        # A call that wrote what was there is no operation: the one before it is taken back.
        may_be_renamed = state.last in {"renamed", "undone", "unsure"} or (
            state.last == "call" and state.files == state.since[0]
        )
        if fork not in names and len(new := names - self.forks.keys()) == 1 and may_be_renamed:
            self._rename(fork, new.pop(), "undone")
            return None
        if told.status == "refused":
            self.expect(fork, state.files)
            return None
        state.become(self.expect(fork, *state.undone(), *([state.files] if told.status == "dead" else [])), "undone")
        return told

    def _do_undo_redo(self, fork: str, state: Fork) -> None:
        before = state.files
        undone = self._do_undo(fork, state)
        if undone is not None and undone.status == "done":
            told = self.call("redo", fork)
            found = self.expect(fork, *([before] if told.status == "done" else [before, state.files]))
            state.become(found, "undone")

    def _do_merge(self, fork: str, state: Fork) -> None:
        source = self.chance.choice([name for name in self.forks if name != fork])
        told = self.call("merge", fork, source=source)
        if told.status == "refused" or told.value == "conflicted":
            self.expect(fork, state.files)
            return
        found = self.view(fork)
        if told.status == "done" or found != state.files:
            check_merged(state, self.forks[source], found)
            state.seen |= self.forks[source].seen
        state.become(found, "unsure")

    def _do_pushed(self, fork: str, state: Fork) -> None:
        if state.is_mounted:  # git refuses that
            return
        self._catch_up(fork, state, {})  # where undo took back an update
        clone = self.root / f"clone-{self._number}"
        git(self.git_dir, "clone", "-q", "-b", fork, str(self.git_dir), str(clone))
        # Where a file was moved here, a change of it would follow it.
        paths = [
            path for path in ("a", "d/f1", "d/f2", "n1", "n2") if path in state.files or not (clone / path).exists()
        ]
        path, data = (
            self.chance.choice([path for path in paths if path in state.files or "/" not in path]),
            self._data(),
        )
        (clone / path).parent.mkdir(exist_ok=True)
        (clone / path).write_bytes(data)
        for arguments in (["add", "-f", path], ["commit", "-q", "-m", "pushed"], ["push", "-q", "origin", fork]):
            subprocess.run(["git", *arguments], cwd=clone, check=True)
        self.story.append(f"push {path} to {fork}: {data!r}")
        told = self.call("checkpoint", fork, label=None)
        if told.status == "done":
            raise Wrong(f"a checkpoint of {fork} that does not have what was pushed: {told}")
        self.expect(fork, state.files)
        self.call("catch_up", fork)
        self._catch_up(fork, state, {path: data})

    def _catch_up(self, fork: str, state: Fork, pushed: Files) -> None:
        """Bring in what others put on the branch, to the end; what was pushed is all that is new, if that is known."""
        self.fresh("catch_up_to_end", fork)
        after = self.expect(fork, {**state.files, **pushed}) if pushed else self.view(fork)
        state.become(after, "unsure")

    def _do_fork(self, fork: str, state: Fork) -> None:
        new = f"fork-{self._number}"
        if len(self.forks) < 5:
            told = self.call("fork", fork, new=new)
            if new in self.names():
                self.forks[new] = Fork(self.expect(new, state.files), set(state.seen))
            elif told.status == "done":
                raise Wrong(f"the fork {new} is missing")
            self.expect(fork, state.files)

    def _do_rename(self, fork: str, state: Fork) -> None:
        if fork == "main" or state.is_mounted:
            return
        new = f"renamed-{self._number}"
        told = self.call("rename", fork, new=new)
        names = self._names_after(told)
        if (new in names) == (fork in names) or (told.status == "done" and fork in names):
            raise Wrong(f"forks are {names} after {fork} was renamed to {new}: {told}")
        if new in names:
            self._rename(fork, new, "renamed")
        else:
            self.expect(fork, state.files)

    def _names_after(self, told: Told) -> set[str]:
        """List the forks after a possible rename: after a death, a fork has both names until opened by the new one."""
        names = self.names()
        if told.status != "dead":
            return names
        for name in names - self.forks.keys():
            self.view(name)
        return self.names()

    def _rename(self, fork: str, new: str, last: Last) -> None:
        state = self.forks[new] = self.forks.pop(fork)
        state.last = last
        self.expect(new, state.files)

    def _do_delete(self, fork: str, state: Fork) -> None:
        if fork == "main" or state.is_mounted or len(self.forks) < 3:
            return
        told = self.call("delete", fork)
        is_there = fork in self.names()
        if told.status == "done" and is_there:
            raise Wrong(f"{fork} was deleted, and is there")
        if not is_there and self.chance.random() < 0.3:
            del self.forks[fork]
            return
        if not is_there:
            self.fresh("undelete", fork)
            state.last = "unsure"
        self.expect(fork, state.files)

    def _do_collect(self, fork: str, state: Fork) -> None:
        self.call("collect", fork, keep=self.chance.choice((1, 3, 1000)))
        self.expect(fork, state.files)
        for each in self.forks.values():
            each.last = "unsure"

    def _do_fold(self, fork: str, state: Fork) -> None:
        self.call("fold", fork)
        self.expect(fork, state.files)

    # --- live trees

    def _tree(self, fork: str) -> Path:
        return self.root / f"tree-{fork}"

    def _do_mount(self, fork: str, state: Fork) -> None:
        if not state.is_mounted and has("fuse"):
            told = self.call("mount", fork, tree=self._tree(fork))
            state.is_mounted = told.status == "done"
            self.expect(fork, state.files)

    def _do_unmount(self, fork: str, state: Fork) -> None:
        if state.is_mounted:
            told = self.call("unmount", fork)
            state.is_mounted = told.status != "done"
            self.expect(fork, state.files)

    def _do_tree_write(self, fork: str, state: Fork) -> None:
        if state.is_mounted:
            path, data = self._new_path(), self._data()
            place = self._tree(fork) / path
            place.parent.mkdir(exist_ok=True)
            if self.chance.random() < 0.5:
                place.write_bytes(data)
            else:
                beside = place.with_name("new")
                beside.write_bytes(data)
                beside.replace(place)
            self.story.append(f"write {path} in the tree of {fork}")
            state.become(self.expect(fork, {**state.files, path: data}), "call", is_call=True)

    def _do_tree_commit(self, fork: str, state: Fork) -> None:
        if state.is_mounted:
            for arguments in (["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "of git"]):
                done = subprocess.run(["git", *arguments], cwd=self._tree(fork), capture_output=True, check=False)
                self.story.append(f"git {arguments} in the tree of {fork}: {done}")
            self.expect(fork, state.files)
            state.last = "unsure"


def _without(files: Files, path: str) -> Files:
    return {name: data for name, data in files.items() if name != path}


# --- running ----------------------------------------------------------------------------------------------------------


def run(seed: int, steps: int, counts: Counter[str]) -> list[str]:
    """Run one sequence; tell what is wrong, and which steps led there."""
    root = sweep.scratch_root()
    turns = Turns(root, seed, counts)
    try:
        turns.run(steps)
        return []
    except Wrong as wrong:
        return [*turns.story[-14:], str(wrong)]
    except Exception:  # noqa: BLE001 - the other sequences are run all the same
        return [*turns.story[-14:], traceback.format_exc()]
    finally:
        sweep.remove(root)


def main() -> int:
    """Run, print what is wrong, and say by the exit status whether anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first sequence; the next one has the next seed"
    )
    parser.add_argument("--count", type=int, default=1, help="how many sequences (default: 1)")
    parser.add_argument("--steps", type=int, default=100, help="how many steps each (default: 100)")
    parser.add_argument("--ordinary", action="store_true", help="as an ordinary user")
    arguments = parser.parse_args()
    return int(ordinary.call(lambda: b"%d" % _do(arguments))) if arguments.ordinary else _do(arguments)


def _do(arguments: argparse.Namespace) -> int:
    os.environ.update(ENVIRONMENT)
    counts: Counter[str] = Counter()
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        wrong = run(seed, arguments.steps, counts)
        print(f"seed {seed}: {'wrong' if wrong else 'nothing is wrong'}", *wrong, sep="\n    ", flush=True)
        failed += bool(wrong)
    print(*(f"{count} {what}" for what, count in sorted(counts.items())), sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
