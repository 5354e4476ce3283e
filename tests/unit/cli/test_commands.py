from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import click
import pytest
from click.testing import CliRunner, Result

from vault import client as public
from vault.cli import COMMANDS, connection, keys, main

TOKEN = UUID("6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f")
CANARY = "ada.canary@example.com"
NOW = datetime(2026, 11, 23, 14, tzinfo=UTC)
METADATA = public.RecordMetadata(
    token=TOKEN,
    collection="users",
    generation=1,
    schema_version=1,
    created_at=NOW,
    updated_at=NOW,
    expires_at=None,
    etag='"e1"',
)
RECORD = public.Record(
    **{name: getattr(METADATA, name) for name in METADATA.__slots__},
    data={"name": "Ada\x1b[31m\u202e", "n": 2**70, "price": Decimal("1.10"), "deep": {"a": [1]}},
    reveal="plain",
    masked=(),
)
ENTRY = public.AuditEntry(
    id="1",
    time=NOW,
    principal="admin",
    credential="00",
    action="record.read",
    result="released",
    reason=None,
    collection="users",
    token=TOKEN,
    generation=1,
    purpose="support",
    request_id="r1",
    fields=("email",),
    lookup_field=None,
    reveal="masked",
    address=None,
    count=1,
)
COLLECTION = public.CollectionInfo(
    name="users",
    schema_version=1,
    schema={
        "properties": {"email": {"type": ["string", "null"], "x-index": "unique"}},
        "required": ["email"],
    },
    settings=public.CollectionSettings(),
    keyring="default",
    created_at=NOW,
    updated_at=NOW,
)
KEYRING = public.Keyring(
    name="default",
    provider="disk",
    active_version=10,
    versions=(
        public.KeyVersion(
            version=10,
            state="active",
            compromised=True,
            provider="disk",
            algorithm="A256KWP",
            created_at=NOW,
            records=7,
            history=0,
            stored_keys=2,
        ),
    ),
)
RESULTS: dict[str, Callable[[], Any]] = {
    "create": lambda: METADATA,
    "get": lambda: RECORD,
    "list": lambda: iter([METADATA] * 3),
    "lookup": lambda: iter([RECORD] * 2),
    "patch": lambda: METADATA,
    "erase": lambda: None,
    "collections": lambda: iter([COLLECTION]),
    "collection": lambda: COLLECTION,
    "define_collection": lambda: COLLECTION,
    "audit": lambda: iter([ENTRY] * 3),
    "keyrings": lambda: (KEYRING,),
    "exposure": lambda: public.KeyExposure(data_keys=0, until=None),
}


class FakeClient:
    """Stands where the commands make their client, remembers calls and raises what a test wants."""

    made: dict[str, Any]
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]]
    error: Exception | None = None

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, server: str, **settings: Any) -> FakeClient:
        self.made = {"server": server, **settings}
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            if self.error is not None:
                raise self.error
            return RESULTS[name]()

        return call


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr(connection, "Client", fake)
    for name in ("STRONGROOM_SERVER", "STRONGROOM_CREDENTIAL_FILE"):
        monkeypatch.delenv(name, raising=False)
    return fake


def run(*arguments: str | UUID, stdin: str | bytes = "", credential: bool = True) -> Result:
    chosen = ["--credential-file", "/credential"] if credential else []
    return CliRunner().invoke(main, [*map(str, arguments), *chosen], input=stdin, prog_name="strongroom")


EVERY_COMMAND: list[tuple[tuple[str, ...], str]] = [
    (("collections", "list"), ""),
    (("collections", "show", "users"), ""),
    (("collections", "define", "users", "--schema", "-"), "{}"),
    (("records", "create", "users"), "{}"),
    (("records", "get", "users", str(TOKEN)), ""),
    (("records", "list", "users"), ""),
    (("records", "lookup", "users", "email"), CANARY),
    (("records", "update", "users", str(TOKEN)), "{}"),
    (("records", "erase", "users", str(TOKEN), "--yes"), ""),
    (("audit", "list"), ""),
    (("audit", "list", "--person", "users", "email"), CANARY),
    (("keys", "list"), ""),
]


