"""What a failure leaves in the log: an alarm for what stored bytes should not be, a line for everything else."""

from __future__ import annotations

from vault.core.errors import IntegrityError, UnavailableError, VaultError
from vault.telemetry.logs import event_logger
from vault.telemetry.traces import places_of

log = event_logger("strongroom.api")


def report(error: VaultError) -> None:
    """Write the line of a failure (500 or 503); its message, which can hold what somebody sent, stays out."""
    if isinstance(error, IntegrityError):
        log.critical("integrity-alarm", finding=error.finding, where=error.where, places=places_of(error))
    else:
        reason = error.reason if isinstance(error, UnavailableError) else None
        log.error("request-failed", code=error.code, reason=reason, places=places_of(error))
