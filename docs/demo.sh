#!/usr/bin/env bash
# The main job on real input: this repository, as it is on disk, becomes a vault; three agents work in forks of it; one goes
# wrong and is brought back; plain git reads the result. `make demo` runs it; everything happens in a temporary directory.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d "${TMPDIR:-/tmp}/avfs-demo-XXXXXX")
trap 'rm -rf "$place"' EXIT
export AVFS_HOME="$place/home" AVFS_AUTHOR_NAME="Demo Agent" AVFS_AUTHOR_EMAIL="agent@example.org"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
unset AVFS_VAULT AVFS_FORK

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Show a command and what it says, with the temporary directory under a short name.
run() { printf '$ %s\n' "${*@Q}" | shorten; "$@" | shorten; }
shorten() { sed -e "s|$place|\$DEMO|g" -e "/^\\$ /s|'\\([A-Za-z0-9@%_+=:,./~\$-]*\\)'|\\1|g"; }
vault="$AVFS_HOME/vaults/demo.git"

say "1. A real project: this one, with a secret and build output that git ignores, and a change that is not committed"
mkdir "$place/project"
(cd "$here" && tar --exclude=./.venv --exclude=./.git --exclude='./.*_cache' --exclude=./.hypothesis --exclude=__pycache__ -cf - .) |
    tar -xf - -C "$place/project"
git=(git -C "$place/project" -c user.name="Demo Person" -c user.email="person@example.org")
"${git[@]}" init -q -b main
"${git[@]}" add -A
"${git[@]}" commit -q -m "demo: the project so far"
mkdir "$place/project/build"
echo "SECRET=1" >"$place/project/.env"
echo "object code" >"$place/project/build/main.o"
printf '.env\nbuild/\n' >>"$place/project/.git/info/exclude"
printf '\nNot committed yet.\n' >>"$place/project/README.md"
run avfs vault create demo --from "$place/project"
run avfs --vault demo log -n 3
run avfs --vault demo cat .env

say "2. Three agents, each in a fork of its own: branch, files, and what git ignores"
run avfs --vault demo fork create agent-a
run avfs --vault demo fork create agent-b
run avfs --vault demo fork create agent-c --ephemeral
run avfs --vault demo fork list
run avfs --vault demo@agent-c cat build/main.o

say "3. They work at the same time, and save checkpoints"
run avfs --vault demo@agent-a write docs/plan.md "first the tests, then the code"
run avfs --vault demo@agent-a mv CHANGELOG.md docs/CHANGELOG.md
run avfs --vault demo@agent-a status
run avfs --vault demo@agent-a checkpoint save planned -d "docs: a plan"
printf 'print("written by agent B")\n' | run avfs --vault demo@agent-b write tools/b.py
run avfs --vault demo@agent-b checkpoint save -d "tools: a script"
run avfs --vault demo@agent-c write .env "SECRET=2"
run avfs --vault demo@agent-c checkpoint save rotated
run avfs --vault demo@agent-a diff HEAD~1 HEAD --stat
run avfs --vault demo diff agent-a agent-b --name-status

say "4. Agent A goes wrong: everything is deleted, and comes back"
run avfs --vault demo@agent-a rm -r avfs_git docs tests .env build >"$place/out"
run avfs --vault demo@agent-a checkpoint restore planned --dry-run >"$place/out" && sed -n 1,4p "$place/out"
run avfs --vault demo@agent-a checkpoint restore planned >"$place/out" && sed -n 1,2p "$place/out"
run avfs --vault demo@agent-a cat docs/plan.md
echo
run avfs --vault demo@agent-a cat .env
run avfs --vault demo@agent-a undo >"$place/out" && sed -n 1,2p "$place/out"
run avfs --vault demo@agent-a redo >"$place/out" && sed -n 1,2p "$place/out"
run avfs --vault demo@agent-a op log -n 5

say "5. The others saw nothing of it; a program reads JSON"
run avfs --vault demo@agent-b status --json
run avfs --vault demo@agent-c cat .env
echo

say "6. The vault is plain git, and its history is clean"
run git -C "$vault" --no-pager log --graph --oneline --decorate --branches
run git -C "$vault" --no-pager diff --stat main agent-a
run git -C "$vault" fsck --strict --no-dangling
run git clone -q -b agent-b "$vault" "$place/clone"
run cat "$place/clone/tools/b.py"
run avfs --vault demo doctor

say "7. Out again: everything, what git ignores included"
run avfs --vault demo@agent-c export -r / "$place/exported"
run ls -A "$place/exported"

say "8. A live tree: any program works in it; what reaches outside of it is asked about first"
run avfs --vault demo@agent-b exec -c 'echo "made by a program" >tools/made.txt'
run avfs --vault demo@agent-b cat tools/made.txt
run avfs --vault demo@agent-b exec curl https://example.org || true # the policy wants a person's approval: nothing is fetched
run avfs --vault demo@agent-b undo

say "9. Two forks changed the same file: they are merged, and the conflict is resolved"
printf 'print("agent A")\n' | run avfs --vault demo@agent-a write tools/b.py
run avfs --vault demo@agent-a checkpoint save -d "tools: another script of that name"
run avfs --vault demo@agent-a merge agent-b --on-conflict workspace || true
run avfs --vault demo@agent-a resolve tools/b.py --theirs
run avfs --vault demo@agent-a merge --continue
run avfs --vault demo@agent-a cat tools/b.py

say "10. The result is pushed, as a branch like any other"
git init -q --bare -b main "$place/server.git"
run avfs --vault demo remote add server "$place/server.git"
run avfs --vault demo push agent-a --remote server
run git -C "$place/server.git" --no-pager log --oneline -n 3 agent-a
