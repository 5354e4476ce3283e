"""Idempotency keys: a request that is sent again is answered, not carried out again.

The database's unique index over the request's hash decides which of two twins does the work; docs/adr/0015 says why
there is no row before the work. Nothing stored here can tell what a body held: hashes are keyed, and go with the record.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from cryptography.hazmat.primitives import constant_time, hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keyproviders.interface import SecretBytes
from vault.core.clock import MINUTE
from vault.core.documents import dump_json
from vault.core.encoding import encode_fields
from vault.core.errors import InFlightError, UnprocessableError, VaultError, Violation
from vault.core.policy import Caller
from vault.core.ports import Clock, DuplicateIndexError
from vault.core.receipts import Receipt, ReceiptStore

KEPT_MINUTES = 24 * 60
"""How long a key is remembered."""
HEADER_POSITION = -1
"""Position of the row that stands for a batch as a whole; its operations count from 0."""
StatusOf: TypeAlias = Callable[[VaultError | DuplicateIndexError], int]
_KEY = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_HASH_BYTES = 32
_KEY_LABEL = "strongroom/idempotency/v1"
_REQUEST_LABEL = "strongroom/idempotency-request/v1"
_BODY_LABEL = "strongroom/idempotency-body/v1"


@dataclass(frozen=True, slots=True)
class RequestName:
    """What a key belongs to, together with the principal.

    Attributes:
        method: HTTP method.
        path: the request's path.
        key: the ``Idempotency-Key``.
    """

    method: str
    path: str
    key: str


def check_key(key: str) -> str:
    """Return the key if it has the documented form.

    Raises:
        UnprocessableError: ``idempotency-key``; not 1 to 128 visible ASCII characters.
    """
    if _KEY.fullmatch(key) is None:
        raise refused_key("Idempotency-Key has 1 to 128 visible ASCII characters.")
    return key


def refused_key(detail: str) -> UnprocessableError:
    """The refusal of a key that is malformed, or that would have no effect."""
    return UnprocessableError(
        detail,
        code="idempotency-key",
        violations=[Violation("", "idempotency-key", "header Idempotency-Key")],
    )


class RequestHasher:
    """Makes the keyed hashes of requests and bodies.

    Args:
        keys: the MAC keys of a keyring by id; each gives a derived key of its own.
        current: the id of the one that new hashes are made with.

    Source: RFC 5869 (HKDF-Expand), FIPS 198-1.
    """

    def __init__(self, keys: Mapping[int, SecretBytes], current: int) -> None:
        in_order = sorted(keys, key=lambda key_id: (key_id != current, key_id))
        self._primed = [_derived(keys[key_id]) for key_id in in_order]

    def requests(self, caller: Caller, name: RequestName) -> list[bytes]:
        """The request's hash under each key, the current one first; 32 bytes each."""
        message = encode_fields(
            _REQUEST_LABEL, caller.tenant, caller.principal, name.method, name.path, name.key
        )
        return [_digest(primed, message) for primed in self._primed]

    def body(self, body: Any, *, mark: int, which: int = 0) -> bytes:
        """The hash of a body, or of one operation of it; 32 bytes.

        Args:
            body: as it was parsed.
            mark: what else makes two requests different: 1 for an atomic batch, else 0.
            which: the key's place in :meth:`requests`.
        """
        return _digest(self._primed[which], encode_fields(_BODY_LABEL, mark, dump_json(body)))


def _derived(key: SecretBytes) -> hmac.HMAC:
    material = HKDFExpand(hashes.SHA256(), _HASH_BYTES, encode_fields(_KEY_LABEL)).derive(key.reveal())
    return hmac.HMAC(material, hashes.SHA256())


def _digest(primed: hmac.HMAC, message: bytes) -> bytes:
    context = primed.copy()
    context.update(message)
    return context.finalize()


class Fingerprint:
    """The hashes of one request.

    Args:
        hasher: makes them.
        caller: who asks.
        name: what the key belongs to.
        bodies: the body, or each operation of a batch, as they were parsed.
        mark: 1 for an atomic batch, else 0.
    """

    def __init__(
        self, hasher: RequestHasher, caller: Caller, name: RequestName, bodies: Sequence[Any], mark: int
    ) -> None:
        self.tenant = caller.tenant
        self.requests = hasher.requests(caller, name)
        self.bodies = len(bodies)
        self._hasher = hasher
        self._bodies = bodies
        self._mark = mark

    def body(self, position: int, *, which: int = 0) -> bytes:
        """The hash of one body, under the key that made ``requests[which]``."""
        return self._hasher.body(self._bodies[position], mark=self._mark, which=which)


