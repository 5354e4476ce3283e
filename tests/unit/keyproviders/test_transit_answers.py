"""Answers that no honest server gives, or that only some give: the provider never stores or returns what they say."""

from __future__ import annotations

import base64
import errno
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests
from requests import exceptions

from keyproviders import transit_administration
from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    ProviderMisconfiguredError,
    ProviderSealedError,
    ProviderThrottledError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import ProviderSettings, SecretBytes, UnwrapItem, WrapItem, WrappedKey
from keyproviders.transit import TransitKeyProvider
from keyproviders.transit_administration import TransitAdministration
from keyproviders.transit_options import read_options
from keyproviders.transit_session import TransitSession
from keyproviders.transit_wire import Answer, TransitWire

KEY = "records"
PLAINTEXT = bytes(range(32))
BLOB = bytes(60)
DESCRIBED = {
    "type": "aes256-gcm96",
    "latest_version": 2,
    "min_available_version": 0,
    "min_decryption_version": 1,
    "min_encryption_version": 0,
}
ITEM = UnwrapItem(WrappedKey(KEY, 1, "transit-aes256-gcm96", b"\x01" + BLOB), b"")
Respond = Callable[[str, Mapping[str, Any]], Answer]


def ciphertext(version: int = 1, blob: bytes = BLOB) -> str:
    return f"vault:v{version}:{base64.b64encode(blob).decode()}"


class ScriptedSession(TransitSession):
    """Answers without a server."""

    def __init__(self, folder: Path, respond: Respond, described: Mapping[str, Any] = DESCRIBED) -> None:
        (folder / "token").touch(0o600)
        (folder / "token").write_text("s.token")
        auth = {"method": "token", "token": {"file": "token"}}
        options = {"url": "https://bao.example", "auth": auth}
        super().__init__(read_options(ProviderSettings("bao", options, folder)))
        self.respond = respond
        self.described = described
        self.sent: list[str] = []

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, is_repeatable: bool = True
    ) -> Answer:
        del is_repeatable
        self.sent.append(path)
        if method == "GET":
            return Answer(200, {"data": self.described})
        return self.respond(path, body or {})


def batch(*results: Any, status: int = 200) -> Respond:
    return lambda _path, _body: Answer(status, {"data": {"batch_results": list(results)}})


def wrap_one(folder: Path, respond: Respond) -> Any:
    provider = TransitKeyProvider(ScriptedSession(folder, respond))
    (result,) = provider.wrap(KEY, 1, [WrapItem(SecretBytes(PLAINTEXT), b"")])
    return result


def test_the_stored_form_is_frozen(tmp_path: Path) -> None:
    result = wrap_one(tmp_path, batch({"ciphertext": ciphertext(blob=bytes(range(60))), "key_version": 1}))
    assert result == WrappedKey(KEY, 1, "transit-aes256-gcm96", b"\x01" + bytes(range(60)))
    seen: list[Any] = []

    def respond(_: str, body: Mapping[str, Any]) -> Answer:
        seen.append(body)
        return Answer(200, {"data": {"batch_results": [{"plaintext": base64.b64encode(PLAINTEXT).decode()}]}})

    provider = TransitKeyProvider(ScriptedSession(tmp_path, respond))
    (opened,) = provider.unwrap([UnwrapItem(result, b"")])
    assert isinstance(opened, SecretBytes)
    assert opened.reveal() == PLAINTEXT
    assert seen == [{"batch_input": [{"ciphertext": ciphertext(blob=bytes(range(60)))}]}]


@pytest.mark.parametrize(
    "answer",
    [
        {"ciphertext": ciphertext(2), "key_version": 2},
        {"ciphertext": ciphertext(2)},
        {"ciphertext": ciphertext(), "key_version": 2},
    ],
)
def test_another_version_than_the_named_one_is_never_stored(tmp_path: Path, answer: dict[str, Any]) -> None:
    result = wrap_one(tmp_path, batch(answer))
    assert type(result) is ProviderMisconfiguredError
    assert "another version" in str(result)
    provider = TransitKeyProvider(ScriptedSession(tmp_path, batch(answer)))
    assert [type(each) for each in provider.rewrap([ITEM], 1)] == [ProviderMisconfiguredError]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"ciphertext": None},
        {"ciphertext": ""},
        {"ciphertext": "vault:v01:AAAA"},
        {"ciphertext": "vault:v1:"},
        {"ciphertext": "vault:v1:A"},
        {"ciphertext": ciphertext(blob=bytes(59))},
        {"ciphertext": ciphertext(blob=bytes(61))},
        {"ciphertext": ciphertext() + "\n"},
        {"ciphertext": base64.b64encode(PLAINTEXT).decode()},
        {"ciphertext": ciphertext().replace("vault:", "other:")},
    ],
)
def test_what_is_no_wrapped_key_is_never_stored(tmp_path: Path, answer: dict[str, Any]) -> None:
    assert type(wrap_one(tmp_path, batch(answer))) is ProviderUnavailableError


