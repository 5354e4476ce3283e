"""One login at one token, shared by all doors of this process that use it, opened lazily and opened anew when lost.

A login belongs to the process, not to a session: closing the session that logged in logs out all others. So one
session, the keeper, shows the PIN and does nothing else; the work is done on another one without a PIN.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import (
    AnotherUserAlreadyLoggedIn,
    PKCS11Error,
    TokenNotRecognised,
    UserAlreadyLoggedIn,
    UserPinNotInitialized,
)
from pkcs11.types import Session
from pkcs11.types import Token as Pkcs11Token

from keyproviders.errors import (
    ProviderCredentialError,
    ProviderMisconfiguredError,
    ProviderSealedError,
    ProviderUnavailableError,
)
from keyproviders.pkcs11_errors import CREDENTIAL_ERRORS, describe
from keyproviders.pkcs11_lock import ProcessLock
from keyproviders.pkcs11_module import Module, ModuleNotLoadableError, module_at
from keyproviders.pkcs11_options import Pkcs11Options

__all__ = ["Token", "join_token"]

T = TypeVar("T")

# A token that is away is looked for again by starting its library anew, which voids the handles of its neighbours.
_REST_SECONDS = 0.25

_log = logging.getLogger(__name__)


class Token:
    """A token of this process.

    Args:
        options: which token, and how to log in.
        module: its library.

    Attributes:
        epoch: changes whenever handles that were found before may be void.
    """

    def __init__(self, options: Pkcs11Options, module: Module) -> None:
        self.epoch = 0
        self._options = options
        self._module = module
        self._lock = ProcessLock(
            options.lock_folder / f"pkcs11-{options.module.stem}.lock",
            provider=options.provider,
            wait_seconds=options.wait_seconds,
        )
        self._keeper: Session | None = None
        self._work: Session | None = None
        self._serial = b""
        self._generation = -1
        self._needs_restart = False
        self._refusal: str | None = None
        self._away: tuple[float, str] | None = None
        self._doors = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.token_name})"

    def run(self, work: Callable[[Session], T]) -> T:
        """Do some work on the token; if it got lost, open it once more and do the work again from its beginning.

        Args:
            work: gets a read-only session without a PIN, which is logged in all the same.

        Raises:
            ProviderUnavailableError: the token is away, or fails again after it was opened anew.
            ProviderCredentialError: it refused the PIN, now or earlier in this process.
            ProviderMisconfiguredError: its library does not load, or it is not the only one of its name.
        """
        with self._turn():
            try:
                return work(self._session())
            except PKCS11Error as error:
                reason = describe(error)
            _log.warning("%s: opening it anew after %s", self._options.token_name, reason)
            self._recover()
            try:
                return work(self._session())
            except PKCS11Error as error:
                self._needs_restart = True
                self._forget()
                raise self._unavailable(error) from error

    def change(self, work: Callable[[Session, Session], T]) -> T:
        """Do an administrator's work, with no other administrator of this machine at the same time.

        It is not done again if it fails half-way.

        Args:
            work: gets the read-only session, and a session that may write.

        Raises:
            KeyProviderError: as ``run``.
        """

        def changing(session: Session) -> T:
            # What was lost shows here, while it still does no harm to begin again.
            self.prove_login()
            with self._lock.held(), contextlib.ExitStack() as ending:
                writing = session.token.open(rw=True)
                ending.enter_context(contextlib.suppress(PKCS11Error))
                ending.callback(writing.close)
                try:
                    return work(session, writing)
                except PKCS11Error as error:
                    raise self._unavailable(error) from error

        with self._turn():
            try:
                return self.run(changing)
            finally:
                # All doors of this process see it at once.
                self.epoch += 1

    def prove_login(self) -> None:
        """Make sure that a search now shows the token as it is: it is there, the same one, and we are logged in.

        A search finds nothing after a logout and after the token's removal, exactly as if there were no keys.

        Raises:
            PKCS11Error: it is not so.
        """
        session = self._session()
        # While another process logs in, SoftHSM rewrites what this reads.
        with self._lock.held():
            if session.token.slot.get_token().serial != self._serial:
                raise TokenNotRecognised
        # Only a user who is logged in can make a private object; it never reaches the token's memory.
        session.create_object(
            {
                Attribute.CLASS: ObjectClass.DATA,
                Attribute.TOKEN: False,
                Attribute.PRIVATE: True,
                Attribute.VALUE: b"logged in",
            }
        ).destroy()

    def join(self) -> None:
        """Count one more door."""
        self._doors += 1
        if self._doors == 1:
            self._module.join()

    def leave(self) -> None:
        """Count one door less; the last one logs out. Never raises."""
        # A token that hangs must not hang the end of the process, too.
        with contextlib.suppress(ProviderUnavailableError), self._turn():
            self._doors -= 1
            if not self._doors:
                if self._generation == self._module.generation:
                    for session in (self._work, self._keeper):
                        with contextlib.suppress(PKCS11Error):
                            if session is not None:
                                session.close()
                self._forget()
                self._module.leave()
                if self._refusal is None:
                    _tokens[self._options.module].remove(self)

    def is_of(self, options: Pkcs11Options) -> bool:
        """Whether these options mean this token and this login."""
        mine = self._options
        return (mine.module, mine.token_label, mine.token_serial) == (
            options.module,
            options.token_label,
            options.token_serial,
        ) and hmac.compare_digest(mine.pin.reveal(), options.pin.reveal())

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        return self._module.turn(provider=self._options.provider, wait_seconds=self._options.wait_seconds)

    def _session(self) -> Session:
        if self._work is None or self._generation != self._module.generation:
            self._forget()
            self._open()
        assert self._work is not None  # noqa: S101 - for the type checker: _open sets it or raises
        return self._work

    def _forget(self) -> None:
        self._keeper = self._work = None
        self.epoch += 1

    def _recover(self) -> None:
        try:
            self.prove_login()
            # The login stands, so only handles or the working session went bad.
            if self._work is not None:
                token = self._work.token
                self._work.close()
                self._work = token.open()
            self.epoch += 1
        except PKCS11Error:
            self._needs_restart = True
            self._forget()

    def _open(self) -> None:
        if self._refusal is not None:
            raise self._refused()
        if self._away is not None and time.monotonic() < self._away[0]:
            raise ProviderUnavailableError(self._away[1], provider=self._options.provider)
        try:
            with self._lock.held():
                token = self._find()
                self._keeper = _log_in(token, self._options)
                self._work = token.open()
        except ModuleNotLoadableError as error:
            raise ProviderMisconfiguredError(
                f"{self._options.module} is no PKCS#11 library for this machine: {error}",
                provider=self._options.provider,
            ) from error
        except CREDENTIAL_ERRORS as error:
            self._refusal = describe(error)
            raise self._refused() from error
        except UserPinNotInitialized as error:
            self._needs_restart = True
            raise ProviderSealedError(
                f"{self._options.token_name} has no user PIN yet; initialise it",
                provider=self._options.provider,
            ) from error
        except (UserAlreadyLoggedIn, AnotherUserAlreadyLoggedIn) as error:
            raise ProviderMisconfiguredError(
                f"this process is logged in to {self._options.token_name} with another PIN or user already; "
                "give every provider of this token the same",
                provider=self._options.provider,
            ) from error
        except PKCS11Error as error:
            self._needs_restart = True
            failure = self._unavailable(error)
            self._rest(failure)
            raise failure from error
        self._serial = token.serial
        self._generation = self._module.generation
        self._away = None

    def _find(self) -> Pkcs11Token:
        is_fresh = self._module.start(anew=self._needs_restart)
        self._needs_restart = False
        found = self._matching()
        if not found and not is_fresh:
            # A library looks for tokens when it starts, and may not notice one that came back.
            self._module.start(anew=True)
            found = self._matching()
        if len(found) > 1:
            raise ProviderMisconfiguredError(
                f"{len(found)} tokens are called {self._options.token_label!r} (serial numbers "
                f"{', '.join(sorted(each.serial.decode(errors='replace') for each in found))}); "
                "set token_serial instead of token_label",
                provider=self._options.provider,
            )
        if not found:
            failure = ProviderUnavailableError(
                f"there is no {self._options.token_name} in any slot of {self._options.module.name}; connect it, or "
                "mend the option and the library's own configuration (SoftHSM: SOFTHSM2_CONF)",
                provider=self._options.provider,
            )
            self._rest(failure)
            raise failure
        return found[0]

    def _matching(self) -> list[Pkcs11Token]:
        found = []
        for slot in self._module.slots():
            # One broken neighbour must not hide the token that works.
            with contextlib.suppress(PKCS11Error):
                token = slot.get_token()
                serial = token.serial.decode(errors="replace")
                if self._options.token_label in {None, token.label} and self._options.token_serial in {
                    None,
                    serial,
                }:
                    found.append(token)
        return found

    def _rest(self, failure: ProviderUnavailableError) -> None:
        self._away = (time.monotonic() + _REST_SECONDS, str(failure))

    def _refused(self) -> ProviderCredentialError:
        return ProviderCredentialError(
            f"{self._options.token_name} refused the PIN ({self._refusal}). It was tried once and will not be tried "
            "again by this process, because tokens lock after a few: put the right one in place and start anew",
            provider=self._options.provider,
        )

    def _unavailable(self, error: PKCS11Error) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            f"{self._options.token_name} does not work ({describe(error)}); the next call opens it anew",
            provider=self._options.provider,
        )


def _log_in(token: Pkcs11Token, options: Pkcs11Options) -> Session:
    return token.open(user_pin=options.pin.reveal().decode())


# Doors of one token meet here, because they share one login. A token that refused its PIN is kept for good, so that
# a door that is opened later knows of it, and so does a forked child. Read and changed in a turn of the module.
_tokens: dict[Path, list[Token]] = {}


def join_token(options: Pkcs11Options) -> Token:
    """Return this process's one object for a token and its login, and count one more door of it.

    Raises:
        ProviderUnavailableError: other threads kept the token busy all the time.
    """
    module = module_at(options.module)
    with module.turn(provider=options.provider, wait_seconds=options.wait_seconds):
        known = _tokens.setdefault(options.module, [])
        token = next((each for each in known if each.is_of(options)), None)
        if token is None:
            token = Token(options, module)
            known.append(token)
        token.join()
        return token