class Claim:
    """One request's hold on its key.

    Args:
        store: where receipts are.
        fingerprint: of the request.
        now: UTC microseconds.
        status_of: the HTTP status of a refusal.
    """

    def __init__(
        self, store: ReceiptStore, fingerprint: Fingerprint, *, now: int, status_of: StatusOf
    ) -> None:
        self._store = store
        self._fingerprint = fingerprint
        self._now = now
        self.status_of = status_of

    @property
    def identity(self) -> bytes:
        """The request's hash under the current key."""
        return self._fingerprint.requests[0]

    def earlier(self) -> list[Receipt]:
        """The receipts of this very request, if it was carried out before.

        Raises:
            UnprocessableError: ``idempotency-mismatch``; the key was used for another body.
        """
        for which, request_hash in enumerate(self._fingerprint.requests):
            found = self._store.find(self._fingerprint.tenant, request_hash)
            # Those whose time is over count for nothing, whether or not somebody has come by to delete them.
            receipts = [receipt for receipt in found if receipt.expires_at > self._now]
            if receipts:
                operations = [receipt for receipt in receipts if receipt.position != HEADER_POSITION]
                self._check_same(operations, which)
                return operations
        return []

    def of_twin(self) -> list[Receipt]:
        """The receipts of the twin that has just won.

        Raises:
            InFlightError: they are gone again; the request can be sent once more.
            UnprocessableError: as for :meth:`earlier`.
        """
        receipts = self.earlier()
        if not receipts:
            raise InFlightError
        return receipts

    def receipt(
        self,
        position: int,
        *,
        status: int,
        collection: str,
        token: bytes | None = None,
        generation: int | None = None,
        code: str | None = None,
    ) -> Receipt:
        """The receipt of one operation, to be committed with it."""
        return Receipt(
            tenant=self._fingerprint.tenant,
            request_hash=self.identity,
            position=position,
            body_hash=None if position == HEADER_POSITION else self._fingerprint.body(position),
            status=status,
            code=code,
            collection=collection,
            token=token,
            generation=generation,
            expires_at=self._now + KEPT_MINUTES * MINUTE,
        )

    def _check_same(self, operations: Sequence[Receipt], which: int) -> None:
        same = len(operations) == self._fingerprint.bodies and all(
            # Erasing a record blanks the hash of what was in it; then there is nothing left to compare.
            receipt.body_hash is None
            or constant_time.bytes_eq(
                receipt.body_hash, self._fingerprint.body(receipt.position, which=which)
            )
            for receipt in operations
        )
        if not same:
            raise UnprocessableError(
                "This Idempotency-Key was used for another body; take a new key for a new request.",
                code="idempotency-mismatch",
                violations=[Violation("", "idempotency-key", "header Idempotency-Key")],
            )


class Idempotency:
    """Hands out claims, one at a time for each key in this process.

    Args:
        store: where receipts are.
        clock: tells the time.
        status_of: the HTTP status of a refusal.
        hasher_of: the hasher of a tenant.
    """

    def __init__(
        self,
        store: ReceiptStore,
        clock: Clock,
        *,
        status_of: StatusOf,
        hasher_of: Callable[[str], RequestHasher],
    ) -> None:
        self._hasher_of = hasher_of
        self._store = store
        self._clock = clock
        self._status_of = status_of
        self._at_work: set[bytes] = set()
        self._lock = threading.Lock()

    @contextmanager
    def claim(
        self,
        caller: Caller,
        name: RequestName,
        bodies: Sequence[Any],
        *,
        mark: int = 0,
    ) -> Iterator[Claim]:
        """Hold a key while its request is carried out.

        Raises:
            InFlightError: another thread of this process holds it.
        """
        claim = Claim(
            self._store,
            Fingerprint(self._hasher_of(caller.tenant), caller, name, bodies, mark),
            now=self._clock(),
            status_of=self._status_of,
        )
        with self._lock:
            if claim.identity in self._at_work:
                raise InFlightError
            self._at_work.add(claim.identity)
        try:
            yield claim
        finally:
            with self._lock:
                self._at_work.discard(claim.identity)
