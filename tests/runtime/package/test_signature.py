"""Signatures: a package that is altered, unsigned, or signed by somebody else is refused when a key is demanded."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from goldens import seal

from stcanet_runtime import Encoder, OptionError, PackageError, SignatureError, load_manifest
from stcanet_runtime.errors import MissingDependencyError
from stcanet_runtime.package.archive import pack
from stcanet_runtime.package.signature import load_secret_key, sign, verify_signature, write_keys

minisign = pytest.importorskip("minisign", reason="needs py-minisign (extra 'sign')")


class Keys(NamedTuple):
    secret: Path
    public: Path


def no_password() -> str:
    raise AssertionError("asked for a password")


def make_keys(folder: Path, name: str, password: str | None = None) -> Keys:
    pair = minisign.KeyPair.generate()
    keys = Keys(folder / f"{name}.key", folder / f"{name}.pub")
    if password:
        pair.secret_key.encrypt(password, opslimit=32768, memlimit=1 << 24)
    keys.secret.write_bytes(bytes(pair.secret_key) + b"\n")
    keys.public.write_bytes(bytes(pair.public_key) + b"\n")
    return keys


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path, "ours")


@pytest.fixture
def signed(package: Path, keys: Keys) -> Path:
    sign(package, load_secret_key(keys.secret, no_password))
    return package


def test_a_signed_package_opens(signed: Path, keys: Keys, tmp_path: Path) -> None:
    assert Encoder.load(signed, "cpu", public_key=keys.public).dim == 8
    line = keys.public.read_text().splitlines()[1]
    verify_signature(signed, line)
    pack(signed, tmp_path / "model.zip")
    assert Encoder.load(tmp_path / "model.zip", "cpu", public_key=line).dim == 8


def test_an_unsigned_package_is_refused(package: Path, keys: Keys) -> None:
    with pytest.raises(SignatureError, match="is not signed, and a signature is demanded"):
        Encoder.load(package, public_key=keys.public)
    with pytest.raises(SignatureError, match="is not signed"):
        Encoder.load(package / "model.onnx", public_key=keys.public)


def test_a_package_signed_by_another_is_refused(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="not a signature of this manifest by that key"):
        Encoder.load(signed, public_key=make_keys(tmp_path, "theirs").public)


def test_another_manifest_under_the_signature_is_refused(signed: Path, keys: Keys) -> None:
    manifest = replace(load_manifest(signed), licence="mine now")
    (signed / "manifest.json").write_text(manifest.to_json())
    with pytest.raises(SignatureError, match="not a signature of this manifest"):
        Encoder.load(signed, public_key=keys.public)


def test_another_model_under_the_manifest_is_refused(signed: Path, keys: Keys) -> None:
    with (signed / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(PackageError, match="was altered"):
        Encoder.load(signed, public_key=keys.public)


@pytest.mark.parametrize("damage", [b"", b"untrusted comment: x\nAAAA\n", b"\xff\xfe", None])
def test_a_damaged_signature_is_refused(signed: Path, keys: Keys, damage: bytes | None) -> None:
    path = signed / "manifest.json.minisig"
    text = path.read_bytes()
    path.write_bytes(text.replace(b"trusted comment: model", b"trusted comment: Model") if damage is None else damage)
    with pytest.raises(SignatureError) as caught:
        verify_signature(signed, keys.public)
    assert "\n" not in str(caught.value)


def test_keys_with_a_password(package: Path, tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "locked", "secret")
    with pytest.raises(OptionError, match="secret key"):
        load_secret_key(keys.secret, lambda: "guess")
    sign(package, load_secret_key(keys.secret, lambda: "secret"))
    verify_signature(package, keys.public)


@pytest.mark.parametrize("password", [None, "secret"])
def test_made_keys(package: Path, tmp_path: Path, password: str | None) -> None:
    secret, public = write_keys(tmp_path / "mine", None if password is None else lambda: password)
    assert [path.name for path in (secret, public)] == ["mine.key", "mine.pub"]
    assert secret.stat().st_mode & 0o777 == 0o600
    sign(package, load_secret_key(secret, no_password if password is None else lambda: password))
    verify_signature(package, public)
    before = secret.read_bytes()
    with pytest.raises(OptionError, match=r"mine\.key is there already"):
        write_keys(tmp_path / "mine", no_password)
    assert secret.read_bytes() == before


def test_a_signed_package_has_to_be_whole(package: Path, keys: Keys) -> None:
    (package / "MODEL_CARD.md").write_text("# what it is for")
    seal(package, "MODEL_CARD.md")
    sign(package, load_secret_key(keys.secret, no_password))
    assert Encoder.load(package, "cpu", public_key=keys.public).dim == 8
    (package / "MODEL_CARD.md").unlink()
    with pytest.raises(PackageError, match=r"MODEL_CARD\.md is missing, and the manifest lists it"):
        Encoder.load(package, "cpu", public_key=keys.public)
    assert Encoder.load(package, "cpu").dim == 8  # a card is not needed to run


def test_no_keys(signed: Path, keys: Keys, tmp_path: Path) -> None:
    shutil.copy(signed / "manifest.json", tmp_path / "no.key")
    for path in (tmp_path / "nowhere", tmp_path / "no.key"):
        with pytest.raises(OptionError, match="public key must be"):
            verify_signature(signed, path)
    with pytest.raises(OptionError, match="secret key must be"):
        load_secret_key(tmp_path / "no.key", no_password)
    with pytest.raises(FileNotFoundError):
        load_secret_key(tmp_path / "nowhere", no_password)
    with pytest.raises(OptionError, match="public key must be"):
        verify_signature(signed, keys.secret)


def test_without_the_library(signed: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "minisign", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stcanet\[sign\]'"):
        Encoder.load(signed, public_key=keys.public)
