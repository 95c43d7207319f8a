"""Rules: what they match, how scopes are merged, and which files are refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from avfs_git.errors import PolicyInvalid
from avfs_git.proxy.policy.decision import Action, Category, Request
from avfs_git.proxy.policy.policy import BUILT_IN_RULES, Policy, decide, load, parse


def make(tmp_path: Path, *, user: str | None = None, vault: str | None = None) -> Policy:
    """Read a policy from the text of its files."""
    files: dict[str, Path | None] = {}
    for name, text in (("user", user), ("vault", vault)):
        path = tmp_path / f"{name}.toml"
        if text is not None:
            path.write_text(f"version = 1\n{text}")
        files[name] = path
    return load(user=files["user"], vault=files["vault"], vault_root=tmp_path / "w.git")


def ask(policy: Policy, text: str) -> Action:
    """Decide about a text for a shell."""
    return decide(Request("/v", "f", shell=text), policy).action


@pytest.mark.parametrize("name", ["user", "vault"])
def test_a_pipe_as_policy_file_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing is read from it, not even where something is in it: so nothing can wait for more."""
    pipe = tmp_path / f"{name}.toml"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    closing = threading.Timer(1, os.close, [held])  # a reader that waits gets the end then, so that the test ends, too
    try:
        os.write(held, b"version = 1\n")
        closing.start()
        with pytest.raises(PolicyInvalid, match="not a regular file"):
            make(tmp_path)
    finally:
        closing.join()


def test_a_link_is_the_policy_file_of_a_user_and_of_no_vault(tmp_path: Path) -> None:
    """A person may keep their own file elsewhere."""
    (tmp_path / "kept").write_text('version = 1\n[[rule]]\nname="n"\ncommands=["ls"]\naction="deny"\n')
    (tmp_path / "user.toml").symlink_to("kept")
    assert ask(make(tmp_path), "ls") is Action.DENY
    (tmp_path / "vault.toml").symlink_to("kept")
    with pytest.raises(PolicyInvalid, match="a symbolic link"):
        make(tmp_path)


def test_the_built_in_rules() -> None:
    """Reading is allowed, changing is saved before, the network and what reaches outside need a person."""
    policy = Policy()

    assert ask(policy, "ls") is Action.ALLOW
    assert ask(policy, "touch a") is Action.ALLOW_WITH_CHECKPOINT
    assert ask(policy, "rm -rf a") is Action.ALLOW_WITH_CHECKPOINT
    assert ask(policy, "curl x") is Action.REQUIRE_APPROVAL
    assert ask(policy, "cat /etc/passwd") is Action.REQUIRE_APPROVAL
    assert ask(policy, "ls; curl x; cat /etc/passwd") is Action.REQUIRE_APPROVAL
    assert ask(policy, "") is Action.ALLOW
    assert {category for rule in BUILT_IN_RULES for category in rule.categories} == set(Category)


def test_a_rule_of_the_user_comes_before_the_built_in_ones(tmp_path: Path) -> None:
    """It may be milder, for just what it matches."""
    policy = make(
        tmp_path,
        user='[[rule]]\nname="npm"\ncategories=["networked"]\ncommands=["npm ci", "npm install"]\n'
        'action="allow_with_checkpoint"\n',
    )

    assert ask(policy, "npm ci") is Action.ALLOW_WITH_CHECKPOINT
    assert ask(policy, "npm publish") is Action.REQUIRE_APPROVAL
    assert ask(policy, "npm ci && curl x") is Action.REQUIRE_APPROVAL  # what stands beside it is not let in
    assert ask(policy, "sh -c 'npm ci'") is Action.ALLOW_WITH_CHECKPOINT
    assert ask(policy, "npm ci --prefix /srv/x") is Action.REQUIRE_APPROVAL  # the rule speaks of the network only


def test_the_first_rule_of_a_file_that_matches_decides(tmp_path: Path) -> None:
    """As in a firewall."""
    policy = make(
        tmp_path,
        user='[[rule]]\nname="a"\ncommands=["curl"]\narguments=["*://evil*"]\naction="deny"\n'
        '[[rule]]\nname="b"\ncommands=["curl"]\naction="allow"\n',
    )

    assert ask(policy, "curl https://good") is Action.ALLOW
    assert ask(policy, "curl https://evil.example") is Action.DENY


