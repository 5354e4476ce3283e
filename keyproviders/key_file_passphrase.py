"""The passphrase of a key file: what seals the keys in format ``strongroom-key-file/2``.

What may never change: Argon2id over the bytes of the passphrase with the parameters that stand in the file, AES-256-GCM
under the key that comes out, what is sealed and what is authenticated with it. For anything else, define format 3.

Source: RFC 9106 (Argon2), NIST SP 800-38D (GCM), docs/formats/key-file.md.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from keyproviders.errors import (
    KeyProviderError,
    ProviderCredentialError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
)
from keyproviders.interface import SecretBytes
from keyproviders.key_file_format import KeyFileLabel, canonical, parse

__all__ = ["SHORTEST_PASSPHRASE", "Argon2Parameters", "Passphrase"]

SHORTEST_PASSPHRASE = 12
"""A new passphrase has at least this many bytes. One that is in use already is not judged."""

_MEMBERS = {"kdf", "memory_kib", "iterations", "lanes", "salt"}
_KDF = "argon2id"
_SALT = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NONCE_BYTES = 12
_KEY_BYTES = 32
# Far beyond what anybody chooses, and below what would stop the machine.
_MOST_MEMORY_KIB = 4 * 1024 * 1024
_MOST_ITERATIONS = 64
_MOST_LANES = 64
_LEAST_KIB_PER_LANE = 8


@dataclass(frozen=True, slots=True)
class Argon2Parameters:
    """What makes guessing expensive, as it stands in the file.

    Attributes:
        salt: 16 bytes as 32 lower-case hexadecimal digits; new with each new passphrase.
        memory_kib: memory to fill. 64 MiB, 3 iterations and 4 lanes are the second choice of RFC 9106 section 4.
        iterations: passes over it.
        lanes: computed side by side.
    """

    salt: str
    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4

    def members(self) -> dict[str, Any]:
        """Return the object that stands in the file."""
        return {
            "kdf": _KDF,
            "memory_kib": self.memory_kib,
            "iterations": self.iterations,
            "lanes": self.lanes,
            "salt": self.salt,
        }


class Passphrase:
    """Seals and opens the keys of one key file.

    Args:
        read: returns the passphrase from where the configuration says it is; asked again when it may have changed.
        provider: the configured name of the provider.
        make: what new files are sealed with.

    Security: the derived key is kept for the life of this object, so that a rotation is noticed without another 0.2
        seconds of Argon2. It opens no more than the keys that are in this memory anyway.
    """

    def __init__(
        self,
        read: Callable[[], SecretBytes],
        *,
        provider: str,
        make: Callable[[str], Argon2Parameters] = Argon2Parameters,
    ) -> None:
        self._read = read
        self._provider = provider
        self._make = make
        self._derived: tuple[Argon2Parameters, SecretBytes] | None = None
        self._refused: SecretBytes | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._provider!r})"

    def seal(self, header: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
        """Return the members ``passphrase`` and ``sealed`` for a file that begins with this header.

        A file that was opened before keeps its salt and parameters.

        Raises:
            ProviderMisconfiguredError: the passphrase is too short for a new file, or cannot be read.

        Security: a fresh random 96-bit nonce for each change of the file; nobody rotates 2^32 times.
        """
        if self._derived is None:
            passphrase = self._read()
            if len(passphrase) < SHORTEST_PASSPHRASE:
                raise ProviderMisconfiguredError(
                    f"the passphrase has fewer than {SHORTEST_PASSPHRASE} bytes; six random words are a good one",
                    provider=self._provider,
                )
            parameters = self._make(os.urandom(16).hex())
            self._derived = (parameters, self._derive(passphrase, parameters))
        parameters, key = self._derived
        members = {"passphrase": parameters.members()}
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key.reveal()).encrypt(nonce, canonical(keys), canonical({**header, **members}))
        return {**members, "sealed": base64.b64encode(nonce + sealed).decode("ascii")}

    def open(self, document: dict[str, Any], label: KeyFileLabel) -> Any:
        """Return what was sealed in a file whose checksum is right.

        Raises:
            ProviderCredentialError: the passphrase is another one.
            ProviderMisconfiguredError: the file is damaged, or the passphrase cannot be read.
            ProviderUnavailableError: there is not enough memory for Argon2.
        """
        parameters = _parameters(document["passphrase"], label)
        sealed = _sealed(document["sealed"], label)
        derived = self._derived
        if derived is None or derived[0] != parameters:
            passphrase = self._read()
            derived = (parameters, self._derive(passphrase, parameters))
            self._refused = passphrase
        header = {name: document[name] for name in ("format", "file_id", "passphrase")}
        try:
            plaintext = AESGCM(derived[1].reveal()).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], canonical(header)
            )
        except InvalidTag:
            plaintext = None
        if plaintext is None:
            raise ProviderCredentialError(
                f"key file {label.path} is whole, but does not open with the passphrase that the configuration names: "
                "it belongs to another file, or is mistyped",
                provider=self._provider,
            )
        self._derived, self._refused = derived, None
        return parse(plaintext)

    def has_changed(self) -> bool:
        """Whether another passphrase lies there than the one that was refused last."""
        if self._refused is None:
            return False
        try:
            return not hmac.compare_digest(self._read().reveal(), self._refused.reveal())
        except KeyProviderError:
            return False

    def forget(self) -> None:
        """Wipe what was derived."""
        derived, self._derived = self._derived, None
        if derived is not None:
            derived[1].wipe()

    def _derive(self, passphrase: SecretBytes, parameters: Argon2Parameters) -> SecretBytes:
        function = Argon2id(
            salt=bytes.fromhex(parameters.salt),
            length=_KEY_BYTES,
            iterations=parameters.iterations,
            lanes=parameters.lanes,
            memory_cost=parameters.memory_kib,
        )
        try:
            return SecretBytes(function.derive(passphrase.reveal()))
        except MemoryError as error:
            raise ProviderUnavailableError(
                f"there is no memory for Argon2: the key file asks for {parameters.memory_kib // 1024} MiB",
                provider=self._provider,
            ) from error


def _parameters(members: Any, label: KeyFileLabel) -> Argon2Parameters:
    if not isinstance(members, dict) or set(members) != _MEMBERS or members["kdf"] != _KDF:
        raise label.damaged(f"its passphrase is no object of {_KDF}")
    salt, memory, iterations, lanes = (
        members[name] for name in ("salt", "memory_kib", "iterations", "lanes")
    )
    # type() and not isinstance: JSON's true is an int in Python
    if (
        not isinstance(salt, str)
        or not _SALT.fullmatch(salt)
        or {type(memory), type(iterations), type(lanes)} != {int}
    ):
        raise label.damaged("a parameter of its passphrase has the wrong type")
    if not (
        1 <= lanes <= _MOST_LANES
        and 1 <= iterations <= _MOST_ITERATIONS
        and _LEAST_KIB_PER_LANE * lanes <= memory <= _MOST_MEMORY_KIB
    ):
        raise label.damaged("a parameter of its passphrase is out of bounds")
    return Argon2Parameters(salt, memory, iterations, lanes)


def _sealed(text: Any, label: KeyFileLabel) -> bytes:
    if isinstance(text, str):
        try:
            sealed = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            sealed = b""
        if len(sealed) > _NONCE_BYTES and base64.b64encode(sealed).decode("ascii") == text:
            return sealed
    raise label.damaged("its sealed part is not base64")
