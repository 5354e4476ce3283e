"""Type ``pkcs11``: KEKs inside a PKCS#11 token, an HSM or SoftHSM. See docs/providers/pkcs11.md."""

from __future__ import annotations

from keyproviders.interface import ProviderSettings
from keyproviders.pkcs11_administration import Pkcs11Administration
from keyproviders.pkcs11_options import read_options
from keyproviders.pkcs11_runtime import Pkcs11KeyProvider

__all__ = ["Pkcs11ProviderType"]


class Pkcs11ProviderType:
    """Opens both doors of a token. Neither touches the token before its first call, and then once per process.

    Security: there is one PIN, so that the run-time door cannot change keys is the discipline of this code: it
        works on read-only sessions, in which the token itself refuses to make and destroy keys.
    """

    def open(self, settings: ProviderSettings) -> Pkcs11KeyProvider:
        """Open the run-time door.

        Raises:
            ProviderMisconfiguredError: an option is wrong, or the module is not there.
        """
        return Pkcs11KeyProvider(read_options(settings))

    def open_administration(self, settings: ProviderSettings) -> Pkcs11Administration:
        """Open the administration door.

        Raises:
            ProviderMisconfiguredError: an option is wrong, or the module is not there.
        """
        return Pkcs11Administration(read_options(settings))
