"""Who may do what. One role for now; grants (action x collection x fields) take this room later."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from vault.audit.events import Action
from vault.core.errors import NotAuthorizedError, UnprocessableError, Violation

DEFAULT_TENANT = "default"
_PURPOSE = re.compile(r"[a-z0-9._:-]{1,64}", re.ASCII)


class Role(enum.StrEnum):
    """What a principal is."""

    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller in one request.

    Attributes:
        tenant: the credential's tenant; the URL never names one.
        principal: the principal's name.
        credential: the credential's public id, hexadecimal.
        role: the principal's role.
        purpose: why, as the caller states it; None if not stated.
        request_id: the request's id.
        address: the peer's network address.
    """

    tenant: str
    principal: str
    credential: str
    role: str
    purpose: str | None = None
    request_id: str | None = None
    address: str | None = None


def authorize(caller: Caller, action: Action) -> None:
    """Raise unless the caller may do this.

    Raises:
        NotAuthorizedError: the role does not allow the action.
    """
    # Fail closed: a role that this release does not know may do nothing.
    if caller.role != Role.ADMINISTRATOR:
        raise NotAuthorizedError(f"The role of {caller.principal} does not allow {action}.")


def check_purpose(purpose: str) -> str:
    """Return the purpose if it has the documented form.

    Raises:
        UnprocessableError: ``purpose``; it does not match ``[a-z0-9._:-]{1,64}``.
    """
    if _PURPOSE.fullmatch(purpose) is None:
        raise UnprocessableError(
            "Strongroom-Purpose must match [a-z0-9._:-]{1,64}.",
            code="purpose",
            violations=[Violation("", "purpose", "header Strongroom-Purpose")],
        )
    return purpose