@pytest.mark.parametrize(("arguments", "stdin"), EVERY_COMMAND)
def test_every_command_ends_well_and_prints_json_if_asked(
    fake: FakeClient, arguments: tuple[str, ...], stdin: str
) -> None:
    for_people = run(*arguments, stdin=stdin)
    for_programs = run(*arguments, "--json", stdin=stdin)
    assert (for_people.exit_code, for_programs.exit_code) == (0, 0), for_people.output
    assert for_people.stdout
    assert all(isinstance(json.loads(line), dict) for line in for_programs.stdout.splitlines())
    assert for_programs.stdout
    assert fake.made == {
        "server": "http://127.0.0.1:8420",
        "credential_file": Path("/credential"),
        "purpose": None,
        "ca": None,
        "insecure_http": False,
        "exact_numbers": True,
        "retry_seconds": 2.0,
    }


@pytest.mark.parametrize(("arguments", "stdin"), EVERY_COMMAND)
def test_without_a_credential_no_command_starts(
    fake: FakeClient, arguments: tuple[str, ...], stdin: str
) -> None:
    refused = run(*arguments, stdin=stdin, credential=False)
    assert refused.exit_code == 2
    assert "--credential-file" in refused.stderr
    assert fake.calls == []


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (public.NotAuthenticated("Send a credential."), 1, "init --new-credential"),
        (public.ConnectionFailed("No connection.", code="connection-refused"), 1, "strongroom serve"),
        (public.ConnectionFailed("Not trusted.", code="tls"), 1, "--ca FILE"),
        (public.ConnectionFailed("No answer.", code="timeout"), 1, "No answer."),
        (
            public.Duplicate("Taken: email", errors=[public.Violation("/email", "duplicate")]),
            1,
            "/email: duplicate",
        ),
        (public.InvalidRequest("Bad.", errors=[public.Violation("/a", "type", "Not so.")]), 1, "/a: Not so."),
        (public.InvalidRequest("Bad.", errors=[public.Violation("", "required")]), 1, "/: required"),
        (public.PreconditionFailed("Changed."), 1, "read it again"),
        (public.Unavailable("No keys."), 1, "Try again in 1 s."),
        (public.UnexpectedAnswer("What?"), 1, "Does --server name a Strongroom"),
        (public.StrongroomError("Sorry.", status=500, code="internal", request_id="r9"), 1, "request r9"),
        (public.NotFound("No such record."), 1, "No such record."),
        (
            public.NotFound("No such collection.", code="collection-not-found"),
            1,
            "strongroom collections list",
        ),
        (public.InvalidRequest("Why?", code="purpose-required"), 1, "Pass --purpose"),
        (public.InvalidRequest("Which?", code="precondition-required"), 1, "Pass --if-match"),
        (public.Misconfigured("In the clear.", code="insecure-http"), 2, "--insecure-http"),
        (public.Misconfigured("Wrong file."), 2, "Wrong file."),
    ],
)
def test_errors_become_sentences_and_exit_codes(
    fake: FakeClient, error: Exception, exit_code: int, said: str
) -> None:
    fake.error = error
    failed = run("records", "get", "users", TOKEN)
    assert (failed.exit_code, failed.stdout) == (exit_code, "")
    assert failed.stderr.startswith("Error: ")
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    "lost",
    [
        public.ConnectionFailed("Broke.", code="connection-lost"),
        public.Unavailable("Open.", status=503, code="outcome-unknown"),
    ],
)
def test_a_write_of_unknown_outcome_says_so(fake: FakeClient, lost: public.StrongroomError) -> None:
    lost.outcome_unknown = True
    fake.error = lost
    assert "look before you repeat" in run("records", "create", "users", stdin="{}").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("records", "lookup", "users", "email", CANARY),
        ("audit", "list", "--person", "users", "email", CANARY),
        ("records", "get", "users", CANARY),
        ("records", "erase", "users", CANARY, "--yes"),
        ("records", "update", "users", CANARY),
        ("records", "get", CANARY, str(TOKEN)),
        ("audit", "list", "--token", CANARY),
    ],
)
def test_a_value_on_the_command_line_is_refused_and_not_repeated(
    fake: FakeClient, arguments: tuple[str, ...]
) -> None:
    refused = run(*arguments, stdin=CANARY)
    assert refused.exit_code == 2
    assert CANARY not in refused.output
    assert fake.calls == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("records", "fetch"),
        ("records", "get", "users"),
        ("records", "get", "users", str(TOKEN), "--reveal", "all"),
        ("records", "get", "users", str(TOKEN), "--generation", "0"),
        ("records", "erase", "users", str(TOKEN)),
        ("audit", "list", "--action", "record.reed"),
        ("audit", "list", "--result", "denied"),
        ("records", "list", "users", "--limit", "-1"),
        ("records", "create", "users", "--data", "/nowhere/at/all"),
        ("collections", "define", "users"),
        ("collections", "show", "Users"),
        ("audit", "list", "--since", "yesterday"),
        ("audit", "list", "--region", "DE"),
        ("nothing",),
    ],
)
def test_wrong_usage_is_exit_code_2(fake: FakeClient, arguments: tuple[str, ...]) -> None:
    refused = run(*arguments)
    assert refused.exit_code == 2, refused.output
    assert "Usage:" in refused.stderr
    assert fake.calls == []


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        ("", "Nothing came in"),
        (" \n", "Nothing came in"),
        ("{", "not valid JSON"),
        ('{"canary":1,"canary":2}', "key twice"),
        ('{"a":NaN}', "not valid JSON"),
        ("[1]", "must be a JSON object"),
        (b'{"a":"\xff"}', "not valid JSON"),
    ],
)
def test_broken_input_fails_before_anything_is_sent(fake: FakeClient, stdin: str | bytes, said: str) -> None:
    failed = run("records", "create", "users", stdin=stdin)
    assert failed.exit_code == 1
    assert said in failed.stderr
    assert "canary" not in failed.output
    assert fake.calls == []


