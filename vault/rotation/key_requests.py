"""The job of a worker with the administration door: it makes key versions that were asked for, and adopts strangers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from keyproviders.errors import KeyProviderError, ProviderUnavailableError
from keyproviders.health import status_of
from keyproviders.interface import KeyAdministration, ProviderVersion
from vault.audit.events import Action, AuditEvent, Result
from vault.core.errors import UnavailableError, VaultError
from vault.core.job_ports import JobRow, Turn
from vault.core.key_requests import RotationStore
from vault.core.key_versions import next_version, pending_of, reason_of, strangers
from vault.core.keyring_loading import Keyring, error_for
from vault.core.keyrings import Keyrings
from vault.core.ports import Clock
from vault.core.trail import AuditTrail
from vault.rotation.job import Step, progress_at
from vault.telemetry.logs import event_logger

LOOK_SECONDS = 30.0
"""How often providers are asked for versions that nobody asked for."""

_log = event_logger("strongroom.keys")

AdministrationDoor = Callable[[str], AbstractContextManager[KeyAdministration]]
"""Opens the administration door of a provider, by its configured name, for as long as the body runs."""


class MakeKeyVersions:
    """Makes the next version of a keyring when somebody asked for it, as *pending*.

    The provider comes first, the row second. Whoever is killed in between leaves a version that nothing refers to; the
    next one makes another. One that the provider made by itself is adopted while no request waits.

    Args:
        rotations: requests, and where versions go.
        keyrings: the keyrings.
        doors: the administration doors.
        trail: where it is audited.
        clock: tells the time.
    """

    name = "make-key-versions"
    operation = "make-key-versions"

    def __init__(
        self,
        rotations: RotationStore,
        *,
        keyrings: Keyrings,
        doors: AdministrationDoor,
        trail: AuditTrail,
        clock: Clock,
    ) -> None:
        self._rotations = rotations
        self._keyrings = keyrings
        self._doors = doors
        self._trail = trail
        self._clock = clock
        self._look_at = 0.0
        self._found: list[tuple[str, str]] = []

    def is_waiting(self) -> bool:
        """Whether a version was asked for, or one appeared in a provider by itself."""
        if self._rotations.open_requests():
            return True
        if not self._found and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._found = self._look()
        return bool(self._found)

    def step(self, turn: Turn) -> Step:
        """Make or adopt one version; see :class:`vault.rotation.job.Job`."""
        self._keyrings.load()
        requests = self._rotations.open_requests()
        found, self._found = self._found, []
        started = time.monotonic()
        if requests:
            following = self._carry_out(requests[0], turn)
        else:
            following = turn
            for place in found:
                following = self._adopt(place, following)
        seconds = time.monotonic() - started
        done = following.job.done - turn.job.done
        return Step(following, done, 0, seconds, is_more=len(requests) > 1)

    def _carry_out(self, request: JobRow, turn: Turn) -> Turn:
        try:
            ring = self._keyrings.get(request.tenant, request.keyring or "")
            # Never a stranger, though there may be one: a provider can show a version that it did not store (seen with
            # OpenBao 2.7.2). The one that is made now is acknowledged, and those before it are stored with it.
            return self._add(ring, [self._made(ring)], turn, is_adopted=False)
        except KeyProviderError as error:
            if error.try_later:
                raise error_for(error, where=f"keyring {request.keyring}") from error
            return self._give_up(request, str(status_of(error)), turn, provider=error.provider)
        except UnavailableError:
            raise
        except VaultError as error:
            return self._give_up(request, error.code, turn)

    def _made(self, ring: Keyring) -> ProviderVersion:
        with self._doors(ring.row.provider) as administration:
            number = administration.rotate(ring.row.provider_key)
        for version in self._keyrings.key_info(ring).versions:
            if version.version == number:
                return version
        # The next try finds it, or goes on waiting.
        raise ProviderUnavailableError(
            f"version {number} was made and is not to be seen yet", provider=ring.row.provider
        )

    def _adopt(self, place: tuple[str, str], turn: Turn) -> Turn:
        if not self._keyrings.has(*place):
            return turn
        ring = self._keyrings.get(*place)
        try:
            unknown = strangers(ring, self._keyrings.key_info(ring))
        except KeyProviderError as error:
            raise error_for(error, where=ring.row.where()) from error
        if not unknown or pending_of(ring) is not None:
            return turn
        return self._add(ring, unknown, turn, is_adopted=True)

    def _add(self, ring: Keyring, found: list[ProviderVersion], turn: Turn, *, is_adopted: bool) -> Turn:
        """Store the newest of the versions; those between the known ones and it wrapped nothing and never will."""
        now = self._clock()
        version = next_version(ring, found[-1], now, is_adopted=is_adopted)
        event = AuditEvent(
            action=Action.KEY_VERSION_ADOPT if is_adopted else Action.KEY_VERSION_CREATE,
            result=Result.DONE,
            tenant=version.tenant,
            reason=reason_of(version),
        )
        following = self._rotations.add_version(
            version, self._trail.entry(event), turn=turn, progress=progress_at(now)
        )
        where = {"keyring": version.keyring, "version": version.version, "provider": version.provider}
        if is_adopted:
            _log.warning("key-version-adopted", **where, count=len(found))
        else:
            _log.info("key-version-made", **where)
        return following

    def _give_up(self, request: JobRow, word: str, turn: Turn, *, provider: str | None = None) -> Turn:
        _log.error(
            "key-request-failed", job=request.name, keyring=request.keyring, provider=provider, outcome=word
        )
        error = word if provider is None else f"{word}: key provider {provider}"
        return self._rotations.give_up(request, error, turn=turn, progress=progress_at(self._clock()))

    def _look(self) -> list[tuple[str, str]]:
        """Keyrings whose provider has versions that they do not know, and that wait for none."""
        self._keyrings.load()
        found = []
        for ring in self._keyrings.all():
            if pending_of(ring) is not None:
                continue
            try:
                if strangers(ring, self._keyrings.key_info(ring)):
                    found.append((ring.row.tenant, ring.row.name))
            except (KeyProviderError, VaultError):
                # Whether the provider works is others' business; what it made by itself can wait.
                continue
        return found
