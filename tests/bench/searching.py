"""The bars of finding: `python -m tests.bench.searching`; part of `make bench` as well.

Decided here: what each row times. Documents hold ordinary words, a few of them often and most seldom, as texts do. git
searches a worktree, whose files are in the kernel's cache; avfs searches the vault, which has no files.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from avfs_git import Avfs, Vault, Workspace
from tests.bench.measure import measure, show_ratio
from tests.bench.native import git, run
from tests.bench.report import Row, text_table
from tests.bench.trees import path_of, spread

FEW, SMALL, LARGE = 10, 100, 50_000
_FORKS = 20
_VOCABULARY, _SEED = 5_000, 42
_RARE_SHARE = {SMALL: 10, LARGE: 500}
"""The rare word is in one of so many documents."""


def _write_documents(directory: Path, count: int, size: int) -> None:
    """Write documents of some size, with a word that few have."""
    chance = random.Random(_SEED)
    words = ["".join(chance.choices("abcdefghijklmnoprstuvw", k=chance.randint(2, 11))) for _ in range(_VOCABULARY)]
    weights = [1 / rank for rank in range(1, _VOCABULARY + 1)]
    for number in range(count):
        path = directory / path_of(number, count)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = " ".join(chance.choices(words, weights, k=size // 4))[: size - 20]
        rare = " rareWord" if number % _RARE_SHARE[count] == 0 else ""
        path.write_text("\n".join(text[at : at + 80] for at in range(0, len(text), 80)) + f"{rare} common\n")


class SearchBench:
    """One run; `run` gives its rows."""

    def __init__(self, scratch: Path, say: Callable[[str], None], *, quick: bool = False) -> None:
        """Prepare a run in a directory; `quick` takes the small tree only."""
        self._scratch, self._say = scratch, say
        self._sizes = [(SMALL, 4096)] if quick else [(SMALL, 4096), (LARGE, 300)]

    def run(self) -> list[Row]:
        """Measure everything."""
        rows: list[Row] = []
        with Avfs(self._scratch / "home") as avfs:
            for count, size in self._sizes:
                self._say(f"searching {count:,} documents")
                source = self._scratch / f"documents{count}"
                _write_documents(source, count, size)
                with avfs.create_vault(f"documents{count}", source=source) as vault:
                    rows += self._search(vault.workspace(), count)
                    if count == LARGE:
                        rows += self._grep(vault.workspace(), vault.path)
                        rows.append(self._grep_forks(vault))
        return rows

    def _search(self, work: Workspace, count: int) -> Iterator[Row]:
        shown = f"{count:,} documents"
        limit_ms = 1 if count == SMALL else 20
        first = measure(lambda: work.search("rareword"), 1)
        yield Row("search first", f"the first search, which indexes {shown}", "", first.text)
        again = measure(lambda: work.search("rareword"), 50, warm_up=True)
        met = again.median_s <= limit_ms * 1e-3
        yield Row("search", f"search for a rare word, {shown}", f"≤ {limit_ms} ms", again.text, met=met)
        common = measure(lambda: work.search("common"), 10, warm_up=True)
        yield Row("search common", f"search for a word that all have, {shown}", "", common.text)
        turns = itertools.count()

        def change() -> None:
            turn = next(turns)
            for path in spread(FEW, count, turn):
                work.write(path, b"turn %d rareWord\n" % turn)
            work.checkpoint()

        updated = measure(lambda: work.search("rareword"), 20, before=change, warm_up=True)
        update_s = updated.median_s - again.median_s
        work_text = f"the same after a checkpoint of 10 files, which it indexes, {shown}"
        bar = "≤ 5 ms more" if count == LARGE else ""
        yield Row("search update", work_text, bar, updated.text, met=update_s <= 5e-3 if bar else None)

    def _grep(self, work: Workspace, vault: Path) -> Iterator[Row]:
        tree = self._scratch / "worktree"
        run("git", "clone", "-q", vault, tree)
        for word, shown in (("rareWord", "a word that one in 500 has"), ("common", "a word that all have")):
            ours = measure(partial(work.grep, word), 5, warm_up=True)
            theirs = measure(partial(git, tree, "grep", "-n", word), 5, warm_up=True)
            ratio = show_ratio(ours.median_s, theirs.median_s)
            is_bar = word == "rareWord"
            met = ours.median_s <= theirs.median_s if is_bar else None
            text = f"grep of {LARGE:,} files for {shown}"
            yield Row("grep", text, "≤ 1.0 × git" if is_bar else "", ours.text, theirs.text, ratio, met)

    def _grep_forks(self, vault: Vault) -> Row:
        for number in range(_FORKS):
            fork = vault.fork(f"fork{number}")
            for path in spread(FEW, LARGE, number):
                fork.write(path, b"fork %d rareWord\n" % number)
        all_forks = measure(lambda: vault.grep("rareWord"), 5, warm_up=True)
        one = measure(lambda: fork.grep("rareWord"), 5, warm_up=True)
        ratio = show_ratio(all_forks.median_s, one.median_s)
        text = f"grep of {_FORKS} forks of {LARGE:,} files, each with {FEW} unsaved changes, against one of them"
        return Row(
            "grep forks", text, "≤ 1.3 × one", all_forks.text, "", ratio, all_forks.median_s <= 1.3 * one.median_s
        )


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.searching", description="Measure the bars of finding.")
    parser.add_argument("--quick", action="store_true", help="only 100 documents")
    parser.add_argument("--directory", type=Path, help="where to work; default: the directory for temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avfs-bench-", dir=options.directory, ignore_cleanup_errors=True) as name:
        rows = SearchBench(Path(name), lambda text: print(text, file=sys.stderr, flush=True), quick=options.quick).run()
    print(text_table(rows))


if __name__ == "__main__":
    main()
