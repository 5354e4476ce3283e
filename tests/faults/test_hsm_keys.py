"""Keys in a token that are not what a KEK must be, or not only one: refused by name, on every way in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyproviders import pkcs11_administration
from keyproviders.errors import (
    KeyNotFoundError,
    KeyVersionRetiredError,
    ProviderMisconfiguredError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import DataKey, SecretBytes, UnwrapItem, VersionState, WrapItem, WrappedKey
from keyproviders.pkcs11_keys import TokenKeys
from keyproviders.pkcs11_runtime import Pkcs11KeyProvider
from tests.servers.softhsm import KEY, LABEL, HsmBench

CONTEXT = b"tenant|collection|token"


def data_key(provider: Pkcs11KeyProvider, version: int = 1) -> DataKey:
    (made,) = provider.generate(KEY, version, [CONTEXT])
    assert isinstance(made, DataKey)
    return made


def opened(provider: Pkcs11KeyProvider, wrapped: WrappedKey, context: bytes = CONTEXT) -> object:
    (result,) = provider.unwrap([UnwrapItem(wrapped, context)])
    return result.reveal() if isinstance(result, SecretBytes) else type(result)


# --- what the administrator makes


@pytest.mark.parametrize(("algorithm", "purposes"), [("auto", "ENCRYPT DECRYPT"), ("A256KWP", "WRAP UNWRAP")])
def test_a_new_kek_is_locked_in_and_for_one_purpose(
    hsm_bench: HsmBench, algorithm: str, purposes: str
) -> None:
    administration = hsm_bench.administration(algorithm)
    assert (administration.create(KEY), administration.rotate(KEY)) == (1, 2)
    shown = hsm_bench.by_hand("""
for key in session.get_objects({A.CLASS: O.SECRET_KEY, A.TOKEN: True}):
    on = [n for n in "SENSITIVE EXTRACTABLE MODIFIABLE PRIVATE LOCAL ALWAYS_SENSITIVE NEVER_EXTRACTABLE "
          "ENCRYPT DECRYPT WRAP UNWRAP SIGN VERIFY DERIVE".split() if key[A[n]]]
    print(key.label, key.id.decode(), key.key_length, *on)
    for name in ("SENSITIVE", "EXTRACTABLE", "WRAP", "DECRYPT", "LABEL"):
        try:
            key[A[name]] = "x" if name == "LABEL" else name in ("EXTRACTABLE", "WRAP", "DECRYPT")
            print("changed", name)
        except pkcs11.exceptions.PKCS11Error:
            pass
    try:
        print(key[A.VALUE])
    except pkcs11.exceptions.AttributeSensitive:
        pass
""")
    kept = f"SENSITIVE PRIVATE LOCAL ALWAYS_SENSITIVE NEVER_EXTRACTABLE {purposes}"
    assert sorted(shown.splitlines()) == [f"{KEY}/v{n} {KEY}:{n} 256 {kept}" for n in (1, 2)]


def test_versions_of_two_algorithms_stand_side_by_side(hsm_bench: HsmBench) -> None:
    provider = hsm_bench.provider()
    hsm_bench.administration("A256GCM").create(KEY)
    assert provider.capabilities().binds_context
    first = data_key(provider)
    hsm_bench.administration("A256KWP").rotate(KEY)
    second = data_key(provider, 2)
    assert [each.algorithm for each in provider.key_info(KEY).versions] == ["A256GCM", "A256KWP"]
    assert [first.wrapped.algorithm, second.wrapped.algorithm] == ["A256GCM", "A256KWP"]
    for wrapped, to_version, plaintext in ((first.wrapped, 2, first), (second.wrapped, 1, second)):
        (moved,) = provider.rewrap([UnwrapItem(wrapped, CONTEXT)], to_version)
        assert isinstance(moved, WrappedKey)
        assert moved.version == to_version
        assert opened(provider, moved) == plaintext.plaintext.reveal()
        # What is bound under GCM is checked on the way out, too.
        (refused,) = provider.rewrap([UnwrapItem(first.wrapped, b"another context")], 2)
        assert isinstance(refused, WrappedKeyRejectedError)
    capabilities = provider.capabilities()
    assert (capabilities.binds_context, capabilities.rewraps_inside) == (False, False)


@pytest.mark.parametrize(("length", "wrapped_bytes"), [(16, 24), (17, 80), (32, 40), (63, 80), (64, 72)])
def test_a_kwp_key_gives_every_length_back_alike(
    hsm_bench: HsmBench, length: int, wrapped_bytes: int
) -> None:
    hsm_bench.administration("A256KWP").create(KEY)
    hsm_bench.administration("A256GCM").rotate(KEY)
    provider = hsm_bench.provider()
    plaintext = bytes(range(length - 1)) + b"\0"
    (made,) = provider.wrap(KEY, 1, [WrapItem(SecretBytes(plaintext), CONTEXT)])
    assert isinstance(made, WrappedKey)
    assert len(made.blob) == wrapped_bytes
    assert opened(provider, made) == plaintext
    for to_version in (1, 2):
        (moved,) = provider.rewrap([UnwrapItem(made, CONTEXT)], to_version)
        assert isinstance(moved, WrappedKey)
        assert opened(provider, moved) == plaintext


def test_a_frame_that_is_none_is_rejected(hsm_bench: HsmBench) -> None:
    hsm_bench.administration("A256KWP").create(KEY)
    values = [bytes(72), bytes([15]) + bytes(71), bytes([65]) + bytes(71), bytes([17]) + bytes(70) + b"x"]
    blobs = hsm_bench.by_hand(f"""