@pytest.mark.parametrize("stdin", ["", "\n", f"{CANARY}\n{CANARY}\n", "x" * 5000, b"\xff\xfe"])
def test_a_value_is_one_line_of_text(fake: FakeClient, stdin: str | bytes) -> None:
    failed = run("records", "lookup", "users", "email", stdin=stdin)
    assert failed.exit_code == 1
    assert "standard input" in failed.stderr.lower()
    assert CANARY not in failed.output
    assert fake.calls == []


@pytest.mark.parametrize("stdin", [CANARY, f"{CANARY}\n", f"{CANARY}\r\n"])
def test_the_value_comes_from_standard_input(fake: FakeClient, stdin: str) -> None:
    found = run("records", "lookup", "users", "email", "--region", "DE", "--fields", "a, b", stdin=stdin)
    assert found.exit_code == 0
    assert fake.calls == [
        ("lookup", ("users", "email", CANARY), {"region": "DE", "reveal": "masked", "fields": ["a", "b"]})
    ]


def test_a_lookup_without_result_is_no_failure(fake: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESULTS, "lookup", lambda: iter([]))
    found = run("records", "lookup", "users", "email", stdin=CANARY)
    assert (found.exit_code, found.stdout) == (0, "")
    assert CANARY not in found.stderr
    assert fake.calls[0][0] == "lookup"


def test_documents_go_on_with_every_digit(fake: FakeClient) -> None:
    run(
        "records",
        "create",
        "users",
        "--expires-at",
        "2030-01-01",
        stdin='{"n":1180591620717411303424,"p":1.10}',
    )
    run("records", "update", "users", TOKEN, "--if-match", '"e1"', stdin='{"p":null}')
    assert fake.calls == [
        (
            "create",
            ("users", {"n": 2**70, "p": Decimal("1.10")}),
            {"expires_at": datetime(2030, 1, 1, tzinfo=UTC), "region": None},
        ),
        ("patch", ("users", TOKEN, {"p": None}), {"if_match": '"e1"'}),
    ]


def test_stored_values_cannot_command_a_terminal(fake: FakeClient) -> None:
    for option in ([], ["--json"]):
        shown = run("records", "get", "users", TOKEN, "--reveal", "plain", *option).stdout
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "Ada\\u001b[31m\\u202e" in shown
        assert str(2**70) in shown
        assert "1.10" in shown
    assert json.loads(shown)["data"]["name"] == "Ada\x1b[31m\u202e"
    assert fake.calls[0][2]["reveal"] == "plain"