@pytest.mark.parametrize("plaintext", [None, "", 7, "!", base64.b64encode(bytes(31)).decode(), "A" * 44])
def test_what_is_no_key_is_never_returned(tmp_path: Path, plaintext: object) -> None:
    provider = TransitKeyProvider(ScriptedSession(tmp_path, batch({"plaintext": plaintext})))
    assert [type(each) for each in provider.unwrap([ITEM])] == [ProviderUnavailableError]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"data": None},
        {"data": {"batch_results": None}},
        {"data": {"batch_results": {}}},
        {"data": {"batch_results": []}},
        {"data": {"batch_results": [{"plaintext": "AAAA"}] * 2}},
        {"data": {"batch_results": ["AAAA"]}},
        {"data": {"plaintext": "AAAA"}},
    ],
)
def test_a_batch_without_an_answer_for_each_item_is_no_answer(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    provider = TransitKeyProvider(ScriptedSession(tmp_path, lambda *_: Answer(200, document)))
    with pytest.raises(ProviderUnavailableError, match="did not answer each item"):
        provider.unwrap([ITEM])


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_bad_items_beside_good_ones(tmp_path: Path, status: int, place: int) -> None:
    good = {"plaintext": base64.b64encode(PLAINTEXT).decode(), "error": ""}
    results: list[Any] = [good, good, good]
    results[place] = {"plaintext": "", "error": "cipher: message authentication failed"}
    provider = TransitKeyProvider(ScriptedSession(tmp_path, batch(*results, status=status)))
    opened = provider.unwrap([ITEM] * 3)
    kinds: list[type] = [SecretBytes] * 3
    kinds[place] = WrappedKeyRejectedError
    assert [type(each) for each in opened] == kinds


def test_a_refusal_of_the_whole_request_is_each_items(tmp_path: Path) -> None:
    answer = Answer(400, {"errors": ["invalid ciphertext: no prefix"]})
    provider = TransitKeyProvider(ScriptedSession(tmp_path, lambda *_: answer))
    assert [type(each) for each in provider.unwrap([ITEM] * 3)] == [WrappedKeyRejectedError] * 3


def test_an_unknown_complaint_is_no_alarm(tmp_path: Path) -> None:
    provider = TransitKeyProvider(ScriptedSession(tmp_path, batch({"error": "out of entropy"})))
    assert [type(each) for each in provider.unwrap([ITEM])] == [ProviderUnavailableError]


def test_a_key_is_asked_for_once_however_many_items_complain(tmp_path: Path) -> None:
    session = ScriptedSession(tmp_path, batch(*[{"error": "cipher: message authentication failed"}] * 50))
    TransitKeyProvider(session).unwrap([ITEM] * 50)
    assert len(session.sent) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"latest_version": None},
        {"latest_version": "2"},
        {"latest_version": True},
        {"latest_version": -1},
        {"latest_version": 2**40},
        {"min_available_version": 1.5},
        {"type": None},
    ],
)
def test_a_key_that_is_described_strangely_is_not_used(tmp_path: Path, change: dict[str, Any]) -> None:
    session = ScriptedSession(tmp_path, batch(), {**DESCRIBED, **change})
    with pytest.raises((ProviderUnavailableError, ProviderMisconfiguredError)):
        TransitKeyProvider(session).key_info(KEY)
    with pytest.raises(ProviderUnavailableError, match="describes a key"):
        TransitKeyProvider(ScriptedSession(tmp_path, batch(), {})).key_info(KEY)


def test_too_large_a_request_is_halved(tmp_path: Path) -> None:
    sizes: list[int] = []

    def respond(_: str, body: Mapping[str, Any]) -> Answer:
        sizes.append(len(body["batch_input"]))
        if sizes[-1] > 3:
            return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {})
        return Answer(200, {"data": {"batch_results": [{"plaintext": "x"}] * sizes[-1]}})

    provider = TransitKeyProvider(ScriptedSession(tmp_path, respond))
    assert len(provider.unwrap([ITEM] * 10)) == 10
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert provider.capabilities().max_batch == 2


# --- rotation


def test_a_rotation_that_was_not_confirmed_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transit_administration, "_ROTATION_PAUSE_SECONDS", 0)
    refusals = [ProviderUnavailableError("status 500", provider="bao")] * 3

    def respond(_: str, __: Mapping[str, Any]) -> Answer:
        if refusals:
            raise refusals.pop()
        return Answer(200, {"data": {**DESCRIBED, "latest_version": 6}})

    assert TransitAdministration(ScriptedSession(tmp_path, respond)).rotate(KEY) == 6
    refusals += [ProviderUnavailableError("status 500", provider="bao")] * 100
    with pytest.raises(ProviderUnavailableError, match="rotate again before any new version is used"):
        TransitAdministration(ScriptedSession(tmp_path, respond)).rotate(KEY)
    assert len(refusals) == 100 - transit_administration._ROTATION_TRIES


@pytest.mark.parametrize("kind", [ProviderSealedError, ProviderThrottledError])
def test_a_rotation_that_did_not_begin_is_not_repeated(
    tmp_path: Path, kind: type[ProviderUnavailableError]
) -> None:
    def respond(_: str, __: Mapping[str, Any]) -> Answer:
        raise kind("no", provider="bao")

    session = ScriptedSession(tmp_path, respond)
    with pytest.raises(kind):
        TransitAdministration(session).rotate(KEY)
    assert len(session.sent) == 2