kek = session.get_key(label="{KEY}/v1")
for value in {values!r}:
    key = session.create_object({{A.CLASS: O.SECRET_KEY, A.KEY_TYPE: K.GENERIC_SECRET, A.VALUE: value, A.TOKEN: False,
                                  A.SENSITIVE: False, A.EXTRACTABLE: True}})
    print(kek.wrap_key(key, mechanism=M.AES_KEY_WRAP_PAD).hex())
""")
    for blob in map(bytes.fromhex, blobs.split()):
        assert opened(hsm_bench.provider(), WrappedKey(KEY, 1, "A256KWP", blob)) is WrappedKeyRejectedError


def test_data_keys_may_come_from_the_tokens_generator(hsm_bench: HsmBench) -> None:
    hsm_bench.administration().create(KEY)
    provider = hsm_bench.provider(generate_inside=True)
    assert provider.capabilities().generates_inside
    first, second = data_key(provider), data_key(provider)
    assert first.plaintext.reveal() != second.plaintext.reveal()
    assert opened(provider, first.wrapped) == first.plaintext.reveal()
    assert not hsm_bench.provider().capabilities().generates_inside


@pytest.mark.parametrize("algorithm", ["A256GCM", "A256KWP", "auto"])
def test_a_token_that_cannot_hold_a_kek_gets_none(
    hsm_bench: HsmBench, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    monkeypatch.setattr(pkcs11_administration, "does_gcm", lambda _session: False)
    monkeypatch.setattr(pkcs11_administration, "does_kwp", lambda _session: False)
    with pytest.raises(ProviderMisconfiguredError, match="cannot hold KEKs"):
        hsm_bench.administration(algorithm).create(KEY)
    assert hsm_bench.by_hand("print(list(session.get_objects({A.TOKEN: True})))") == "[]"


def test_without_gcm_the_administrator_falls_back_to_key_wrap(
    hsm_bench: HsmBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pkcs11_administration, "does_gcm", lambda _session: False)
    hsm_bench.administration().create(KEY)
    assert data_key(hsm_bench.provider()).wrapped.algorithm == "A256KWP"


# --- what others made


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("EXTRACTABLE=True", "EXTRACTABLE is not False"),
        ("SENSITIVE=False", "SENSITIVE is not True"),
        ("MODIFIABLE=True", "MODIFIABLE is not False"),
        ("PRIVATE=False", "PRIVATE is not True"),
        ("bits=128", "VALUE_LEN is not 32"),
        ("key_type=K.GENERIC_SECRET", "KEY_TYPE is not AES"),
        ("purposes=F.WRAP | F.UNWRAP | F.DECRYPT", "it is for DECRYPT, UNWRAP, WRAP"),
        ("purposes=F.ENCRYPT | F.DECRYPT | F.WRAP", "it is for DECRYPT, ENCRYPT, WRAP"),
        ("purposes=F.ENCRYPT", "it is for ENCRYPT"),
        ("purposes=F.SIGN | F.VERIFY", "it is for SIGN, VERIFY"),
        ("purposes=0", "it is for nothing"),
    ],
)
def test_a_key_with_wrong_attributes_is_refused_by_name(hsm_bench: HsmBench, made: str, said: str) -> None:
    hsm_bench.administration().create(KEY)
    provider = hsm_bench.provider()
    good = data_key(provider)
    hsm_bench.by_hand(f"make('{KEY}/v2', {made})")
    for call in (
        lambda: provider.generate(KEY, 2, [CONTEXT]),
        lambda: provider.wrap(KEY, 2, []),
        lambda: provider.key_info(KEY),
    ):
        with pytest.raises(ProviderMisconfiguredError, match=f"'{KEY}/v2' is not used as a KEK: .*{said}"):
            call()
    moved = UnwrapItem(replace(good.wrapped, version=2), CONTEXT)
    for results in (provider.unwrap([moved]), provider.rewrap([UnwrapItem(good.wrapped, CONTEXT)], 2)):
        (result,) = results
        assert type(result) is ProviderMisconfiguredError
        assert result.__traceback__ is None
    assert opened(provider, good.wrapped) == good.plaintext.reveal()


def test_an_imported_key_is_refused(hsm_bench: HsmBench) -> None:
    hsm_bench.by_hand(f"""