def test_the_vault_can_only_make_it_stricter(tmp_path: Path) -> None:
    """Whoever works in the vault may have written its file."""
    loose = '[[rule]]\nname="all"\naction="allow"\n'
    strict = '[[rule]]\nname="none"\ncommands=["make"]\naction="deny"\n'

    assert ask(make(tmp_path, vault=loose), "curl x") is Action.REQUIRE_APPROVAL
    assert ask(make(tmp_path, vault=loose), "touch a") is Action.ALLOW_WITH_CHECKPOINT
    assert ask(make(tmp_path, vault=strict), "make") is Action.DENY
    assert ask(make(tmp_path, user=loose, vault=strict), "make") is Action.DENY
    assert ask(make(tmp_path, user=loose, vault=strict), "curl x") is Action.ALLOW


def test_the_user_can_trust_a_vault(tmp_path: Path) -> None:
    """Then its rules are asked first, also where they are milder."""
    trust = f'trusted_vaults = ["{tmp_path / "w.git"}"]\n'
    loose = '[[rule]]\nname="all"\ncategories=["networked"]\naction="allow"\n'

    assert ask(make(tmp_path, user=trust, vault=loose), "curl x") is Action.ALLOW
    assert (
        ask(make(tmp_path, user='trusted_vaults = ["/other.git"]\n', vault=loose), "curl x") is Action.REQUIRE_APPROVAL
    )


@pytest.mark.parametrize(
    ("command", "action"),
    [
        ("cat secrets/key", Action.DENY),
        ("cat ./src/../secrets/a/b", Action.DENY),
        ("cat a secrets/key", Action.DENY),
        ("cp secrets/key x", Action.DENY),
        ("echo x > secrets/key", Action.DENY),
        ("cat .env", Action.DENY),
        ("cat sub/.env", Action.DENY),
        ("cat secretsx", Action.ALLOW),
        ("cd secrets && cat key", Action.DENY),
        ("cat < secrets/key", Action.DENY),
        ("cat 0< secrets/key", Action.DENY),
        ("echo x >> secrets/key", Action.DENY),
        ("echo x | tee secrets/key", Action.DENY),
        ("sort -o secrets/key a", Action.DENY),
        ("sort -osecrets/key a", Action.DENY),
        ("sort --output=secrets/key a", Action.DENY),
        ("sort --outp secrets/key a", Action.DENY),
        ("gcc -o secrets/key a.c", Action.DENY),
        ("gcc -osecrets/key a.c", Action.DENY),
        ("unknown --file=secrets/key", Action.DENY),
        ("unknown --file secrets/key", Action.DENY),
        ("unknown -fsecrets/key", Action.DENY),
        ("unknown key=secrets/key", Action.DENY),
        ("unknown secrets/key", Action.DENY),
        ("./run.sh secrets/key", Action.DENY),
        ("secrets/run", Action.DENY),
        (". secrets/env", Action.DENY),
        ("bash secrets/run", Action.DENY),
        ("python -m tool secrets/key", Action.DENY),
        ("git -C secrets log", Action.DENY),
        ("git -C secrets add key", Action.DENY),
        ("git --git-dir=secrets/git log", Action.DENY),
        ("git --git-dir secrets/git log", Action.DENY),
        ("git show HEAD:secrets/key", Action.DENY),
        ("git diff -- secrets/key", Action.DENY),
        ("git add secrets/key", Action.DENY),
        ("git frob secrets/key", Action.DENY),
        ("make -C secrets", Action.DENY),
        ("make -f secrets/Makefile", Action.DENY),
        ("tar cf secrets/a.tar a", Action.DENY),
        ("tar xf a.tar -C secrets", Action.DENY),
        ("env -C secrets cat key", Action.DENY),
        ("timeout 5 cat secrets/key", Action.DENY),
        ("xargs cat secrets/key < list", Action.DENY),
        ("find secrets -name x", Action.DENY),
        ("find . -newer secrets/key", Action.DENY),
        ("find . -fprint secrets/key", Action.DENY),
        ("sed -n 1p secrets/key", Action.DENY),
        ("awk '{print}' secrets/key", Action.DENY),
        ("grep -f secrets/key a", Action.DENY),
        ("grep x secrets/key", Action.DENY),
        ("grep -e x secrets/key", Action.DENY),
        ("dd if=secrets/key", Action.DENY),
        ("dd if=a of=secrets/key", Action.DENY),
        ("jq . secrets/key", Action.DENY),
        ("[[ -f secrets/key ]]", Action.DENY),
        ("test -f secrets/key", Action.DENY),
        ("for f in secrets/key; do cat $f; done", Action.DENY),
        ("X=secrets/key; cat $X", Action.DENY),
        ("f() { cat a; }; f secrets/key", Action.DENY),
        ("cd src; cd ..; cat secrets/key", Action.DENY),
        ("cat secrets/*", Action.DENY),
        ("cp -t secrets a", Action.DENY),
        ("curl -d @secrets/key x", Action.DENY),
        ("curl -o secrets/key x", Action.DENY),
        ("curl --upload-file secrets/key x", Action.DENY),
        ("rsync a secrets/key", Action.DENY),
        ("ln -s secrets/key a", Action.DENY),
        ("wget -O secrets/key x", Action.DENY),
        ("FOO=secrets/key unknown", Action.DENY),
        ("cd src && cat secrets/key", Action.ALLOW),
        ("grep secrets/key a", Action.ALLOW),
        ("echo secrets/key", Action.ALLOW),
        ("git commit -m secrets/key", Action.ALLOW_WITH_CHECKPOINT),
    ],
)
def test_paths_that_keep_out(tmp_path: Path, command: str, action: Action) -> None:
    """One path that fits is enough to refuse."""
    policy = make(tmp_path, user='[[rule]]\nname="s"\npaths=["secrets/**", "**/.env", "secrets"]\naction="deny"\n')

    assert ask(policy, command) is action


