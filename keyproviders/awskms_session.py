"""The one place that speaks to AWS: a client per process, its time limits, and the meaning of its errors."""

from __future__ import annotations

import logging
import os
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
    TokenRetrievalError,
)

from keyproviders.awskms_options import AwsKmsOptions
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

__all__ = ["AliasTakenError", "Answer", "AwsKmsSession", "KeyStateError"]


class KeyStateError(KeyProviderError):
    """AWS does not use the key in its present state. Which one it is has to be asked; this never crosses the door."""


class AliasTakenError(ProviderMisconfiguredError):
    """The alias exists already. Never crosses the door."""


Answer = dict[str, Any]

_POOL_CONNECTIONS = 16
_FIRST_SERVER_ERROR = 500
# AWS and its stand-ins answer so when the blob itself names another key than the one that was asked for.
_FOREIGN_BLOB = "The ciphertext refers to a customer master key that does not exist"
_KINDS: dict[str, type[KeyProviderError]] = {
    "NotFoundException": KeyNotFoundError,
    "DisabledException": KeyVersionRetiredError,
    "InvalidCiphertextException": WrappedKeyRejectedError,
    "IncorrectKeyException": WrappedKeyRejectedError,
    "InvalidKeyUsageException": ProviderMisconfiguredError,
    "AccessDeniedException": ProviderDeniedError,
    "AccessDenied": ProviderDeniedError,
    "NotAuthorized": ProviderDeniedError,
    "OptInRequired": ProviderDeniedError,
    "UnrecognizedClientException": ProviderCredentialError,
    "InvalidClientTokenId": ProviderCredentialError,
    "InvalidSignatureException": ProviderCredentialError,
    "SignatureDoesNotMatch": ProviderCredentialError,
    "IncompleteSignature": ProviderCredentialError,
    "ExpiredToken": ProviderCredentialError,
    "ExpiredTokenException": ProviderCredentialError,
    "MissingAuthenticationToken": ProviderCredentialError,
    "MissingAuthenticationTokenException": ProviderCredentialError,
    "Throttling": ProviderThrottledError,
    "ThrottlingException": ProviderThrottledError,
    "RequestLimitExceeded": ProviderThrottledError,
    "TooManyRequestsException": ProviderThrottledError,
    "DependencyTimeoutException": ProviderUnavailableError,
    "KeyUnavailableException": ProviderUnavailableError,
    "KMSInternalException": ProviderUnavailableError,
    "ServiceUnavailable": ProviderUnavailableError,
    "InternalFailure": ProviderUnavailableError,
    "AlreadyExistsException": AliasTakenError,
    "KMSInvalidStateException": KeyStateError,
    "LimitExceededException": ProviderMisconfiguredError,
}
_NEXT_STEP: dict[type[KeyProviderError], str] = {
    ProviderCredentialError: "check the access key, its secret and the clock of this machine",
    ProviderDeniedError: "compare the policy of the role with docs/providers/awskms.md",
}