session.create_object(WELL | {{A.CLASS: O.SECRET_KEY, A.KEY_TYPE: K.AES, A.VALUE: b"k" * 32, A.TOKEN: True,
                              A.LABEL: "{KEY}/v1", A.ENCRYPT: True, A.DECRYPT: True}})
""")
    with pytest.raises(ProviderMisconfiguredError, match="LOCAL is not True; ALWAYS_SENSITIVE is not True"):
        hsm_bench.provider().key_info(KEY)


def test_two_keys_of_one_label_are_refused_and_nothing_is_chosen(hsm_bench: HsmBench) -> None:
    hsm_bench.administration().create(KEY)
    provider = hsm_bench.provider()
    known = data_key(provider)
    hsm_bench.by_hand(f"make('{KEY}/v2'); make('{KEY}/v2')")
    for call in (
        lambda: provider.generate(KEY, 2, [CONTEXT]),
        lambda: provider.key_info(KEY),
        lambda: hsm_bench.administration().rotate(KEY),
        lambda: hsm_bench.administration().retire(KEY, 1),
        lambda: hsm_bench.administration().destroy(KEY, 2),
    ):
        with pytest.raises(ProviderMisconfiguredError, match=f"more than one key .* called '{KEY}/v2'"):
            call()
    assert opened(provider, known.wrapped) == known.plaintext.reveal()
    assert (
        hsm_bench.by_hand("print(len(list(session.get_objects({A.CLASS: O.SECRET_KEY, A.TOKEN: True}))))")
        == "3"
    )


def test_an_administrator_on_another_machine_shows_as_two_keys_and_ours_goes_again(
    hsm_bench: HsmBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    administration = hsm_bench.administration()
    administration.create(KEY)

    usable = TokenKeys.usable

    def late(self: TokenKeys, key: str, version: int) -> object:
        hsm_bench.by_hand(f"make('{KEY}/v2')")
        return usable(self, key, version)

    with monkeypatch.context() as patch:
        patch.setattr(TokenKeys, "usable", late)
        with pytest.raises(ProviderMisconfiguredError, match="more than one key"):
            administration.rotate(KEY)
    assert [each.version for each in hsm_bench.provider().key_info(KEY).versions] == [1, 2]


def test_strangers_in_the_token_are_no_versions(hsm_bench: HsmBench) -> None:
    hsm_bench.administration().create(KEY)
    hsm_bench.by_hand(f"""
