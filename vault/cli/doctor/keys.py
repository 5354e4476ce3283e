"""The key providers: whether each can be opened, and whether it proves itself on the canary."""

from __future__ import annotations

from keyproviders.errors import KeyProviderError
from keyproviders.health import HealthStatus, status_of
from vault.bootstrap.diagnosing import prove_keys, provider_refusal
from vault.cli.doctor.findings import Code, Finding, Patient, fine
from vault.core.errors import IntegrityError, MisconfiguredError, UnavailableError

CHECK = "keys"


def check_providers(patient: Patient) -> list[Finding]:
    """Open every configured provider, without asking it for a key."""
    refusals = {
        name: refusal
        for name in patient.configuration.settings.providers
        if (refusal := provider_refusal(patient.configuration, name)) is not None
    }
    return [
        Finding(
            CHECK,
            Code.PROVIDER_MISCONFIGURED,
            f"Key provider '{name}' cannot be opened: {sentence}",
            f"correct [providers.{name}]; docs/providers/ explains each type",
        )
        for name, sentence in refusals.items()
    ]


def check(patient: Patient) -> list[Finding]:
    """Load the vault's keys, and let each provider in use unwrap one that is known to be good."""
    try:
        proofs = prove_keys(patient.configuration)
    except UnavailableError as error:
        return [Finding(CHECK, Code.PROVIDER_NOT_READY, _reason(error), patient.command("doctor"))]
    except IntegrityError as error:
        return [
            Finding(
                CHECK,
                Code.KEYS_DAMAGED,
                f"The vault's keys are not what it wrote ({error}): restore a backup.",
                patient.command("verify"),
            )
        ]
    except MisconfiguredError as error:
        return [Finding(CHECK, Code.KEYS_REFUSED, error.detail, "put back the key file of this vault")]
    found = []
    for name, proof in proofs.items():
        if proof.status is HealthStatus.OK:
            found.append(fine(CHECK, f"provider {name} unwraps what this vault needs"))
        else:
            sentence = f"Key provider '{name}' is {proof.status}: {proof.detail}"
            found.append(Finding(CHECK, Code.PROVIDER_NOT_READY, sentence, patient.command("doctor")))
    idle = sorted(patient.configuration.settings.providers.keys() - proofs.keys())
    found += [fine(CHECK, f"provider {name} can be opened and is not in use") for name in idle]
    return found


def _reason(error: UnavailableError) -> str:
    cause = error.__cause__
    if isinstance(cause, KeyProviderError):
        return f"Key provider '{cause.provider}' is {status_of(cause)}: {cause}"
    return f"{error.detail} ({error.code})"
