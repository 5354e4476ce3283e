"""AWS KMS without a server: what its errors mean, which requests leave, and what the environment has no say in."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.stub import Stubber

from keyproviders.awskms import AwsKmsProvider, AwsKmsProviderType
from keyproviders.awskms_administration import AwsKmsAdministration
from keyproviders.awskms_options import administration_options, run_time_options
from keyproviders.awskms_session import AwsKmsSession
from keyproviders.awskms_versions import ALGORITHM
from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderCredentialError,
    ProviderDeniedError,
    ProviderMisconfiguredError,
    ProviderThrottledError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import (
    DataKey,
    HealthStatus,
    ProviderSettings,
    SecretBytes,
    UnwrapItem,
    VersionState,
    WrapItem,
    WrappedKey,
)
from keyproviders.registry import provider_type

CONTEXT = b"tenant|collection|token"
BOUND = {"strongroom": base64.b64encode(hashlib.sha256(CONTEXT).digest()).decode()}
ALIAS = "alias/strongroom/records/v1"
SECRET = "not-a-real-secret-access-key"
WRAPPED = WrappedKey("records", 1, ALGORITHM, b"blob")
ITEM = UnwrapItem(WRAPPED, CONTEXT)
DATA_KEY = bytes(range(32))
ExitCode = Callable[[Callable[[], None]], int]


@pytest.fixture
def settings(tmp_path: Path) -> ProviderSettings:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text(f"{SECRET}\n")
    own = {"access_key_id": "AKIATEST", "secret_access_key": {"file": "secret"}}
    return ProviderSettings("cloud", {"region": "eu-central-1", **own}, tmp_path, own)


def with_options(settings: ProviderSettings, **options: object) -> ProviderSettings:
    changed = {name: value for name, value in (settings.options | options).items() if value is not None}
    return ProviderSettings(settings.name, changed, settings.folder, settings.admin)


def stubbed(session: AwsKmsSession) -> Stubber:
    """Let the session's client answer what a test lines up, and check what it is asked."""
    stubber = Stubber(session._current())
    stubber.activate()
    return stubber


@pytest.fixture
def provider(settings: ProviderSettings) -> Iterator[AwsKmsProvider]:
    opened = AwsKmsProviderType().open(settings)
    yield opened
    opened.close()


@pytest.fixture
def aws(provider: AwsKmsProvider) -> Iterator[Stubber]:
    stubber = stubbed(provider._session)
    yield stubber
    stubber.assert_no_pending_responses()


@pytest.fixture
def administration(settings: ProviderSettings) -> Iterator[AwsKmsAdministration]:
    opened = AwsKmsProviderType().open_administration(settings)
    yield opened
    opened.close()


@pytest.fixture
def admin_aws(administration: AwsKmsAdministration) -> Iterator[Stubber]:
    stubber = stubbed(administration._session)
    yield stubber
    stubber.assert_no_pending_responses()


def aliases(*names: str, marker: str | None = None) -> dict[str, Any]:
    page: dict[str, Any] = {
        "Aliases": [{"AliasName": name} for name in names],
        "Truncated": marker is not None,
    }
    return page | ({"NextMarker": marker} if marker else {})


def state(name: str, key_id: str = "id") -> dict[str, Any]:
    return {"KeyMetadata": {"KeyId": key_id, "KeyState": name}}


