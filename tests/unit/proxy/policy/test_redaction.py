"""What looks like a secret, and what does not."""

from __future__ import annotations

import pytest

from avfs_git.proxy.exec.environment import divide
from avfs_git.proxy.policy.decision import Request
from avfs_git.proxy.policy.redaction import Redactor

SECRET = "hunter2-Zq"
LONG = "Zq1234567890abcdefXY"
REDACTOR = Redactor()


@pytest.mark.parametrize(
    "text",
    [
        f"curl https://user:{SECRET}@example.org/x",
        f"git clone https://{LONG}@github.com/a/b",
        f"curl -u me:{SECRET} x",
        f"curl --user 'me:{SECRET}' x",
        f"curl -H 'Authorization: Basic {SECRET}' x",
        f'curl -H "X-Api-Key: {SECRET}" x',
        f"curl -H 'Cookie: id={SECRET}' x",
        f"tool --password {SECRET}",
        f"tool --password '{SECRET} two words'",
        f"tool --db-password={SECRET} x",
        f"tool --api-key={SECRET}",
        f"API_TOKEN={SECRET} make deploy",
        f"export MY_SECRET='{SECRET} more'; make",
        f"API_TOKEN=a'{SECRET}' make",
        f"API_TOKEN='a'{SECRET} make",
        f'API_TOKEN=a"{SECRET}" make',
        f"API_TOKEN=$'{SECRET}' make",
        f"API_TOKEN=a\\ {SECRET} make",
        f'API_TOKEN="a\\"{SECRET}" make',
        f'sh -c "API_TOKEN=\\"{SECRET}\\" make"',
        f"""curl -d '{{"user": "me", "password": "{SECRET}"}}' x""",
        f'curl -d "{{\\"apiKey\\":\\"{SECRET}\\"}}" x',
        f"cat > x.yml <<E\npassword: '{SECRET}'\nE",
        f"""echo 'password = "{SECRET}"' > x.toml""",
        f"echo ghp_{LONG} | gh auth login --with-token",
        f"tool sk-{LONG}",
        f"tool xoxb-{LONG}",
        f"tool AKIA{LONG}",
        f"tool eyJ{LONG}.{LONG}.{SECRET}",
        f"echo '-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----' > key",
    ],
)
def test_secrets_of_a_text_are_hidden(text: str) -> None:
    """In a text for a shell, also as a program's arguments; and in the headline there is nothing but plain words."""
    shown = REDACTOR.command(Request("/v", "f", shell=text))
    assert SECRET not in shown
    assert LONG not in shown
    assert shown.split()[0] == text.split(maxsplit=1)[0] or "=" in text.split(maxsplit=1)[0]
    inner = REDACTOR.command(Request("/v", "f", argv=("sh", "-c", text)))
    assert SECRET not in inner
    assert LONG not in inner
    assert SECRET not in REDACTOR.headline(Request("/v", "f", shell=text))


@pytest.mark.parametrize(
    "argv",
    [
        ("tool", "--token", f"{SECRET} with spaces"),
        ("tool", f"--token={SECRET}\nand lines"),
        ("env", f"DB_PASSWORD={SECRET} with spaces", "make"),
        ("curl", "-H", f"Authorization: token {SECRET}"),
    ],
)
def test_secrets_of_arguments_are_hidden(argv: tuple[str, ...]) -> None:
    """Whole, whatever they hold."""
    shown = REDACTOR.command(Request("/v", "f", argv=argv))

    assert SECRET not in shown
    assert "spaces" not in shown
    assert "lines" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "make -j4 test TESTS=unit",
        "pytest tests/test_tokens.py -k 'secret and not key'",
        "git commit -m 'keyboard: ask for the password again'",
        "pip install tokenizers scikit-learn",
        "grep -rn token src",
        "cargo build --release",
        "ssh-keygen --help",
        "docker run -e TOKENIZERS_PARALLELISM=false image",
        """jq '{"tokens": .n, "key": "v"}' a""",
        "grep -n 'password =' src",
    ],
)
def test_other_texts_stay(text: str) -> None:
    """Words about secrets are none."""
    assert REDACTOR.command(Request("/v", "f", shell=text)) == text


def test_what_stands_behind_a_quoted_secret_stays() -> None:
    """The quote that ends a text around a secret begins no other one."""
    shown = REDACTOR.command(Request("/v", "f", shell=f"sh -c 'TOKEN={SECRET}' && rm -r 'a b'"))

    assert shown == "sh -c 'TOKEN=***' && rm -r 'a b'"


@pytest.mark.parametrize(
    ("text", "headline"),
    [
        ("make -j4 test", "make"),
        ("git status --porcelain", "git status"),
        ("npm run build all the rest", "npm run build"),
        ("src/tool.sh x > y", "src/tool.sh x"),
        ("./run.sh all", "./run.sh all"),
        ("TOKEN=x CC=gcc make all", "make all"),
        ("TOKEN='a b' make", "make"),
        ("X='a b c' make", "a command"),
        ("X=$(cat a b) make", "a command"),
        ("X=1", "a command"),
        ("$(cat x)", "a command"),
    ],
)
def test_a_headline_is_a_programs_first_words(text: str, headline: str) -> None:
    """Up to the first that is more than a plain word."""
    assert REDACTOR.headline(Request("/v", "f", shell=text)) == headline


@pytest.mark.slow
def test_a_long_text_takes_no_long_time() -> None:
    """Only its beginning is shown, whatever it holds; this returns at all."""
    for piece in ("a-", "://", "token=", "--token ", "'", "-----BEGIN PRIVATE KEY"):
        assert len(REDACTOR.command(Request("/v", "f", shell="key " + piece * 500_000))) < 200_000
        assert len(REDACTOR.command(Request("/v", "f", argv=("key", *[piece] * 100_000)))) < 1_000_000


def test_variables_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names, and by what the policy and the caller say."""
    secrets = [
        "GITHUB_TOKEN",
        "npm_config__authToken",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "PGPASSWORD",
        "MY_API_KEY",
    ]
    secrets += ["SSH_KEY_PASSPHRASE", "GOOGLE_APPLICATION_CREDENTIALS", "MYSQL_PWD", "MY_DSN"]
    harmless = [
        "SSH_AUTH_SOCK",
        "TOKENIZERS_PARALLELISM",
        "AWS_REGION",
        "KEYBOARD",
        "GIT_ASKPASS",
        "PWD",
        "XDG_ID",
        "LD_X",
    ]
    for name in (*secrets, *harmless, "OK_TOKEN", "CARGO_HOME", "LC_TIME"):
        monkeypatch.setenv(name, "x")
    redactor = Redactor(names=("*_DSN",), allowed=("ok_token",))
    inherited = divide(redactor, isolate=False, let_in=("PGPASSWORD",))

    assert {*secrets} - {"PGPASSWORD"} == {*inherited.left_out}
    assert {name.encode() for name in (*harmless, "OK_TOKEN", "PGPASSWORD", "PATH")} <= {*inherited.kept}
    isolated = divide(redactor, isolate=True, isolated=("CARGO_*",), let_in=("GITHUB_TOKEN",))
    assert {b"PATH", b"HOME", b"LC_TIME", b"CARGO_HOME", b"GITHUB_TOKEN"} <= {*isolated.kept}
    assert {"SSH_AUTH_SOCK", "LD_X", "OK_TOKEN", "PGPASSWORD"} <= {*isolated.left_out}