@pytest.mark.parametrize(
    ("command", "action"),
    [
        ("rm -rf build", Action.ALLOW),
        ("rm -rf build/x", Action.ALLOW),
        ("rm -rf build src", Action.ALLOW_WITH_CHECKPOINT),
        ("rm -rf build/*", Action.ALLOW_WITH_CHECKPOINT),  # a pattern, of which nobody knows what it names
        ("rm -rf build/$x", Action.REQUIRE_APPROVAL),
        ("rm -rf build/../src", Action.ALLOW_WITH_CHECKPOINT),
        ("rm -rf build; touch a", Action.ALLOW_WITH_CHECKPOINT),
        ("echo x > /tmp/x", Action.ALLOW_WITH_CHECKPOINT),
        ("echo x > /tmp/../etc/x", Action.REQUIRE_APPROVAL),
        ("echo x > /tmpx", Action.REQUIRE_APPROVAL),
    ],
)
def test_paths_that_let_in(tmp_path: Path, command: str, action: Action) -> None:
    """A rule that lets in must fit every path, and know them all."""
    policy = make(
        tmp_path,
        user='[[rule]]\nname="b"\ncommands=["rm"]\npaths=["build"]\naction="allow"\n'
        '[[rule]]\nname="t"\ncategories=["host_escape_risk"]\npaths=["/tmp/**"]\naction="allow_with_checkpoint"\n',
    )

    assert ask(policy, command) is action


def test_a_pattern_of_many_gaps_is_decided_at_once(tmp_path: Path) -> None:
    """With each place of each gap tried, this would not end: a vault's file may hold any pattern."""
    many = "*a**/" * 13 + "b"
    policy = make(tmp_path, vault=f'[[rule]]\nname="m"\npaths=["{many}"]\narguments=["{many}"]\naction="deny"\n')

    assert ask(policy, f"cat {'a' * 500}") is Action.ALLOW
    assert ask(policy, f"cat {'a/' * 250}b") is Action.DENY
    assert ask(policy, f"cat {'a' * 13}b/below") is Action.ALLOW  # an argument is no path
    assert ask(policy, f"cat {'a' * 13}b") is Action.DENY


