"""What results about vaults and forks look like to people."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path
from avfs_git.errors import quote
from avfs_git.model import ForkStanding, HostReport, Warning

if TYPE_CHECKING:
    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import (
        CompletionScript,
        ConfigResult,
        DirectoryFork,
        ForkList,
        ForkResult,
        HookList,
        PluginList,
        RemoteBranchList,
        SchemaResult,
        TrustedList,
        VaultList,
    )
    from avfs_git.model import (
        DoctorReport,
        ForkInfo,
        ForkStat,
        ForkUsage,
        GarbageResult,
        HostAbility,
        MaintenanceResult,
        MaintenanceStep,
        VaultInfo,
        VaultStats,
    )


_HOOK_STATES = {"missing": "-", "not_enabled": "not enabled", "enabled": "enabled", "changed": "changed"}
_PLUGIN_STATES = {"not_enabled": "not enabled", "enabled": "enabled", "broken": "BROKEN: every change is refused"}


def vault_create(text: TextOutput, vault: VaultInfo) -> None:
    """Say that a vault is there."""
    text.line("Made vault ", (vault.name, "bold"), " at ", quote_path(bytes(vault.path)))
    text.hint(f"Make a fork with `avfs --vault {shlex.quote(vault.name)} fork create NAME`.")


def vault_list(text: TextOutput, result: VaultList) -> None:
    """List vaults; a star marks the current one."""
    vaults = result["vaults"]
    if not vaults:
        text.hint("There is no vault yet. Make one with `avfs vault create NAME`.")
        return
    rows = (
        (
            "*" if vault.current else "",
            vault.name,
            "?" if vault.problem else str(vault.forks),
            text.since(vault.created_at_ns),
        )
        for vault in vaults
    )
    text.table(("", "Vault", "Forks", "Made"), rows, right=("Forks",))
    text.warn(
        Warning(vault.problem_code or "", f"vault {quote(vault.name)} cannot be opened: {vault.problem}")
        for vault in vaults
        if vault.problem is not None
    )


def vault_use(text: TextOutput, vault: VaultInfo) -> None:
    """Say which vault is current."""
    text.line("Using vault ", (vault.name, "bold"))


def vault_info(text: TextOutput, vault: VaultInfo) -> None:
    """Show what is known of a vault."""
    text.facts(
        [
            ("name", vault.name),
            ("path", quote_path(bytes(vault.path))),
            ("current", "yes" if vault.current else "no"),
            ("default fork", vault.default_fork),
            ("forks", str(vault.forks)),
            ("made", text.time(vault.created_at_ns)),
            ("size", None if vault.size_bytes is None else text.size(vault.size_bytes)),
            *_quota_facts(text, vault.held_bytes, vault.max_bytes),
        ]
    )


def _quota_facts(text: TextOutput, held: int | None, limit: int | None) -> list[tuple[str, str]]:
    if limit is None:
        return []
    return [("quota", f"{'?' if held is None else text.size(held)} of {text.size(limit)}")]


def vault_rename(text: TextOutput, vault: VaultInfo) -> None:
    """Say what the vault is called now."""
    old = str(text.request["name"])
    text.line("Renamed vault ", (old, "bold"), " to ", (vault.name, "bold"))
    text.hint(f"Rename it back with `avfs vault rename {shlex.quote(vault.name)} {shlex.quote(old)}`.")


def vault_delete(text: TextOutput, vault: VaultInfo) -> None:
    """Say which vault is gone."""
    text.line("Deleted vault ", (vault.name, "bold"))


def vault_config(text: TextOutput, result: ConfigResult) -> None:
    """List settings as `key=value`."""
    for key, value in sorted(result["config"].items()):
        text.line(key, "=", value)


def vault_trust(text: TextOutput, result: TrustedList) -> None:
    """List the vaults that are trusted."""
    for path in result["trusted"]:
        text.line(quote_path(os.fsencode(path)))


def fork_dir(text: TextOutput, result: DirectoryFork) -> None:
    """Say where the fork is, and what to do with it."""
    session = result["session"]
    place = shlex.quote(os.fspath(session.directory))
    text.line("Forked ", (result["fork"], "bold"), " at ", quote_path(os.fsencode(session.directory)))
    push = (
        f"; hand it over with `git push {result['pushes_to']} {shlex.quote(result['fork'])}` there"
        if result["pushes_to"]
        else ""
    )
    text.hint(f"Work there with `cd {place}`{push}; end it with `avfs end {place}`.")


def fork_create(text: TextOutput, result: ForkResult) -> None:
    """Say which fork was made, and from what."""
    fork = result["fork"]
    # A state that was named may be any: the parent is then only what the fork is compared with.
    origin = f" from {fork.parent}" if fork.parent and not text.request.get("at") else ""
    at = f" at {text.id(fork.forked_at)}" if fork.forked_at else ""
    text.line("Made fork ", (fork.name, "bold"), f"{origin}{at}")
    place = shlex.quote(f"{result['vault']}@{fork.name}")
    text.hint(f"Work in it with `avfs --vault {place} …`.")


def fork_list(text: TextOutput, result: ForkList | RemoteBranchList) -> None:
    """List forks with their parents, or branches of remotes."""
    if "branches" in result:
        _branch_list(text, result)
        return
    standings = {standing.fork: standing for standing in result["standings"]}
    rows = [_fork_row(text, fork, standings.get(fork.name) or ForkStanding(fork.name)) for fork in result["forks"]]
    stat = ["Diffstat"] if text.request.get("stat") else []
    columns = ["Fork", "Head", "From", "State", "Made", "Upstream", "Changed", "Mounted at", *stat]
    if text.on_terminal:  # where it is narrow, a column in which nothing stands leaves its room to the others
        left_out = {"From", "Made"}
        columns = [name for name in columns if name not in left_out and any(row[name] not in {"", "-"} for row in rows)]
    text.table(columns, [[row[name] for name in columns] for row in rows])
    text.warn(
        Warning("fork.damaged", f"{fork.problem}; `avfs doctor` says what can be done")
        for fork in result["forks"]
        if fork.problem is not None
    )


def _fork_row(text: TextOutput, fork: ForkInfo, standing: ForkStanding) -> dict[str, str]:
    """Name what a list of forks says of one, by column."""
    return {
        "Fork": fork.name,
        "Head": text.id(fork.head),
        "From": fork.parent or "-",
        "State": "damaged" if fork.problem else "ephemeral" if fork.ephemeral else "",
        "Made": text.time(fork.created_at_ns),
        "Upstream": _compare(standing),
        "Changed": text.since(standing.changed_at_ns) if standing.changed_at_ns is not None else "-",
        "Mounted at": quote_path(bytes(standing.mounted_at)) if standing.mounted_at is not None else "-",
        "Diffstat": "-" if standing.upstream is None else _count(text, standing.stat),
    }


def _count(text: TextOutput, stat: ForkStat | None) -> str:
    """Say how much a fork changed, as `git diff --shortstat` counts it."""
    return "?" if stat is None else f"{text.count(stat.files, 'file')}, +{stat.additions} -{stat.deletions}"


def _compare(standing: ForkStanding) -> str:
    """Say how far a fork is from its upstream, as short as a table wants it."""
    if standing.upstream is None:
        return "-"
    if standing.ahead is None or standing.behind is None:
        return f"far from {standing.upstream}"
    parts = [f"{count} {word}" for count, word in ((standing.ahead, "ahead"), (standing.behind, "behind")) if count]
    return f"{standing.upstream}: {', '.join(parts)}" if parts else f"as {standing.upstream}"


def _branch_list(text: TextOutput, result: RemoteBranchList) -> None:
    """List branches of remotes, with how far the fork of the same name is from each."""
    rows = (
        (
            branch.name,
            text.id(branch.head),
            branch.fork or "-",
            "-" if branch.ahead is None else f"{branch.ahead} ahead, {branch.behind} behind",
        )
        for branch in result["branches"]
    )
    text.table(("Branch", "Head", "Fork here", "Fork is"), rows)


def fork_info(text: TextOutput, fork: ForkInfo) -> None:
    """Show what is known of a fork."""
    text.facts(
        [
            ("name", fork.name),
            ("head", fork.head or "none yet"),
            ("base", fork.base or "none yet"),
            ("from", fork.parent),
            ("forked at", fork.forked_at),
            ("ephemeral", "yes" if fork.ephemeral else "no"),
            *([("author", f"{fork.author.name} <{fork.author.email}>")] if fork.author is not None else []),
            ("made", text.time(fork.created_at_ns)),
            *(_usage_facts(text, fork.usage) if fork.usage is not None else []),
        ]
    )


def _usage_facts(text: TextOutput, usage: ForkUsage) -> list[tuple[str, str]]:
    size, files = text.size(usage.size_bytes), f"{usage.files:,}"
    facts = [
        ("holds", size if usage.max_bytes is None else f"{size} of {text.size(usage.max_bytes)}"),
        ("files", files if usage.max_files is None else f"{files} of {usage.max_files:,}"),
    ]
    if usage.max_vault_bytes is not None and usage.vault_bytes is not None:
        facts.append(("vault", f"{text.size(usage.vault_bytes)} of {text.size(usage.max_vault_bytes)}"))
    return [*facts, *([("largest file", text.size(usage.max_file_bytes))] if usage.max_file_bytes is not None else [])]


def fork_delete(text: TextOutput, fork: ForkInfo) -> None:
    """Say which fork is gone."""
    text.line("Deleted fork ", (fork.name, "bold"))
    text.hint(f"Bring it back with `avfs undo --fork {shlex.quote(fork.name)}`.")


def fork_rename(text: TextOutput, fork: ForkInfo) -> None:
    """Say which name a fork has now."""
    text.line("Renamed fork ", (str(text.request["name"]), "bold"), " to ", (fork.name, "bold"))
    text.hint(f"Rename it back with `avfs undo --fork {shlex.quote(fork.name)}`.")


def hooks_install(text: TextOutput, result: HookList) -> None:
    """Say where hooks are put."""
    hooks_list(text, result)
    text.hint("Put a program of such a name at such a place, and let it run with `avfs hooks enable NAME`.")


def hooks_list(text: TextOutput, result: HookList) -> None:
    """List hooks with their places."""
    rows = ((hook.name, _HOOK_STATES[hook.state], quote_path(bytes(hook.path))) for hook in result["hooks"])
    text.table(("Hook", "", "Program"), rows)


def plugins_list(text: TextOutput, result: PluginList) -> None:
    """List plug-ins with what they are."""
    rows = ((plugin.name, _PLUGIN_STATES[plugin.state], plugin.kind, plugin.source) for plugin in result["plugins"])
    text.table(("Plug-in", "", "Kind", "Program"), rows)
    if not result["plugins"]:
        text.hint("`avfs plugins enable NAME FILE` has one in Lua or WebAssembly asked before each change.")


def doctor(text: TextOutput, report: DoctorReport | HostReport) -> None:
    """List what was checked and what was found."""
    if isinstance(report, HostReport):
        _host(text, report)
        return
    for problem in report.problems:
        state = "mended" if problem.fixed else problem.severity
        text.line((f"{state}: ", "red" if problem.is_left else "green"), problem.description)
        if not problem.fixed:
            text.line(f"  {problem.remedy}")
    text.line(
        f"Checked {', '.join(report.checked)}: ", ("healthy", "green") if report.healthy else ("not healthy", "red")
    )


def _host(text: TextOutput, report: HostReport) -> None:
    """List what a machine can do, then how to get the rest."""
    more = () if text.on_terminal else ("For", "How to get it")
    rows = [
        (each.name, "yes" if each.works else "no", each.found, *((each.purpose, _tell_remedy(each)) if more else ()))
        for each in report.abilities
    ]
    text.table(("Ability", "Works", "Tried", *more), rows)
    for each in report.abilities if text.on_terminal else ():
        if not each.works:
            text.line((each.name, "bold"), f" is for {each.purpose}.")
            text.line(f"  {_tell_remedy(each)}")


def _tell_remedy(ability: HostAbility) -> str:
    installers = {"debian": "Debian: `apt install {}`", "fedora": "Fedora: `dnf install {}`"}
    packages = "; ".join(installers[system].format(name) for system, name in ability.packages.items())
    return " ".join(filter(None, (ability.remedy, f"{packages}." if packages else ""))) or "-"


def gc(text: TextOutput, result: GarbageResult) -> None:
    """Say what went, or would go."""
    counts = (
        (result.operations, "operations that can no longer be undone"),
        (result.workspaces, "workspaces of deleted forks"),
        (result.refs, "refs that only undo needed"),
        (result.sidecars, "sidecars of old checkpoints (ignored files)"),
        (result.objects, "objects that nothing reaches"),
    )
    for count, what in counts:
        if count:
            text.line("Would drop " if result.dry_run else "Dropped ", (str(count), "bold"), f" {what}")
    if result.forks:
        text.line("Files of deleted forks that undo cannot bring back: ", ", ".join(result.forks))
    if result.waiting:
        text.line(f"{result.waiting} objects that nothing reaches stay until they are old enough")
    if result.dry_run:
        if not any(count for count, _ in counts):
            text.line("Nothing would be dropped.")
        elif result.freed_bytes:
            text.line(f"To be given back: about {text.size(result.freed_bytes)}")
        return
    text.line(
        f"Packs: {result.packs_before} before, {result.packs_after} now; given back: {text.size(result.freed_bytes)}"
    )


prune = gc


def stats(text: TextOutput, result: VaultStats) -> None:
    """Show the counts, then the bytes of each part, then the workspaces."""
    text.facts(
        [
            ("forks", str(result.forks)),
            ("labels", str(result.labels)),
            ("packed objects", f"{result.packed_objects} in {text.count(result.packs, 'pack')}"),
            ("objects", text.size(result.objects_bytes)),
            ("workspaces", text.size(result.workspaces_bytes)),
            ("trash", text.size(result.trash_bytes)),
            ("operation log", text.size(result.log_bytes)),
            ("caches", text.size(result.caches_bytes)),
            ("other", text.size(result.other_bytes)),
            ("total", text.size(result.total_bytes)),
            *_quota_facts(text, result.held_bytes, result.max_bytes),
        ]
    )
    if result.workspaces:
        rows = [(usage.fork, text.size(usage.size_bytes)) for usage in result.workspaces]
        text.table(("Workspace", "Size"), rows, right=("Size",))
    if result.trash_bytes:
        text.hint("See what can be freed with `avfs gc --dry-run`.")


def maintain(text: TextOutput, result: MaintenanceResult) -> None:
    """Say of each step what it did, or whether it is due, and what the last run did."""
    if result.is_busy:
        text.line("Another process maintains this vault: nothing was done.")
        return
    for step in result.steps:
        text.line((f"{step.name}: ", "bold"), _describe_step(step) if step.is_due else "not due")
    if result.dry_run:
        done = "; ".join(f"{step.name}: {_describe_step(step)}" for step in result.last_steps) or "no step was due"
        text.line(f"Last run {text.time(result.last_at_ns)}: {done}" if result.last_at_ns else "It has not run yet.")
        if not result.automatic:
            text.line("It runs only when `avfs maintain` is run: maintenance.auto is 0.")


def _describe_step(step: MaintenanceStep) -> str:
    """Say how much was due, and how much of it was handled."""
    due = f"{step.amount} {_UNITS.get(step.name, '')}"
    return due if step.handled is None else f"{due}, {step.handled} handled in {step.took_ms} ms"


_UNITS = {
    "refs": "refs with files of their own",
    "packs": "packs",
    "oplog": "bytes of the log without an index",
    "audit": "days of an audit log beyond `audit.keep_days` or `audit.files_keep_days`",
    "fold": "files that the heads of forks have, too",
    "gc": "days too old",
}


def completion(text: TextOutput, result: CompletionScript) -> None:
    """Print the script as it is."""
    text.raw(result["script"].encode())


def schema(text: TextOutput, result: SchemaResult) -> None:
    """Print a schema as it is, or the kinds."""
    if result["document"] is None:
        for kind in result["kinds"]:
            text.line(kind)
        return
    import json  # noqa: PLC0415 - only here

    text.raw(json.dumps(result["document"], indent=2).encode() + b"\n")