def test_erase_asks_somebody_who_is_there(fake: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    def answer(text: str) -> Iterator[None]:
        monkeypatch.setattr(click, "confirm", _confirming(text))
        yield

    monkeypatch.setattr("vault.cli.records.sys", type("Sys", (), {"stdin": Terminal()}))
    for text, exit_code in (("n", 1), ("y", 0)):
        next(answer(text))
        assert run("records", "erase", "users", TOKEN).exit_code == exit_code
    assert [name for name, *_ in fake.calls] == ["erase"]


def test_erase_can_name_the_state_that_it_ends(fake: FakeClient) -> None:
    # A collection can demand it, and then there is no erasing without it.
    assert run("records", "erase", "users", TOKEN, "--yes", "--if-match", "*").exit_code == 0
    assert fake.calls == [("erase", ("users", TOKEN), {"if_match": "*"})]


def _confirming(text: str) -> Callable[..., bool]:
    def confirm(_question: str, *, abort: bool, err: bool) -> bool:
        assert abort
        assert err
        if text == "n":
            raise click.Abort
        return True

    return confirm


def test_audit_search_passes_every_criterion(fake: FakeClient) -> None:
    listed = run(
        "audit", "list", "--principal", "admin", "--token", TOKEN, "--action", "record.read", "--result", "released",
        "--collection", "users", "--purpose", "support", "--since", "2026-01-01T00:00:00+02:00",
        "--until", "2027-01-01", "--person", "users", "phone", "--region", "DE", stdin="030 1234\n",
    )  # fmt: skip
    assert listed.exit_code == 0, listed.output
    ((name, args, criteria),) = fake.calls
    assert (name, args) == ("audit", ())
    assert criteria == {
        "principal": "admin",
        "token": TOKEN,
        "action": "record.read",
        "result": "released",
        "collection": "users",
        "purpose": "support",
        "since": datetime.fromisoformat("2026-01-01T00:00:00+02:00"),
        "until": datetime(2027, 1, 1, tzinfo=UTC),
        "person": public.Person(collection="users", field="phone", value="030 1234", region="DE"),
    }
    # Here --purpose is what to search for, not what the search is for.
    assert fake.made["purpose"] is None


def test_purpose_elsewhere_is_what_the_call_is_for(fake: FakeClient) -> None:
    run("records", "list", "users", "--purpose", "support")
    assert fake.made["purpose"] == "support"


@pytest.mark.parametrize(
    ("limit", "lines", "more"), [("2", 2, True), ("3", 3, False), ("0", 3, False), ("100", 3, False)]
)
def test_limits_say_if_there_is_more(fake: FakeClient, limit: str, lines: int, more: bool) -> None:  # noqa: FBT001 - a parameter of the test
    for command in (("records", "list", "users"), ("audit", "list")):
        listed = run(*command, "--limit", limit, "--json")
        assert len(listed.stdout.splitlines()) == lines
        assert ("There are more" in listed.stderr) is more
    assert len(fake.calls) == 2


def test_definitions_take_flags_before_the_file(fake: FakeClient, tmp_path: Path) -> None:
    (tmp_path / "schema").write_text('{"type":"object"}')
    (tmp_path / "settings").write_text('{"strict":false,"history":1}')
    schema = ("collections", "define", "users", "--schema", str(tmp_path / "schema"))
    run(*schema)
    run(*schema, "--settings", str(tmp_path / "settings"), "--strict", "--default-region", "DE")
    assert [settings for _, _, settings in fake.calls] == [
        {"settings": None, "keyring": None},
        {"settings": {"strict": True, "history": 1, "default_region": "DE"}, "keyring": None},
    ]
    assert fake.calls[0][1] == ("users", {"type": "object"})


def test_the_environment_names_server_and_credential(
    fake: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRONGROOM_SERVER", "https://vault.example.com")
    monkeypatch.setenv("STRONGROOM_CREDENTIAL_FILE", "/elsewhere")
    assert run("keys", "list", credential=False).exit_code == 0
    assert (fake.made["server"], fake.made["credential_file"]) == (
        "https://vault.example.com",
        Path("/elsewhere"),
    )


def test_no_table_breaks_a_token_in_two(fake: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert f"{TOKEN}  1  " in run("audit", "list").stdout
    assert fake.calls


def test_people_see_that_a_key_is_compromised(fake: FakeClient) -> None:
    assert "active, compromised" in run("keys", "list").stdout
    assert fake.calls


@pytest.mark.parametrize(("module", "line"), [*COMMANDS.values(), *keys.ON_THE_HOST.values()])
def test_the_table_says_what_the_command_says(module: str, line: str) -> None:
    command = importlib.import_module(module).command
    assert command.get_short_help_str(limit=200) == line


def test_help_loads_no_command() -> None:
    code = (
        "import sys\n"
        "from vault.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith(('vault.', 'rich', 'urllib3', 'peewee'))))\n"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert listed.splitlines()[-1] == "['vault.cli']"
    assert all(name in listed for name in COMMANDS)


def test_the_version(fake: FakeClient) -> None:
    shown = run("--version", credential=False)
    assert (shown.exit_code, shown.output.split()[0]) == (0, "strongroom,")
    assert fake.calls == []