class AwsKmsSession:
    """Calls AWS KMS and answers with what it said or with what its error means. Safe to call from several threads.

    Args:
        options: where, with which credentials and how patiently.
    """

    def __init__(self, options: AwsKmsOptions) -> None:
        self._options = options
        self._client: tuple[int, Any] | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.provider!r})"

    def call(self, operation: str, what: str, **arguments: Any) -> Answer | KeyProviderError:
        """Make one call.

        Args:
            operation: the method of boto3's client, for example ``decrypt``.
            what: which key or version it is about, for the sentence of an error.
            arguments: as AWS names them.

        Returns:
            The answer, or the error: returned and not raised, without the vendor's, because the frames of that one
            hold the request and with it key material.
        """
        if self._is_closed:
            return ProviderUnavailableError("the door was closed", provider=self._options.provider)
        outcome = self._once(operation, arguments)
        if isinstance(outcome, ConnectionClosedError):
            # The service closed a connection that was idle. Nothing of the call was done twice that matters: every
            # call at run time may be repeated, and what administration repeats is refused by the alias.
            outcome = self._once(operation, arguments)
        return outcome if isinstance(outcome, dict) else self._meaning(outcome, operation, what)

    def close(self) -> None:
        """Let go of the connections. Later calls are answered with an error."""
        self._is_closed = True
        client, self._client = self._client, None
        if client is not None and client[0] == os.getpid():
            client[1].close()

    def _once(self, operation: str, arguments: dict[str, Any]) -> Answer | Exception:
        failed: Exception
        try:
            answer: object = getattr(self._current(), operation)(**arguments)
        except (ClientError, BotoCoreError) as error:
            failed = error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            failed = error  # the parser met an answer that is none
        else:
            return answer if isinstance(answer, dict) else TypeError("no answer")
        return failed

    def _meaning(self, error: Exception, operation: str, what: str) -> KeyProviderError:
        kind, reason = _refusal(error) if isinstance(error, ClientError) else _failure(error)
        step = f"; {_NEXT_STEP[kind]}" if kind in _NEXT_STEP else ""
        return kind(
            f"AWS KMS does not {operation} for {what}: {reason}{step}", provider=self._options.provider
        )

    def _current(self) -> Any:
        # A client that crossed a fork shares its connections with the parent: each would read the other's answers.
        # Two threads that make one at the same time do no harm; the last one stays.
        if self._client is None or self._client[0] != os.getpid():
            self._client = (os.getpid(), self._make())
        return self._client[1]

    def _make(self) -> Any:
        _silence()
        options = self._options
        session = boto3.Session(botocore_session=_botocore_session(is_ambient=options.is_ambient))
        secret, token = options.secret_access_key, options.session_token
        return session.client(
            "kms",
            region_name=options.region,
            endpoint_url=options.endpoint,
            verify=True if options.ca is None else str(options.ca),
            aws_access_key_id=options.access_key_id,
            aws_secret_access_key=None if secret is None else secret.reveal().decode("utf-8", "replace"),
            aws_session_token=None if token is None else token.reveal().decode("utf-8", "replace"),
            config=Config(
                connect_timeout=options.connect_timeout_seconds,
                read_timeout=options.read_timeout_seconds,
                retries={"total_max_attempts": 1, "mode": "standard"},
                max_pool_connections=_POOL_CONNECTIONS,
                proxies={},  # none, instead of those of the environment
                ignore_configured_endpoint_urls=True,
                tcp_keepalive=True,
            ),
        )


def _refusal(error: Any) -> tuple[type[KeyProviderError], str]:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code.startswith("AccessDenied") and message.startswith(_FOREIGN_BLOB):
        return WrappedKeyRejectedError, "it was wrapped by another key"
    if code not in _KINDS and status >= _FIRST_SERVER_ERROR:
        return ProviderUnavailableError, f"HTTP status {status}"
    # Only the name of the error: nobody promised what its text contains.
    return _KINDS.get(code, KeyProviderError), code if code in _KINDS else f"HTTP status {status}"


def _failure(error: Exception) -> tuple[type[KeyProviderError], str]:
    name = type(error).__name__
    if isinstance(error, SSLError):
        return ProviderMisconfiguredError, "its certificate is not trusted; name the issuer's in ca"
    if isinstance(
        error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError | TokenRetrievalError
    ):
        return ProviderCredentialError, name
    if isinstance(error, BotoCoreError | HTTPClientError):
        return ProviderUnavailableError, name
    return ProviderUnavailableError, f"its answer cannot be read ({name})"


def _botocore_session(*, is_ambient: bool) -> botocore.session.Session:
    if is_ambient:
        return botocore.session.Session()
    # Every variable at its default: neither the environment nor ~/.aws has a say in where we connect and as whom.
    variables = {
        name: (None, None, default, convert)
        for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    variables["config_file"] = (None, None, os.devnull, None)
    variables["credentials_file"] = (None, None, os.devnull, None)
    return botocore.session.Session(session_vars=variables)


def _silence() -> None:
    # At the level of debugging botocore logs whole requests and answers: data keys in the clear.
    logger = logging.getLogger("botocore")
    logger.setLevel(max(logger.level, logging.INFO))