def raising(error: Exception, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every call fail like this; return the list of the calls."""
    called: list[str] = []

    class Client:
        def __getattr__(self, operation: str) -> Callable[..., object]:
            def call(**_: object) -> object:
                called.append(operation)
                raise error

            return call

        def close(self) -> None:
            pass

    monkeypatch.setattr(AwsKmsSession, "_make", lambda _: Client())
    return called


# --- what leaves


def test_generate_names_version_length_and_context(provider: AwsKmsProvider, aws: Stubber) -> None:
    aws.add_response(
        "generate_data_key",
        {"Plaintext": DATA_KEY, "CiphertextBlob": b"blob"},
        {"KeyId": ALIAS, "NumberOfBytes": 32, "EncryptionContext": BOUND},
    )
    (made,) = provider.generate("records", 1, [CONTEXT])
    assert isinstance(made, DataKey)
    assert (made.plaintext.reveal(), made.wrapped) == (DATA_KEY, WRAPPED)


def test_rewrap_stays_inside_and_names_both_versions(provider: AwsKmsProvider, aws: Stubber) -> None:
    aws.add_response(
        "re_encrypt",
        {"CiphertextBlob": b"again"},
        {
            "SourceKeyId": ALIAS,
            "DestinationKeyId": "alias/strongroom/records/v2",
            "CiphertextBlob": b"blob",
            "SourceEncryptionContext": BOUND,
            "DestinationEncryptionContext": BOUND,
        },
    )
    assert provider.rewrap([ITEM], 2) == [WrappedKey("records", 2, ALGORITHM, b"again")]


def test_the_context_leaves_as_a_digest_only(provider: AwsKmsProvider, aws: Stubber) -> None:
    empty = {"strongroom": base64.b64encode(hashlib.sha256(b"").digest()).decode()}
    aws.add_response(
        "encrypt",
        {"CiphertextBlob": b"blob"},
        {"KeyId": ALIAS, "Plaintext": DATA_KEY, "EncryptionContext": empty},
    )
    assert provider.wrap("records", 1, [WrapItem(SecretBytes(DATA_KEY), b"")]) == [WRAPPED]


@pytest.mark.parametrize(
    "wrapped",
    [
        WrappedKey("records", 1, "A256KWP", b"blob"),
        WrappedKey("records", 1, ALGORITHM, b""),
        WrappedKey("records", 1, ALGORITHM, bytes(6145)),
    ],
)
def test_what_is_no_blob_of_aws_is_not_sent(
    provider: AwsKmsProvider, aws: Stubber, wrapped: WrappedKey
) -> None:
    assert aws is not None
    for (result,) in (
        provider.unwrap([UnwrapItem(wrapped, CONTEXT)]),
        provider.rewrap([UnwrapItem(wrapped, CONTEXT)], 2),
    ):
        assert type(result) is WrappedKeyRejectedError


@pytest.mark.parametrize(("key", "version"), [("a.b", 1), ("../x", 1), ("records", 0), ("records", 10**18)])
def test_what_can_have_no_alias_is_not_found_and_not_sent(
    provider: AwsKmsProvider, aws: Stubber, key: str, version: int
) -> None:
    assert aws is not None
    with pytest.raises(KeyNotFoundError):
        provider.generate(key, version, [CONTEXT])
    with pytest.raises(KeyNotFoundError):
        provider.wrap(key, version, [WrapItem(SecretBytes(DATA_KEY), CONTEXT)])
    (result,) = provider.unwrap([UnwrapItem(WrappedKey(key, version, ALGORITHM, b"blob"), CONTEXT)])
    assert type(result) is KeyNotFoundError


# --- what the answers mean


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("NotFoundException", KeyNotFoundError, HealthStatus.KEY_MISSING),
        ("DisabledException", KeyVersionRetiredError, HealthStatus.KEY_MISSING),
        ("InvalidCiphertextException", WrappedKeyRejectedError, HealthStatus.CANARY_REJECTED),
        ("IncorrectKeyException", WrappedKeyRejectedError, HealthStatus.CANARY_REJECTED),
        ("AccessDeniedException", ProviderDeniedError, HealthStatus.DENIED),
        ("UnrecognizedClientException", ProviderCredentialError, HealthStatus.AUTH),
        ("ExpiredTokenException", ProviderCredentialError, HealthStatus.AUTH),
        ("InvalidSignatureException", ProviderCredentialError, HealthStatus.AUTH),
        ("ThrottlingException", ProviderThrottledError, HealthStatus.THROTTLED),
        ("KMSInternalException", ProviderUnavailableError, HealthStatus.DOWN),
        ("DependencyTimeoutException", ProviderUnavailableError, HealthStatus.DOWN),
        ("KeyUnavailableException", ProviderUnavailableError, HealthStatus.DOWN),
        ("SomethingNewException", KeyProviderError, HealthStatus.DOWN),
    ],
)
def test_each_error_of_aws_has_its_meaning(
    provider: AwsKmsProvider, aws: Stubber, code: str, kind: type[KeyProviderError], status: HealthStatus
) -> None:
    for _ in range(3):
        aws.add_client_error("decrypt", code, f"about {SECRET}", http_status_code=400)
    if issubclass(kind, KeyNotFoundError | KeyVersionRetiredError | WrappedKeyRejectedError):
        aws.add_response("decrypt", {"Plaintext": DATA_KEY})
        first, second, third, fourth = provider.unwrap([ITEM] * 4)
        assert [type(each) for each in (first, second, third)] == [kind] * 3
        assert isinstance(fourth, SecretBytes)
        aws.add_client_error("decrypt", code, http_status_code=400)
        assert isinstance(first, KeyProviderError)
        assert (first.__traceback__, first.__cause__, first.__context__) == (None, None, None)
        text = str(first)
    else:
        for _ in range(2):
            with pytest.raises(kind) as caught:
                provider.unwrap([ITEM, ITEM])
            assert type(caught.value) is kind
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        text = str(caught.value)
    assert SECRET not in text
    assert provider.health(ITEM).status is status


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_error_of_the_server_is_a_reason_to_try_later(
    provider: AwsKmsProvider, aws: Stubber, status: int
) -> None:
    aws.add_client_error("generate_data_key", "Weird", http_status_code=status)
    with pytest.raises(ProviderUnavailableError, match=f"HTTP status {status}"):
        provider.generate("records", 1, [CONTEXT])


def test_a_blob_that_names_another_key_is_rejected_and_not_denied(
    provider: AwsKmsProvider, aws: Stubber
) -> None:
    sentence = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, ..."
    aws.add_client_error("decrypt", "AccessDeniedException", sentence, http_status_code=400)
    (result,) = provider.unwrap([ITEM])
    assert type(result) is WrappedKeyRejectedError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("PendingDeletion", KeyNotFoundError),
        ("PendingReplicaDeletion", KeyNotFoundError),
        ("PendingImport", ProviderUnavailableError),
        ("Unavailable", ProviderUnavailableError),
        ("Creating", ProviderUnavailableError),
        ("Enabled", ProviderUnavailableError),
    ],
)
def test_an_invalid_state_is_looked_at(
    provider: AwsKmsProvider, aws: Stubber, name: str, kind: type[KeyProviderError]
) -> None:
    aws.add_client_error("generate_data_key", "KMSInvalidStateException", http_status_code=400)
    aws.add_response("describe_key", state(name), {"KeyId": ALIAS})
    with pytest.raises(kind) as caught:
        provider.generate("records", 1, [CONTEXT])
    assert type(caught.value) is kind


@pytest.mark.parametrize("destroyed", [1, 2])
def test_a_destroyed_version_on_either_side_of_a_rewrap_is_not_found(
    provider: AwsKmsProvider, aws: Stubber, destroyed: int
) -> None:
    aws.add_client_error("re_encrypt", "KMSInvalidStateException", http_status_code=400)
    for version in (1, 2)[:destroyed]:
        aws.add_response("describe_key", state("PendingDeletion" if version == destroyed else "Enabled"))
    (result,) = provider.rewrap([ITEM], 2)
    assert type(result) is KeyNotFoundError
    assert f"version {destroyed} of" in str(result)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EndpointConnectionError(endpoint_url="https://kms"), ProviderUnavailableError),
        (ConnectTimeoutError(endpoint_url="https://kms"), ProviderUnavailableError),
        (ReadTimeoutError(endpoint_url="https://kms"), ProviderUnavailableError),
        (SSLError(endpoint_url="https://kms", error="x"), ProviderMisconfiguredError),
        (NoCredentialsError(), ProviderCredentialError),
        (BotoCoreError(), ProviderUnavailableError),
        (ValueError(SECRET), ProviderUnavailableError),
        (KeyError(SECRET), ProviderUnavailableError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_goes_wrong_on_the_way_is_translated_and_not_repeated(
    provider: AwsKmsProvider,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[KeyProviderError],
) -> None:
    called = raising(error, monkeypatch)
    with pytest.raises(kind) as caught:
        provider.unwrap([ITEM, ITEM])
    assert called == ["decrypt"]
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value)
    assert type(error).__name__ in str(caught.value) or kind is ProviderMisconfiguredError


def test_only_a_connection_that_was_closed_is_tried_again_once(
    provider: AwsKmsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = raising(ConnectionClosedError(endpoint_url="https://kms"), monkeypatch)
    with pytest.raises(ProviderUnavailableError, match="ConnectionClosedError"):
        provider.generate("records", 1, [CONTEXT])
    assert called == ["generate_data_key"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Plaintext": b"short", "CiphertextBlob": b"blob"},
        {"Plaintext": bytes(65), "CiphertextBlob": b"blob"},
        {"Plaintext": DATA_KEY},
        {"Plaintext": None, "CiphertextBlob": None},
        {"Plaintext": "text of no bytes at all, 32 long", "CiphertextBlob": b"blob"},
        [],
    ],
    ids=range(7),
)
def test_an_answer_that_is_none_is_not_believed(
    provider: AwsKmsProvider, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    class Client:
        def __getattr__(self, _: str) -> Callable[..., object]:
            return lambda **_: answer

        def close(self) -> None:
            pass

    monkeypatch.setattr(AwsKmsSession, "_make", lambda _: Client())
    with pytest.raises(ProviderUnavailableError):
        provider.generate("records", 1, [CONTEXT])


# --- versions


def test_versions_are_sorted_as_numbers_over_all_pages(provider: AwsKmsProvider, aws: Stubber) -> None:
    mine = "alias/strongroom/records/v"
    aws.add_response(
        "list_aliases", aliases(f"{mine}10", "alias/aws/ebs", f"{mine}2", marker="next"), {"Limit": 100}
    )
    strangers = (
        f"{mine}01",
        f"{mine}",
        f"{mine}3/x",
        "alias/other/records/v7",
        "alias/strongroom/recordsx/v8",
    )
    aws.add_response(
        "list_aliases",
        aliases(f"{mine}1", *strangers, f"{mine}11"),
        {"Limit": 100, "Marker": "next"},
    )
    for version, name in ((1, "PendingDeletion"), (2, "Disabled"), (10, "Enabled"), (11, "Creating")):
        aws.add_response("describe_key", state(name), {"KeyId": f"{mine}{version}"})
    found = [(each.version, each.state) for each in provider.key_info("records").versions]
    assert found == [(2, VersionState.RETIRED), (10, VersionState.ENABLED), (11, VersionState.RETIRED)]


def test_a_key_without_aliases_is_not_found(provider: AwsKmsProvider, aws: Stubber) -> None:
    aws.add_response("list_aliases", aliases("alias/strongroom/other/v1"))
    with pytest.raises(KeyNotFoundError):
        provider.key_info("records")


def test_a_list_without_end_ends(provider: AwsKmsProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def list_aliases(self, **_: object) -> dict[str, Any]:
            return aliases("alias/strongroom/records/v1", marker="more")

        def close(self) -> None:
            pass

    monkeypatch.setattr(AwsKmsSession, "_make", lambda _: Client())
    with pytest.raises(ProviderUnavailableError, match="without end"):
        provider.key_info("records")


# --- administration


def test_create_makes_one_key_and_its_alias(administration: AwsKmsAdministration, admin_aws: Stubber) -> None:
    admin_aws.add_response("list_aliases", aliases("alias/aws/ebs"))
    admin_aws.add_response(
        "create_key",
        state("Enabled", "new"),
        {
            "Description": "Strongroom: version 1 of key 'records'",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "KeyUsage": "ENCRYPT_DECRYPT",
        },
    )
    admin_aws.add_response("create_alias", {}, {"AliasName": ALIAS, "TargetKeyId": "new"})
    assert administration.create("records") == 1


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "-a", "a" * 65, "a\n"])
def test_names_that_an_alias_must_not_have_are_refused(
    administration: AwsKmsAdministration, admin_aws: Stubber, name: str
) -> None:
    assert admin_aws is not None
    with pytest.raises(ProviderMisconfiguredError, match="no name for a key"):
        administration.create(name)


def test_a_number_that_somebody_else_took_is_left_to_them(
    administration: AwsKmsAdministration, admin_aws: Stubber
) -> None:
    for number in (1, 2):
        admin_aws.add_response(
            "list_aliases", aliases(*(f"alias/strongroom/records/v{each}" for each in range(1, number + 1)))
        )
        admin_aws.add_response("create_key", state("Enabled", f"new{number}"))
        if number == 1:
            admin_aws.add_client_error("create_alias", "AlreadyExistsException", http_status_code=400)
            admin_aws.add_response("describe_key", state("Enabled", "theirs"))
            admin_aws.add_response("schedule_key_deletion", {}, {"KeyId": "new1", "PendingWindowInDays": 7})
    admin_aws.add_response(
        "create_alias", {}, {"AliasName": "alias/strongroom/records/v3", "TargetKeyId": "new2"}
    )
    assert administration.rotate("records") == 3


def test_an_alias_that_is_ours_after_a_repeated_call_is_kept(
    administration: AwsKmsAdministration, admin_aws: Stubber
) -> None:
    admin_aws.add_response("list_aliases", aliases(ALIAS))
    admin_aws.add_response("create_key", state("Enabled", "new"))
    admin_aws.add_client_error("create_alias", "AlreadyExistsException", http_status_code=400)
    admin_aws.add_response("describe_key", state("Enabled", "new"))
    assert administration.rotate("records") == 2


def test_a_key_without_its_alias_is_taken_back(
    administration: AwsKmsAdministration, admin_aws: Stubber
) -> None:
    admin_aws.add_response("list_aliases", aliases(ALIAS))
    admin_aws.add_response("create_key", state("Enabled", "new"))
    admin_aws.add_client_error("create_alias", "AccessDeniedException", http_status_code=400)
    admin_aws.add_response("schedule_key_deletion", {}, {"KeyId": "new", "PendingWindowInDays": 7})
    with pytest.raises(ProviderDeniedError, match=r"docs/providers/awskms\.md"):
        administration.rotate("records")


def test_retire_disables_what_is_enabled_up_to_the_named_version(
    administration: AwsKmsAdministration, admin_aws: Stubber
) -> None:
    admin_aws.add_response(
        "list_aliases", aliases(*(f"alias/strongroom/records/v{each}" for each in (1, 2, 3)))
    )
    admin_aws.add_response("describe_key", state("Disabled"))
    admin_aws.add_response("describe_key", state("Enabled"))
    admin_aws.add_response("describe_key", state("Enabled", "two"))
    admin_aws.add_response("disable_key", {}, {"KeyId": "two"})
    administration.retire("records", 2)


@pytest.mark.parametrize(
    ("version", "name", "kind", "sentence"),
    [
        (1, "Enabled", ProviderMisconfiguredError, "is not retired"),
        (1, "PendingDeletion", KeyNotFoundError, "was destroyed"),
        (2, "Disabled", ProviderMisconfiguredError, "is the newest of key 'records'.*rotate first"),
    ],
)
def test_what_is_not_destroyed(
    administration: AwsKmsAdministration,
    admin_aws: Stubber,
    version: int,
    name: str,
    kind: type[KeyProviderError],
    sentence: str,
) -> None:
    admin_aws.add_response("list_aliases", aliases(ALIAS, "alias/strongroom/records/v2"))
    admin_aws.add_response("describe_key", state(name))
    with pytest.raises(kind, match=sentence):
        administration.destroy("records", version)


def test_destroy_waits_as_long_as_configured(settings: ProviderSettings) -> None:
    own = {**settings.admin, "deletion_days": 9}
    administration = AwsKmsProviderType().open_administration(
        ProviderSettings("cloud", settings.options, settings.folder, own)
    )
    aws = stubbed(administration._session)
    aws.add_response("list_aliases", aliases(ALIAS, "alias/strongroom/records/v2"))
    aws.add_response("describe_key", state("Disabled"))
    aws.add_response("describe_key", state("Disabled", "one"))
    aws.add_response("schedule_key_deletion", {}, {"KeyId": "one", "PendingWindowInDays": 9})
    administration.destroy("records", 1)
    aws.assert_no_pending_responses()
    administration.close()


# --- options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"region": None}, 'needs region = "TEXT"'),
        ({"reigon": "x"}, "unknown options: reigon"),
        ({"endpoint": "http://kms.example.org"}, "needs endpoint"),
        ({"prefix": "a b"}, "needs prefix"),
        ({"prefix": "/a"}, "needs prefix"),
        ({"access_key_id": None}, 'or credentials = "ambient"'),
        ({"secret_access_key": None}, 'or credentials = "ambient"'),
        ({"secret_access_key": SECRET}, "a secret does not stand in the configuration"),
        ({"credentials": "ambient"}, "has both"),
        ({"credentials": "default"}, 'knows credentials = "ambient" only'),
        ({"read_timeout_seconds": 0}, "a number from 0.05 to 60"),
        ({"deletion_days": 7}, "unknown options: deletion_days"),
    ],
)
def test_wrong_options_are_refused_by_name(
    settings: ProviderSettings, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ProviderMisconfiguredError, match=sentence) as caught:
        run_time_options(with_options(settings, **options))
    assert SECRET not in str(caught.value)


def test_administration_has_credentials_of_its_own(settings: ProviderSettings) -> None:
    without = ProviderSettings("cloud", settings.options, settings.folder)
    with pytest.raises(ProviderMisconfiguredError, match=r"\[providers.cloud.admin\] needs access_key_id"):
        administration_options(without)
    ambient = ProviderSettings("cloud", settings.options, settings.folder, {"credentials": "ambient"})
    assert administration_options(ambient).is_ambient
    assert administration_options(ambient).provider == "cloud"
    for admin in ({"deletion_days": 6}, {"region": "x"}):
        with pytest.raises(ProviderMisconfiguredError, match=r"\[providers.cloud.admin\]"):
            administration_options(
                ProviderSettings("cloud", settings.options, settings.folder, {**settings.admin, **admin})
            )


def test_the_environment_has_no_say(
    settings: ProviderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "config"
    hostile.write_text(
        "[default]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:1\nca_bundle = /nowhere\n"
    )
    for name, value in {
        "AWS_PROFILE": "nobody",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAHOSTILE",
        "AWS_SECRET_ACCESS_KEY": "hostile",
        "AWS_SESSION_TOKEN": "hostile",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1",
        "AWS_CONFIG_FILE": str(hostile),
        "AWS_SHARED_CREDENTIALS_FILE": str(hostile),
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_RETRY_MODE": "adaptive",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_DEFAULTS_MODE": "nonsense",
        "AWS_DATA_PATH": str(tmp_path),
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    session = AwsKmsSession(run_time_options(settings))
    client = session._current()
    assert client.meta.endpoint_url == "https://kms.eu-central-1.amazonaws.com"
    assert client.meta.region_name == "eu-central-1"
    credentials = client._request_signer._credentials
    assert (credentials.access_key, credentials.secret_key, credentials.token) == ("AKIATEST", SECRET, None)
    http = client._endpoint.http_session
    assert http._verify is True
    assert http._proxy_config._proxies == {}
    assert client.meta.config.retries["total_max_attempts"] == 1
    assert (client.meta.config.connect_timeout, client.meta.config.read_timeout) == (1, 2)
    session.close()


def test_ambient_credentials_are_those_of_the_environment(
    settings: ProviderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    ambient = with_options(settings, access_key_id=None, secret_access_key=None, credentials="ambient")
    session = AwsKmsSession(run_time_options(ambient))
    assert session._current()._request_signer._credentials.access_key == "AKIAAMBIENT"
    session.close()


# --- processes, logs, extras


def test_a_child_makes_a_client_of_its_own(provider: AwsKmsProvider, exit_code_of_child: ExitCode) -> None:
    ours = provider._session._current()
    assert provider._session._current() is ours

    def work() -> None:
        assert provider._session._current() is not ours

    assert exit_code_of_child(work) == 0


def test_a_closed_door_answers_without_a_call(provider: AwsKmsProvider) -> None:
    provider.close()
    provider.close()
    with pytest.raises(ProviderUnavailableError, match="closed"):
        provider.unwrap([ITEM])
    assert provider.health(ITEM).status is HealthStatus.DOWN
    assert provider._session._client is None


def test_botocore_never_logs_at_the_level_that_shows_keys(provider: AwsKmsProvider) -> None:
    logger = logging.getLogger("botocore")
    before = logger.level
    try:
        logger.setLevel(logging.DEBUG)
        provider._session._current()
        assert logger.level == logging.INFO
        assert not logging.getLogger("botocore.parsers").isEnabledFor(logging.DEBUG)
    finally:
        logger.setLevel(before)


def test_nothing_secret_is_in_a_repr(provider: AwsKmsProvider, settings: ProviderSettings) -> None:
    options = run_time_options(settings)
    text = repr([provider, provider._session, options, AwsKmsAdministration(options)])
    assert SECRET not in text


def test_the_registry_knows_the_type() -> None:
    assert isinstance(provider_type("awskms"), AwsKmsProviderType)


def test_client_errors_are_no_errors_of_botocore_core() -> None:
    # The translation relies on it: each has its own branch.
    assert not issubclass(ClientError, BotoCoreError)
