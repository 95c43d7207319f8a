#!/usr/bin/env bash
# The main job on real input: this repository becomes a vault, two agents work in forks of it, one goes wrong and is
# brought back, and plain git reads the result. `make demo` runs it; everything happens in a temporary directory.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d "${TMPDIR:-/tmp}/avfs-demo-XXXXXX")
trap 'rm -rf "$place"' EXIT
export AVFS_HOME="$place/home" AVFS_AUTHOR_NAME="Demo Agent" AVFS_AUTHOR_EMAIL="agent@example.org" GIT_TERMINAL_PROMPT=0

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "${*//$place/\$DEMO}"; "$@"; }

say "1. A real project: this one, as it is on disk, ignored and uncommitted files included"
mkdir "$place/project"
(cd "$here" && tar --exclude=./.venv --exclude=./.git -cf - .) | tar -xf - -C "$place/project"
git -C "$place/project" init -q -b main
git -C "$place/project" config user.name "Demo Person"
git -C "$place/project" config user.email "person@example.org"
git -C "$place/project" add -A
git -C "$place/project" -c core.hooksPath=/dev/null commit -q -m "demo: the project so far"
echo "SECRET=1" >"$place/project/.env"
printf '.env\n' >>"$place/project/.git/info/exclude"
run avfs vault create demo --from "$place/project"
run avfs --vault demo log -n 3 --name-status | sed -n 1,5p
run avfs --vault demo tree / -L 1

say "2. Two agents, each in a fork of its own"
run avfs --vault demo fork create agent-a
run avfs --vault demo fork create agent-b --ephemeral
run avfs --vault demo fork list

say "3. Agent A works, and saves a checkpoint"
run avfs --vault demo@agent-a write NOTES.md "# Notes by agent A"
run avfs --vault demo@agent-a write docs/plan.txt "first the tests, then the code"
run avfs --vault demo@agent-a mv CHANGELOG.md docs/CHANGELOG.md
run avfs --vault demo@agent-a status
run avfs --vault demo@agent-a checkpoint save planned -d "docs: a plan"
run avfs --vault demo@agent-a diff HEAD~1 HEAD --stat

say "4. Agent A goes wrong: everything is deleted"
run avfs --vault demo@agent-a rm -r avfs_git docs NOTES.md >/dev/null
run avfs --vault demo@agent-a checkpoint restore planned --dry-run | sed -n '1,3p'
run avfs --vault demo@agent-a checkpoint restore planned | sed -n '1,2p'
run avfs --vault demo@agent-a cat docs/plan.txt; echo
run avfs --vault demo@agent-a undo | sed -n '1,2p'
run avfs --vault demo@agent-a redo | sed -n '1,2p'

say "5. Agent B saw nothing of it; a program reads JSON"
run avfs --vault demo@agent-b status --json
printf 'written by agent B\n' | run avfs --vault demo@agent-b write b.txt
run avfs --vault demo@agent-b checkpoint save --json | cut -c1-150

say "6. The vault is plain git"
vault="$AVFS_HOME/vaults/demo.git"
run git -C "$vault" --no-pager log --oneline --stat -n 1 agent-a
run git -C "$vault" fsck --strict --no-dangling
run git clone -q -b agent-a "$vault" "$place/clone"
run cat "$place/clone/NOTES.md"; echo
run avfs --vault demo doctor

say "7. Out again: everything, ignored files included"
run avfs --vault demo@agent-a export -r / "$place/out"
run ls -A "$place/out"
