"""The administration door of AWS KMS: one key there for each version here, found by its alias."""

from __future__ import annotations

from keyproviders.awskms_options import AwsKmsOptions
from keyproviders.awskms_session import AliasTakenError, AwsKmsSession
from keyproviders.awskms_versions import KEY_NAME, AwsKmsVersion, AwsKmsVersions, must
from keyproviders.errors import KeyNotFoundError, KeyProviderError, ProviderMisconfiguredError

__all__ = ["AwsKmsAdministration"]

_MOST_TRIES = 50


class AwsKmsAdministration:
    """Creates and ends keys. Every method raises a KeyProviderError if AWS refuses or is away.

    Args:
        options: where the service is, as whom we ask, and how long AWS waits before it deletes.

    Security: AWS's own record of these calls (CloudTrail) is the one to trust. That the numbers of versions are never
        used twice rests on the aliases: nobody else may change those under the prefix.
    """

    def __init__(self, options: AwsKmsOptions) -> None:
        self._options = options
        self._session = AwsKmsSession(options)
        self._versions = AwsKmsVersions(self._session, provider=options.provider, prefix=options.prefix)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.provider!r})"

    def create(self, key: str) -> int:
        """Make a new key with version 1; return 1.

        Raises:
            ProviderMisconfiguredError: the key exists already, or its name is not allowed here.
        """
        if not KEY_NAME.fullmatch(key):
            raise self._misconfigured(
                f"{key!r} is no name for a key of AWS KMS: 1 to 64 letters, digits, '_' or '-', "
                "beginning with a letter or digit"
            )
        if self._versions.numbers(key) or not self._make(key, 1):
            raise self._misconfigured(f"key {key!r} exists already")
        return 1

    def rotate(self, key: str) -> int:
        """Add a version and return it.

        Raises:
            KeyNotFoundError: the key is unknown.
        """
        for _ in range(_MOST_TRIES):
            number = self._known(key)[-1] + 1
            if self._make(key, number):
                return number
        raise self._misconfigured(f"others rotate key {key!r} all the time; try again")

    def retire(self, key: str, up_to_version: int) -> None:
        """Disable every version up to and including this one. ``EnableKey`` takes it back.

        Raises:
            KeyNotFoundError: the key is unknown, or never had this version.
        """
        numbers = self._known(key)
        if not 1 <= up_to_version <= numbers[-1]:
            raise self._versions.unknown(key, up_to_version)
        for number in numbers:
            if number <= up_to_version and self._version(key, number).is_enabled:
                self._do("disable_key", key, number)

    def destroy(self, key: str, version: int) -> None:
        """Have AWS delete a retired version at the end of its waiting time; until then ``CancelKeyDeletion`` helps.

        Raises:
            KeyNotFoundError: the key or version is unknown or destroyed already.
            ProviderMisconfiguredError: the version is not retired, or is the newest.
        """
        numbers = self._known(key)
        if version not in numbers:
            raise self._versions.unknown(key, version)
        found = self._version(key, version)
        if found.is_destroyed:
            raise KeyNotFoundError(
                f"version {version} of key {key!r} was destroyed", provider=self._options.provider
            )
        if found.is_enabled:
            raise self._misconfigured(
                f"version {version} of key {key!r} is not retired, so it is not destroyed"
            )
        if version == numbers[-1]:
            # AWS forgets an alias with its key, and the number would be given out again.
            raise self._misconfigured(
                f"version {version} is the newest of key {key!r} and marks which numbers are spent: rotate first, "
                "or delete it in AWS yourself once this name is never used again"
            )
        self._do("schedule_key_deletion", key, version, PendingWindowInDays=self._options.deletion_days)

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def _make(self, key: str, version: int) -> bool:
        """Make the key of a version; False if another administrator took the number."""
        what = f"version {version} of key {key!r}"
        answer = must(
            self._session.call(
                "create_key",
                what,
                Description=f"Strongroom: {what}",
                KeySpec="SYMMETRIC_DEFAULT",
                KeyUsage="ENCRYPT_DECRYPT",
            )
        )
        made = str(answer.get("KeyMetadata", {}).get("KeyId", ""))
        outcome = self._session.call(
            "create_alias", what, AliasName=self._versions.alias(key, version), TargetKeyId=made
        )
        if not isinstance(outcome, KeyProviderError):
            return True
        if isinstance(outcome, AliasTakenError) and self._target(key, version) == made:
            return True  # ours: the call was repeated, because its first answer did not arrive
        # Nobody knows the new key, and nothing was wrapped by it.
        must(self._session.call("schedule_key_deletion", what, KeyId=made, PendingWindowInDays=7))
        if isinstance(outcome, AliasTakenError):
            return False
        raise outcome

    def _do(self, operation: str, key: str, version: int, **arguments: object) -> None:
        # These two take no alias.
        what, target = f"version {version} of key {key!r}", self._target(key, version)
        must(self._session.call(operation, what, KeyId=target, **arguments))

    def _target(self, key: str, version: int) -> str:
        """AWS's own id of the key behind a version."""
        described = must(
            self._session.call(
                "describe_key",
                f"version {version} of key {key!r}",
                KeyId=self._versions.alias(key, version),
            )
        )
        return str(described.get("KeyMetadata", {}).get("KeyId", ""))

    def _version(self, key: str, version: int) -> AwsKmsVersion:
        return AwsKmsVersion(version, self._versions.state(key, version))

    def _known(self, key: str) -> list[int]:
        numbers = self._versions.numbers(key)
        if not numbers:
            raise KeyNotFoundError(f"AWS KMS has no key {key!r} here", provider=self._options.provider)
        return numbers

    def _misconfigured(self, sentence: str) -> ProviderMisconfiguredError:
        return ProviderMisconfiguredError(sentence, provider=self._options.provider)
