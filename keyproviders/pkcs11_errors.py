"""What PKCS#11 return values mean here: which are about the data, about the PIN, about what a token can do."""

from __future__ import annotations

from pkcs11.exceptions import (
    AttributeTypeInvalid,
    AttributeValueInvalid,
    DataInvalid,
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    FunctionFailed,
    FunctionNotSupported,
    GeneralError,
    KeySizeRange,
    MechanismInvalid,
    MechanismParamInvalid,
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PinTooWeak,
    PKCS11Error,
    SignatureInvalid,
    TemplateIncomplete,
    TemplateInconsistent,
    WrappedKeyInvalid,
    WrappedKeyLenRange,
)

__all__ = ["CREDENTIAL_ERRORS", "DATA_ERRORS", "UNSUPPORTED_ERRORS", "describe"]

CREDENTIAL_ERRORS = (PinIncorrect, PinInvalid, PinLenRange, PinExpired, PinLocked, PinTooWeak)
"""The login failed because of what was shown. Tokens lock after a few of these, so none is ever repeated."""

DATA_ERRORS = (
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    WrappedKeyInvalid,
    WrappedKeyLenRange,
    DataInvalid,
    DataLenRange,
    SignatureInvalid,
    KeySizeRange,
    AttributeValueInvalid,
    # SoftHSM says this, and other tokens the next, of a tampered blob and of its own troubles alike.
    GeneralError,
    FunctionFailed,
)
"""What unwrapping bad bytes may say. It is about the bytes only if the canary of the same key still opens."""

UNSUPPORTED_ERRORS = (
    MechanismInvalid,
    MechanismParamInvalid,
    FunctionNotSupported,
    AttributeTypeInvalid,
    TemplateIncomplete,
    TemplateInconsistent,
)
"""The token does not do this, or does not make such keys, now or later."""


def describe(error: PKCS11Error) -> str:
    """Name a return value for the operator."""
    # The base class stands for what python-pkcs11 has no class for; only there the text says more than the name.
    return f"PKCS#11: {type(error).__name__ if type(error) is not PKCS11Error else error}"