for label in ("{KEY}", "{KEY}/v", "{KEY}/v02", "{KEY}/v-1", "{KEY}/v1x", "{KEY}s/v7", "x/{KEY}/v3", "/v4", ""):
    make(label)
from pkcs11.attributes import AttributeMapper, handle_bytes
mapper = AttributeMapper(); mapper.register_handler(A.LABEL, *handle_bytes)
key = make("plain", MODIFIABLE=True); key.session
import ctypes
other = pkcs11.lib(module).get_token(token_label="{LABEL}").open(rw=True, attribute_mapper=mapper)
for found in other.get_objects({{A.LABEL: b"plain"}}):
    found[A.LABEL] = b"\\xff\\xfe/v9"
session.create_object({{A.CLASS: O.DATA, A.TOKEN: True, A.LABEL: "{KEY}/v5", A.VALUE: b"x"}})
""")
    provider = hsm_bench.provider()
    assert [each.version for each in provider.key_info(KEY).versions] == [1]
    assert hsm_bench.administration().rotate(KEY) == 2
    for name in (f"x/{KEY}", "", f"{KEY}/v1"):
        with pytest.raises(KeyNotFoundError):
            provider.key_info(name)
        with pytest.raises(KeyNotFoundError):
            provider.generate(name, 1, [CONTEXT])


# --- retirement, which PKCS#11 does not know


def test_a_key_made_by_hand_is_used_and_can_be_retired(hsm_bench: HsmBench) -> None:
    hsm_bench.by_hand(f"make('{KEY}/v3')")
    provider = hsm_bench.provider()
    assert [(each.version, each.state) for each in provider.key_info(KEY).versions] == [
        (3, VersionState.ENABLED)
    ]
    administration = hsm_bench.administration()
    assert administration.rotate(KEY) == 4
    administration.retire(KEY, 3)
    with pytest.raises(KeyVersionRetiredError):
        provider.generate(KEY, 3, [CONTEXT])
    administration.destroy(KEY, 3)
    assert [each.version for each in provider.key_info(KEY).versions] == [4]


def test_of_two_records_the_stricter_one_counts(hsm_bench: HsmBench) -> None:
    administration = hsm_bench.administration()
    administration.create(KEY)
    administration.rotate(KEY)
    administration.retire(KEY, 1)
    hsm_bench.by_hand(f"""
session.create_object({{A.CLASS: O.DATA, A.TOKEN: True, A.PRIVATE: True, A.LABEL: "{KEY}/retired",
                       A.VALUE: b"strongroom key record 1: retired 0, highest 9"}})
""")
    provider = hsm_bench.provider()
    with pytest.raises(KeyVersionRetiredError):
        provider.generate(KEY, 1, [CONTEXT])
    assert administration.rotate(KEY) == 10
    administration.retire(KEY, 2)
    values = hsm_bench.by_hand(
        "for each in session.get_objects({A.CLASS: O.DATA}): print(each[A.VALUE].decode())"
    )
    assert values == "strongroom key record 1: retired 2, highest 10"


def test_a_record_that_is_not_ours_stops_the_key(hsm_bench: HsmBench) -> None:
    hsm_bench.administration().create(KEY)
    hsm_bench.by_hand(f"""
session.create_object({{A.CLASS: O.DATA, A.TOKEN: True, A.PRIVATE: True, A.LABEL: "{KEY}/retired", A.VALUE: b"?"}})
""")
    with pytest.raises(ProviderMisconfiguredError, match=f"data object '{KEY}/retired'"):
        hsm_bench.provider().generate(KEY, 1, [CONTEXT])
    with pytest.raises(ProviderMisconfiguredError, match=f"data object '{KEY}/retired'"):
        hsm_bench.provider().key_info(KEY)


def test_removing_the_record_undoes_a_retirement(hsm_bench: HsmBench) -> None:
    administration = hsm_bench.administration()
    administration.create(KEY)
    made = data_key(hsm_bench.provider())
    administration.retire(KEY, 1)
    hsm_bench.by_hand(
        "for each in list(session.get_objects({A.CLASS: O.DATA, A.TOKEN: True})): each.destroy()"
    )
    assert opened(hsm_bench.provider(), made.wrapped) == made.plaintext.reveal()
