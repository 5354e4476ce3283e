"""Type ``awskms``: data keys wrapped by AWS KMS, which never lets its keys out.

Set-up, privileges and limits: docs/providers/awskms.md. Shown on moto's server only.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from keyproviders.awskms_administration import AwsKmsAdministration
from keyproviders.awskms_options import AwsKmsOptions, administration_options, run_time_options
from keyproviders.awskms_session import Answer, AwsKmsSession, KeyStateError
from keyproviders.awskms_versions import ALGORITHM, AwsKmsVersion, AwsKmsVersions
from keyproviders.canary import prove_by_canary
from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import (
    DATA_KEY_BYTES,
    Capabilities,
    DataKey,
    Health,
    ItemResult,
    KeyInfo,
    ProviderSettings,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)
from keyproviders.software import LONGEST_BYTES, SHORTEST_BYTES

__all__ = ["AwsKmsProvider", "AwsKmsProviderType"]

_LONGEST_BLOB = 6144
# These hit one item of a list alone. Every other error is the whole call's.
_ITEM_ERRORS = (KeyNotFoundError, KeyVersionRetiredError, WrappedKeyRejectedError)


class AwsKmsProviderType:
    """Opens providers whose keys are in AWS KMS, with one key there per version here.

    Security: what the run-time door may do is decided by the policy of its role, not by this code. Opening asks
        nothing of AWS: the first call, or the canary at start, does.
    """

    def open(self, settings: ProviderSettings) -> AwsKmsProvider:
        """Open the run-time door.

        Raises:
            ProviderMisconfiguredError: an option is missing, wrong or unknown.
        """
        return AwsKmsProvider(run_time_options(settings))

    def open_administration(self, settings: ProviderSettings) -> AwsKmsAdministration:
        """Open the administration door, with the credentials of ``[providers.NAME.admin]``.

        Raises:
            ProviderMisconfiguredError: an option is missing, wrong or unknown.
        """
        return AwsKmsAdministration(administration_options(settings))


class AwsKmsProvider:
    """The run-time door. AWS has no batches: a list is a loop, and the first error of the whole call ends it.

    Args:
        options: where the service is, and as whom we ask.

    Security: the context goes to AWS as its SHA-256, because AWS writes it into its logs.
    """

    def __init__(self, options: AwsKmsOptions) -> None:
        self._name = options.provider
        self._session = AwsKmsSession(options)
        self._versions = AwsKmsVersions(self._session, provider=options.provider, prefix=options.prefix)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    @property
    def name(self) -> str:
        """The configured name (``[providers.NAME]``)."""
        return self._name

    def capabilities(self) -> Capabilities:
        """Say what AWS KMS documents of every symmetric key: there is one kind of it, and nothing to probe."""
        return Capabilities(
            binds_context=True, rewraps_inside=True, generates_inside=True, max_batch=1, is_remote=True
        )

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        """Let AWS make one data key per context.

        Raises:
            KeyProviderError: the whole call failed.
        """
        alias = self._alias(key, version)
        made: list[ItemResult[DataKey]] = []
        for context in contexts:
            answer = self._answer(
                "generate_data_key",
                key,
                version,
                KeyId=alias,
                NumberOfBytes=DATA_KEY_BYTES,
                EncryptionContext=_bound(context),
            )
            if isinstance(answer, KeyProviderError):
                raise self._whole(answer)
            plaintext = self._plaintext(answer)
            if len(plaintext) != DATA_KEY_BYTES:
                raise self._nonsense()
            made.append(DataKey(plaintext, self._wrapped(key, version, answer)))
        return made

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        """Let AWS wrap keys under the named version.

        Raises:
            KeyProviderError: the whole call failed.
            ValueError: a plaintext is not 16 to 64 bytes long; nothing was wrapped.
        """
        alias = self._alias(key, version)
        for item in items:
            if not SHORTEST_BYTES <= len(item.plaintext) <= LONGEST_BYTES:
                raise ValueError(
                    f"a key to wrap has {SHORTEST_BYTES} to {LONGEST_BYTES} bytes, not {len(item.plaintext)}"
                )
        wrapped: list[ItemResult[WrappedKey]] = []
        for item in items:
            answer = self._answer(
                "encrypt",
                key,
                version,
                KeyId=alias,
                Plaintext=item.plaintext.reveal(),
                EncryptionContext=_bound(item.context),
            )
            if isinstance(answer, KeyProviderError):
                raise self._whole(answer)
            wrapped.append(self._wrapped(key, version, answer))
        return wrapped

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        """Let AWS open wrapped keys, each under the key and version that it names.

        Raises:
            KeyProviderError: the whole call failed.
        """
        return [self._unwrap(item) for item in items]

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        """Let AWS wrap the same data keys under another version; they do not leave it.

        Raises:
            KeyProviderError: the whole call failed.
        """
        return [self._rewrap(item, to_version) for item in items]

    def key_info(self, key: str) -> KeyInfo:
        """List the versions of a key.

        Raises:
            KeyNotFoundError: no version of it is here.
            KeyProviderError: the call failed.
        """
        return self._versions.info(key)

    def health(self, canary: UnwrapItem) -> Health:
        """Prove itself by unwrapping a key that the caller knows to be good. Never raises."""
        return prove_by_canary(self, canary)

    def close(self) -> None:
        """Let go of the connections. A later call raises ProviderUnavailableError."""
        self._session.close()

    def _unwrap(self, item: UnwrapItem) -> ItemResult[SecretBytes]:
        wrapped = item.wrapped
        refused = self._refused(wrapped)
        if refused is not None:
            return refused
        answer = self._answer(
            "decrypt",
            wrapped.key,
            wrapped.version,
            KeyId=self._versions.alias(wrapped.key, wrapped.version),
            CiphertextBlob=wrapped.blob,
            EncryptionContext=_bound(item.context),
        )
        if isinstance(answer, KeyProviderError):
            return self._of_item(answer)
        return self._plaintext(answer)

    def _rewrap(self, item: UnwrapItem, to_version: int) -> ItemResult[WrappedKey]:
        wrapped = item.wrapped
        refused = self._refused(wrapped)
        if refused is not None:
            return refused
        target = self._versions.alias(wrapped.key, to_version)
        if target is None:
            return self._versions.unknown(wrapped.key, to_version)
        context = _bound(item.context)
        answer = self._session.call(
            "re_encrypt",
            f"key {wrapped.key!r} from version {wrapped.version} to {to_version}",
            SourceKeyId=self._versions.alias(wrapped.key, wrapped.version),
            DestinationKeyId=target,
            CiphertextBlob=wrapped.blob,
            SourceEncryptionContext=context,
            DestinationEncryptionContext=context,
        )
        if isinstance(answer, KeyProviderError):
            for version in (wrapped.version, to_version):
                answer = self._told_apart(answer, wrapped.key, version)
            return self._of_item(answer)
        return self._wrapped(wrapped.key, to_version, answer)

    def _refused(self, wrapped: WrappedKey) -> KeyProviderError | None:
        """The error of a wrapped key that is not worth a call, or that AWS's client would not even send."""
        if self._versions.alias(wrapped.key, wrapped.version) is None:
            return self._versions.unknown(wrapped.key, wrapped.version)
        if wrapped.algorithm != ALGORITHM:
            reason = f"it says another algorithm than {ALGORITHM}"
        elif not 1 <= len(wrapped.blob) <= _LONGEST_BLOB:
            reason = f"it has {len(wrapped.blob)} bytes"
        else:
            return None
        return WrappedKeyRejectedError(
            f"a key wrapped by version {wrapped.version} of {wrapped.key!r} does not open: {reason}",
            provider=self._name,
        )

    def _answer(
        self, operation: str, key: str, version: int, **arguments: object
    ) -> Answer | KeyProviderError:
        answer = self._session.call(operation, f"version {version} of key {key!r}", **arguments)
        return self._told_apart(answer, key, version) if isinstance(answer, KeyProviderError) else answer

    def _told_apart(self, error: KeyProviderError, key: str, version: int) -> KeyProviderError:
        # One error stands for a key that will be deleted, and for one that is not ready yet.
        if not isinstance(error, KeyStateError):
            return error
        try:
            found = AwsKmsVersion(version, self._versions.state(key, version))
        except KeyProviderError as failed:
            return failed.with_traceback(None)
        if found.is_destroyed:
            return KeyNotFoundError(f"version {version} of key {key!r} was destroyed", provider=self._name)
        if found.is_enabled:
            return error
        return ProviderUnavailableError(
            f"version {version} of key {key!r} is in state {found.state!r} at AWS KMS", provider=self._name
        )

    def _of_item(self, error: KeyProviderError) -> KeyProviderError:
        """Return an error of this item; raise one that every other item would meet as well."""
        if not isinstance(error, _ITEM_ERRORS):
            raise self._whole(error)
        return error

    def _whole(self, error: KeyProviderError) -> KeyProviderError:
        # The state changed between the two questions.
        if isinstance(error, KeyStateError):
            return ProviderUnavailableError(str(error), provider=self._name)
        return error

    def _alias(self, key: str, version: int) -> str:
        alias = self._versions.alias(key, version)
        if alias is None:
            raise self._versions.unknown(key, version)
        return alias

    def _plaintext(self, answer: Answer) -> SecretBytes:
        plaintext = answer.get("Plaintext")
        if not isinstance(plaintext, bytes) or not SHORTEST_BYTES <= len(plaintext) <= LONGEST_BYTES:
            raise self._nonsense()
        return SecretBytes(plaintext)

    def _wrapped(self, key: str, version: int, answer: Answer) -> WrappedKey:
        blob = answer.get("CiphertextBlob")
        if not isinstance(blob, bytes) or not blob:
            raise self._nonsense()
        return WrappedKey(key=key, version=version, algorithm=ALGORITHM, blob=blob)

    def _nonsense(self) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            "what answers in the place of AWS KMS does not answer like it; check the endpoint",
            provider=self._name,
        )


def _bound(context: bytes) -> dict[str, str]:
    # Frozen with everything that was wrapped: always the digest, so that no context can be mistaken for another's.
    return {"strongroom": base64.b64encode(hashlib.sha256(context).digest()).decode("ascii")}
