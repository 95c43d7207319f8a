"""The documents that are written from the code, and the table of errors."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from avfs_git import errors, model
from avfs_git.cli import results
from avfs_git.proxy.exec import envelope, steplog
from avfs_git.proxy.policy import approvals, decision
from avfs_git.records import to_record
from avfs_git.workspace.vault.log import audit

ROOT = Path(__file__).resolve().parents[2]

FAMILIES: dict[type[errors.AvfsError], range] = {
    errors.InvalidInput: range(2, 3),
    errors.VaultError: range(10, 20),
    errors.WorkspaceError: range(20, 30),
    errors.CheckpointError: range(30, 40),
    errors.MergeError: range(40, 50),
    errors.MountError: range(50, 60),
    errors.ProblemsFound: range(60, 61),
    errors.InternalError: range(70, 71),
    errors.PolicyError: range(80, 90),
    errors.Interrupted: range(130, 131),
    errors.Terminated: range(143, 144),
    errors.RemoteError: range(90, 100),
    errors.ExecError: range(100, 110),
}


def load_generator() -> ModuleType:
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "json.md"])
def test_generated_documents_are_fresh(name: str) -> None:
    """What stands in docs is what the code says now; `make docs` writes it."""
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == load_generator().render()[name]


def documented_fields() -> dict[str, set[str]]:
    """Read the fields of each record from the page."""
    page = (
        (ROOT / "docs/reference/json.md").read_text(encoding="utf-8").partition("## Records")[2].partition("\n## ")[0]
    )
    sections = page.split("\n### ")[1:]
    return {text.partition("\n")[0]: set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) for text in sections}


def make_emitted(kind: Any) -> object:
    """Make a record of a type: empty lists, zeros, and null for the rest."""
    hints = kind.__annotations__
    given = {name: () if "tuple[" in str(hint) else 0 if hint == "int" else None for name, hint in hints.items()}
    return to_record(kind(**given))


def test_each_documented_field_is_emitted_and_no_other() -> None:
    """A reader finds in a record what the page promises, and the page leaves nothing out."""
    documented = documented_fields()
    kinds = {
        name: kind
        for module in (model, envelope, decision, steplog, approvals, audit)
        for name, kind in vars(module).items()
    }
    kinds |= vars(results)
    emitted = {name: set(cast("dict[str, object]", make_emitted(kinds[name]))) for name in documented}

    assert len(documented) > 60
    assert documented == emitted


def test_a_type_without_words_is_refused() -> None:
    """An enumeration that the generator does not know would leave an empty table."""
    generator = load_generator()

    assert generator.spell_type("SessionBackend", "backend", {}) == "`overlay` · `fuse` · `portable`"
    with pytest.raises(TypeError, match="backend: no words for Unheard"):
        generator.spell_type("Unheard", "backend", {})


def test_a_code_that_is_not_explained_is_refused() -> None:
    """A new warning needs a line in the table, a code that is gone loses its line."""
    generator = load_generator()
    used = generator.find_codes("Warning", "_warn", "warn")

    assert {"gc.busy", "capture.left_out", "restore.kept"} <= used
    assert "path.unreadable" not in used
    with pytest.raises(ValueError, match=r"docs/generate.py: new\.one$"):
        list(generator.render_codes(generator.WARNINGS, {*used, "new.one"}))
    with pytest.raises(ValueError, match=r"docs/generate.py: gc\.busy$"):
        list(generator.render_codes(generator.WARNINGS, used - {"gc.busy"}))


def all_errors() -> list[type[errors.AvfsError]]:
    """List all errors of the module."""
    found, stack = [], [errors.AvfsError]
    while stack:
        kind = stack.pop()
        stack.extend(kind.__subclasses__())
        if kind.__module__ == errors.__name__:
            found.append(kind)
    return found


def test_no_two_errors_share_a_code() -> None:
    """Every error that may be raised has a code of its own."""
    codes = [kind.code for kind in all_errors()]

    assert sorted(codes) == sorted(set(codes))


def test_exit_statuses_stay_in_their_family() -> None:
    """The status of an error tells its family; what has no family ends with 1."""
    for kind in all_errors():
        family = next((statuses for root, statuses in FAMILIES.items() if issubclass(kind, root)), range(1, 2))
        assert kind.exit_code in family, kind


def test_every_error_is_explained() -> None:
    """The table needs a sentence for each."""
    assert [kind for kind in all_errors() if not (kind.__doc__ or "").strip().endswith(".")] == []


def test_documents_link_to_files_and_headings_that_exist() -> None:
    """No document points nowhere."""
    headings: dict[Path, set[str]] = {}
    links: list[tuple[Path, str]] = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        headings[page.resolve()] = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        links += [(page, link) for link in re.findall(r"\]\((?!https?://)([^)]+)", text)]

    def leads_nowhere(page: Path, link: str) -> bool:
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page.resolve()
        return not target.exists() or (heading != "" and heading not in headings.get(target, {heading}))

    assert [(page.name, link) for page, link in links if leads_nowhere(page, link)] == []


def test_each_code_in_the_documents_exists() -> None:
    """A name in backquotes whose first word is a family of error codes is a code of an error or warning, or a setting.

    Design pages also name modules and what is in them.
    """
    package = ROOT / "avfs_git"
    code = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    literals = set(re.findall(r'"([a-z_]+(?:\.[a-z_]+)+)"', code))
    modules = {".".join(path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py")}
    families = {kind.code.partition(".")[0] for kind in all_errors() if "." in kind.code}

    def is_module(name: str) -> bool:
        """Tell whether a name is a module or a function of one, with or without the folders above it."""
        module, _, function = name.rpartition(".")
        endings = tuple(f".{each}" for each in (name, module))
        if any(f".{each}".endswith(endings[0]) for each in modules):
            return True
        return f"def {function}(" in code and any(f".{each}".endswith(endings[1]) for each in modules)

    seen, unknown = set(), []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", page.read_text(encoding="utf-8")):
            if name.partition(".")[0] not in families or re.search(r"\.(?:py|md|json|toml|ndjson|txt)$", name):
                continue
            seen.add(name)
            if name not in literals and not (page.parent.name == "design" and is_module(name)):
                unknown.append((page.name, name))

    assert unknown == []
    assert len(seen) > 50


@pytest.mark.parametrize("name", ["design/security.md", "reference/limits.md"])
def test_each_claim_names_a_test_that_exists(name: str) -> None:
    """A test that is renamed or removed takes its claim along."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)", code, re.MULTILINE))
    files = set(re.findall(r"`(?:tests/)?((?:\w+/)+test_\w+\.py)`", text))
    named = set(re.findall(r"`(test_\w+)`", text))

    assert named - defined == set()
    assert [path for path in sorted(files) if not (ROOT / "tests" / path).exists()] == []
    assert len(named) + len(files) > 10


def test_the_architecture_page_names_each_folder_and_file() -> None:
    """A table of contents that names what is gone, or leaves a folder out, leads readers astray."""
    package = ROOT / "avfs_git"
    text = (ROOT / "docs/design/architecture.md").read_text("utf-8")
    table = text[text.index("## Folders") : text.index("## Where to change what")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    folders = {name for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    files = set(re.findall(r"`(\w+(?:/\w+)+\.\w+)`", text))

    assert [name for name in sorted(folders) if not (package / name).is_dir()] == []
    assert [name for name in sorted(files) if not (package / name).is_file()] == []
    below = {path.parent.relative_to(package).as_posix() for path in package.glob("*/*/__init__.py")}
    assert sorted(name for name in below if name not in folders and not name.startswith("cli/")) == []