def test_a_change_that_is_refused(tmp_path: Path) -> None:
    answer = Answer(400, {"errors": ["no"]})
    administration = TransitAdministration(ScriptedSession(tmp_path, lambda *_: answer))
    with pytest.raises(ProviderMisconfiguredError, match="refused to change key"):
        administration.rotate(KEY)
    silent = TransitAdministration(ScriptedSession(tmp_path, lambda *_: Answer(204, {})))
    with pytest.raises(KeyNotFoundError):
        silent.retire(KEY, 3)
    silent.retire(KEY, 1)


# --- what the wire makes of answers and of losing them


class Refusing:
    """Stands in for hvac's adapter."""

    def __init__(self, *outcomes: Exception | requests.Response) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0

    def request(self, *_: Any, **__: Any) -> requests.Response:
        self.asked += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def response(status: int, body: bytes = b"{}", **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = body
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return made


def wire(folder: Path, *outcomes: Exception | requests.Response) -> tuple[TransitWire, Refusing]:
    made = TransitWire(ScriptedSession(folder, batch()).options)
    made._adapter.close()
    refusing = made._adapter = Refusing(*outcomes)
    return made, refusing


@pytest.mark.parametrize(
    ("answered", "kind"),
    [
        (response(500), ProviderUnavailableError),
        (response(502, b"<html>"), ProviderUnavailableError),
        (response(503, b'{"errors":["Vault is sealed"]}'), ProviderSealedError),
        (response(503, b'{"errors":["no active node"]}'), ProviderUnavailableError),
        (response(501), ProviderSealedError),
        (response(429), ProviderThrottledError),
        (response(412), ProviderUnavailableError),
        (response(473), ProviderUnavailableError),
        (response(307, Location="https://elsewhere/v1/x"), ProviderUnavailableError),
        (response(200, b"<html>hello</html>"), ProviderUnavailableError),
        (response(200, b"[]"), ProviderUnavailableError),
        (response(404, b"not here"), ProviderUnavailableError),
    ],
)
def test_statuses(tmp_path: Path, answered: requests.Response, kind: type[KeyProviderError]) -> None:
    made, _ = wire(tmp_path, answered)
    with pytest.raises(kind) as caught:
        made.send("GET", "x")
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("99999999", 3600), ("soon", None), ("-1", None), ("", None)]
)
def test_how_long_to_wait(tmp_path: Path, header: str, seconds: float | None) -> None:
    made, _ = wire(tmp_path, response(429, Retry_After=header))
    with pytest.raises(ProviderThrottledError) as caught:
        made.send("GET", "x")
    assert caught.value.retry_after_seconds == seconds


def lost(cause: Exception) -> exceptions.ConnectionError:
    """As requests and urllib3 wrap it."""
    return exceptions.ConnectionError(requests.packages.urllib3.exceptions.ProtocolError("aborted", cause))


@pytest.mark.parametrize(
    "cause",
    [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        BrokenPipeError(errno.EPIPE, "pipe"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        ssl.SSLError(1, "[ENGINE: NO_SUCH_ENGINE] no such engine"),
    ],
)
def test_a_dead_connection_is_replaced_once(tmp_path: Path, cause: Exception) -> None:
    made, adapter = wire(tmp_path, lost(cause), response(200))
    assert made.send("GET", "x").status == 200
    assert adapter.asked == 2
    made, adapter = wire(tmp_path, lost(cause), lost(cause), response(200))
    with pytest.raises(ProviderUnavailableError, match="cut the connection"):
        made.send("GET", "x")
    assert adapter.asked == 2
    made, adapter = wire(tmp_path, lost(cause), response(200))
    with pytest.raises(ProviderUnavailableError, match="cut the connection"):
        made.send("POST", "x", {}, is_repeatable=False)
    assert adapter.asked == 1


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            exceptions.SSLError(ssl.SSLCertVerificationError(1, "x")),
            ProviderMisconfiguredError,
            "not trusted",
        ),
        (exceptions.ConnectTimeout(), ProviderUnavailableError, "accept a connection within 1 s"),
        (exceptions.ReadTimeout(), ProviderUnavailableError, "answer within 2 s"),
        (lost(ConnectionRefusedError(111, "refused")), ProviderUnavailableError, "refuses connections"),
        (lost(OSError(113, "no route")), ProviderUnavailableError, "could not be reached"),
        (exceptions.ChunkedEncodingError("s.token"), ProviderUnavailableError, "ChunkedEncodingError"),
    ],
)
def test_losses(tmp_path: Path, error: Exception, kind: type[KeyProviderError], words: str) -> None:
    made, adapter = wire(tmp_path, error)
    with pytest.raises(kind, match=words) as caught:
        made.send("GET", "x", token=SecretBytes(b"s.token"))
    assert adapter.asked == 1
    assert "s.token" not in str(caught.value)
    assert caught.value.__context__ is None
