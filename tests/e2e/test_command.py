"""The real command against a real server: what people type, what comes out, what other users of the machine see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(server: Server, tmp_path: Path) -> dict[str, str]:
    """The environment that names the shared server and its credential."""
    file = tmp_path / "credential"
    file.write_text(server.credential + "\n")
    file.chmod(0o600)
    return {"STRONGROOM_SERVER": server.url, "STRONGROOM_CREDENTIAL_FILE": str(file)}


@pytest.fixture
def done(strongroom: Run, here: dict[str, str]) -> Callable[..., str]:
    """Runs a command that must succeed, and gives what it printed."""

    def run(*arguments: str | Path, **options: Any) -> str:
        result = strongroom(*arguments, environment=here, **options)
        assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result.stdout

    return run


def test_a_record_s_life_in_json(done: Callable[..., str], api: Api, email: str) -> None:
    data = json.dumps({"email": email, "name": "Anna Müller", "big": 2**70, "price": 0.1000})
    made = json.loads(done("records", "create", "users", "--json", input=data))
    token = made["token"]
    assert api.plain(f"/v1/collections/users/records/{token}")["big"] == 2**70
    masked = json.loads(done("records", "get", "users", token, "--json"))
    assert masked["data"]["email"] == "a***@e***.com"
    plain = json.loads(
        done("records", "get", "users", token, "--reveal", "plain", "--fields", "name,big", "--json")
    )
    assert plain["data"] == {"name": "Anna Müller", "big": 2**70}
    found = json.loads(done("records", "lookup", "users", "email", "--json", input=email + "\n"))
    assert found["token"] == token
    listed = [
        json.loads(line) for line in done("records", "list", "users", "--limit", "0", "--json").splitlines()
    ]
    assert token in [each["token"] for each in listed]
    changed = json.loads(done("records", "update", "users", token, "--json", input='{"name": null}'))
    assert changed["generation"] == 2
    assert json.loads(done("records", "erase", "users", token, "--yes", "--json"))["erased"] is True
    actions = [
        json.loads(line)["action"] for line in done("audit", "list", "--token", token, "--json").splitlines()
    ]
    assert actions == [
        "record.erase", "record.update", "record.lookup", "record.read", "record.read", "record.read", "record.create",
    ]  # fmt: skip


def test_the_same_as_tables(done: Callable[..., str], email: str) -> None:
    made = done("records", "create", "users", "--purpose", "shop", input=json.dumps({"email": email}))
    token = next(line.split()[1] for line in made.splitlines() if line.startswith("token"))
    shown = done("records", "get", "users", token)
    assert "a***@e***.com" in shown
    assert email not in shown
    assert email in done("records", "lookup", "users", "email", "--reveal", "plain", input=email)
    lines = done("audit", "list", "--person", "users", "email", input=email).splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:4] == ["TIME", "PRINCIPAL", "ACTION", "RESULT"]
    assert lines[-1].endswith("shop")
    assert email not in "".join(lines)


def test_collections_and_keys(done: Callable[..., str], define: Callable[..., str], tmp_path: Path) -> None:
    name = define({"city": {"type": "string"}})
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "properties": {"city": {"type": "string"}, "zip": {}}}))
    defined = json.loads(done("collections", "define", name, "--schema", schema, "--history", "3", "--json"))
    assert (defined["schema_version"], defined["settings"]["history"]) == (2, 3)
    assert json.loads(done("collections", "show", name, "--json")) == defined
    listed = [json.loads(line)["name"] for line in done("collections", "list", "--json").splitlines()]
    assert {"users", name} <= set(listed)
    assert name in done("collections", "list")
    (ring,) = [json.loads(line) for line in done("keys", "list", "--json").splitlines()]
    assert ring["versions"][0]["state"] == "active"
    assert "active" in done("keys", "list")


def test_verify_finds_nothing_wrong_while_the_server_runs(
    strongroom: Run, server: Server, api: Api, email: str
) -> None:
    api.create({"email": email})
    result = strongroom("verify", "--data", server.data, "--json")
    assert result.returncode == 0, (result.stdout, result.stderr)
    report = json.loads(result.stdout)
    assert (report["ok"], report["findings"]) == (True, [])
    assert report["opened"] >= 1
    assert report["rows"]["record"] >= report["opened"]
    assert "All is as the vault wrote it." in strongroom("verify", "--data", server.data).stdout


@pytest.mark.parametrize(
    ("arguments", "sent", "code", "said"),
    [
        (
            ["records", "get", "users", "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"],
            None,
            1,
            "no record with this token",
        ),
        (["records", "get", "nothing", "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"], None, 1, "no collection"),
        (["records", "get", "users", "hildegard@example.com"], None, 2, "token looks like"),
        (["records", "create", "users"], '{"email": "hildegard"}', 1, "/email"),
        (["records", "create", "users"], '{"hildegard": NaN}', 1, "cannot be read"),
        (["records", "create", "users"], "", 1, "Nothing came in"),
        (
            ["records", "lookup", "users", "email", "hildegard@example.com"],
            "",
            2,
            "does not belong on a command line",
        ),
        (["records", "lookup", "users", "hildegard"], "x", 1, "not indexed"),
        (["records", "erase", "users", "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"], None, 2, "--yes"),
        (["audit", "list", "--person", "users", "email", "hildegard@example.com"], "", 2, "command line"),
    ],
)
def test_a_refusal_is_a_sentence_and_an_exit_code(
    strongroom: Run, here: dict[str, str], arguments: list[str], sent: str | None, code: int, said: str
) -> None:
    result = strongroom(*arguments, environment=here, **({} if sent is None else {"input": sent}))
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "hildegard" not in result.stderr.lower()


def test_a_wrong_credential_says_what_to_do(strongroom: Run, here: dict[str, str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("strongroom_" + "A" * 43)
    wrong.chmod(0o600)
    result = strongroom("records", "list", "users", "--credential-file", wrong, environment=here)
    assert result.returncode == 1
    assert "strongroom init --new-credential" in result.stderr
    wrong.chmod(0o644)
    result = strongroom("records", "list", "users", "--credential-file", wrong, environment=here)
    assert result.returncode in {1, 2}
    assert "A" * 43 not in result.stderr
    result = strongroom(
        "records", "list", "users", environment={"STRONGROOM_SERVER": here["STRONGROOM_SERVER"]}
    )
    assert result.returncode == 2


def test_a_server_that_is_not_there(
    strongroom: Run, here: dict[str, str], free_port: Callable[[], int]
) -> None:
    result = strongroom("keys", "list", "--server", f"http://127.0.0.1:{free_port()}", environment=here)
    assert result.returncode == 1
    assert "strongroom serve" in result.stderr


def test_no_value_stands_in_the_process_list(here: dict[str, str], email: str) -> None:
    """While a look-up waits for its value on standard input, and in what its whole command line was."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")
    } | here
    command = [sys.executable, "-P", "-m", "vault.cli", "records", "lookup", "users", "email", "--json"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert email.encode() not in line
        assert b"strongroom_" not in line
        _, said = process.communicate(email.encode(), timeout=30)
    assert process.returncode == 0
    assert b"No record" in said
    assert email.encode() not in said


def test_the_demo_from_an_empty_folder(strongroom: Run, tmp_path: Path, free_port: Callable[[], int]) -> None:
    result = strongroom("demo", "--check", "--port", str(free_port()), cwd=tmp_path)
    assert result.returncode == 0, (result.stdout[-3000:], result.stderr)
    assert "Every step gave what it should" in result.stdout
    assert list(tmp_path.iterdir()) == []