def test_the_explanation_names_every_rule(tmp_path: Path) -> None:
    """All rules in order, which match, and the one that decides; the reason is its."""
    policy = make(tmp_path, user='[[rule]]\nname="no"\ncommands=["cu*"]\naction="deny"\nreason="because"\n')

    decision = decide(Request("/v", "f", shell="ls; curl x"), policy)

    assert (decision.action, decision.reason) == (Action.DENY, "because")
    assert [(rule.scope, rule.name, rule.matched, rule.decisive) for rule in decision.rules] == [
        ("user", "no", True, True),
        ("built-in", "outside", False, False),
        ("built-in", "network", True, False),
        ("built-in", "changes", False, False),
        ("built-in", "reading", True, False),
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "'version' must be 1"),
        ("version = 2\n", "'version' must be 1"),
        ("version = true\n", "'version' must be 1"),
        ("version = 1\nrules = 1\n", "unknown key 'rules'"),
        ("version = 1\nrule = 1\n", "[[rule]]"),
        ('version = 1\n[[rule]]\naction="deny"\n', "no usable 'name'"),
        ('version = 1\n[[rule]]\nname="a"\n', "'action' of rule 'a'"),
        ('version = 1\n[[rule]]\nname="a"\naction="permit"\n', "allow_with_checkpoint"),
        ('version = 1\n[[rule]]\nname="a"\naction="deny"\ncategory=["x"]\n', "unknown key 'category'"),
        ('version = 1\n[[rule]]\nname="a"\naction="deny"\ncategories=["x"]\n', "'categories' of rule 'a'"),
        ('version = 1\n[[rule]]\nname="a"\naction="deny"\ncategories="networked"\n', "list of texts"),
        ('version = 1\n[[rule]]\nname="a"\naction="deny"\ncommands=[]\n', "list of texts"),
        ('version = 1\n[[rule]]\nname="a"\naction="deny"\ncommands=[""]\n', "list of texts"),
        ('version = 1\n[[rule]]\nname="a"\naction="deny"\npaths=[1]\n', "list of texts"),
        ('version = 1\n[[rule]]\nname="a"\naction="deny"\n[[rule]]\nname="a"\naction="deny"\n', "two rules"),
        ('version = 1\ntrusted_vaults = ["x"]\n', "absolute"),
        ("version = 1\n[[rule\n", "line"),
        ("version = 1\nenvironment = 1\n", "written as '[environment]'"),
        ('version = 1\n[environment]\nallowed = ["A"]\n', "unknown key 'allowed'"),
        ("version = 1\n[environment]\nallow = []\n", "list of texts"),
        ('version = 1\n[redact]\npatterns = ["("]\n', "no regular expression"),
        ("version = 1 # \x00\n", ""),
    ],
)
def test_files_that_are_refused(text: str, part: str) -> None:
    """What cannot be understood is refused whole, with the place: a misspelled condition must not widen a rule."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text.encode(), "user")

    assert part in str(caught.value)


def test_a_vault_cannot_trust_itself(tmp_path: Path) -> None:
    """What would let a vault's writer hide commands from the log, or let secrets in, counts in the user's file only."""
    for text in ('[environment]\nallow = ["*"]\n', "[redact]\npatterns = ['.*']\n"):
        with pytest.raises(PolicyInvalid, match="user's file only"):
            make(tmp_path, vault=text)
    with pytest.raises(PolicyInvalid, match="trusted_vaults"):
        make(tmp_path, vault=f'trusted_vaults = ["{tmp_path}"]\n')


def test_a_file_that_cannot_be_read_lets_nothing_run(tmp_path: Path) -> None:
    """A directory in its place, bytes that are no text, a file of a gigabyte: each is an error, and no missing file."""
    (tmp_path / "d").mkdir()
    (tmp_path / "b").write_bytes(b"\xff")
    (tmp_path / "big").write_bytes(b"#" * (2 << 20))

    for name in ("d", "b", "big"):
        with pytest.raises(PolicyInvalid):
            load(user=tmp_path / name, vault=None, vault_root=tmp_path)


def test_a_changed_file_holds_at_once(tmp_path: Path) -> None:
    """What is remembered of a file is what its text means: neither its times nor its length say that it is the same."""
    texts = [f"version = 1\n[[rule]]\nname = 'all'\naction = {action}\n" for action in ("'allow'", "'deny' ")]
    path = tmp_path / "user.toml"
    for text in (*texts, *texts):
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        policy = load(user=path, vault=None, vault_root=tmp_path)
        assert ask(policy, "curl x") is (Action.ALLOW if "allow" in text else Action.DENY)
    trusting = b"version = 1\ntrusted_vaults = ['/v']\n"
    assert parse(trusting, "user").trusted_vaults == ("/v",)
    with pytest.raises(ValueError, match="user's file only"):
        parse(trusting, "vault")
