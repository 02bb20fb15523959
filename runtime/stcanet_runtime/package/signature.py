"""Signatures of packages, in the format of minisign (https://jedisct1.github.io/minisign/), by its Python library.

What is signed is the manifest, which holds the hash of every other file of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stcanet_runtime.errors import OptionError, SignatureError
from stcanet_runtime.extras import import_extra
from stcanet_runtime.files import atomic_path
from stcanet_runtime.package.archive import MANIFEST_NAME, SIGNATURE_NAME


def load_secret_key(path: str | Path, ask_password: Callable[[], str]) -> Any:
    """A key for :func:`sign`.

    Args:
        path: File of :func:`write_keys` or ``minisign -G``.
        ask_password: Called where the key is protected by a password.

    Raises:
        OSError: It cannot be read.
        OptionError: It is no such file, or the password is wrong.
        MissingDependencyError: py-minisign is not installed.
    """
    minisign = _library()
    try:
        key = minisign.SecretKey.from_file(path)
        if key.is_encrypted():
            key.decrypt(ask_password())
    except minisign.Error as error:
        raise OptionError("secret key", str(path), f"a minisign secret key ({error})") from None
    return key


def write_keys(name: str | Path, ask_password: Callable[[], str] | None) -> tuple[Path, Path]:
    """Make a pair of keys, as ``minisign -G`` does.

    Args:
        name: Of the files, without ending.
        ask_password: Called for the password that protects the secret key; None leaves it unprotected.

    Returns:
        Files of the secret key (readable by the owner only) and of the public key.

    Raises:
        OptionError: A file of that name is there already: a key that is gone cannot be made again.
        MissingDependencyError: py-minisign is not installed.
    """
    pair = _library().KeyPair.generate()
    paths = Path(f"{name}.key"), Path(f"{name}.pub")
    for path in paths:
        if path.exists():
            raise OptionError("name", str(name), f"another one: {path} is there already")
    if ask_password is not None:
        pair.secret_key.encrypt(ask_password())
    for path, key, mode in zip(paths, (pair.secret_key, pair.public_key), (0o600, 0o644), strict=True):
        with atomic_path(path) as temporary:
            temporary.touch(mode)
            temporary.write_bytes(bytes(key) + b"\n")
    return paths


def sign(folder: Path, key: Any) -> None:
    """Sign the manifest of a package folder with a key of :func:`load_secret_key`."""
    signature = key.sign((folder / MANIFEST_NAME).read_bytes(), trusted_comment="model package of stcanet")
    with atomic_path(folder / SIGNATURE_NAME) as temporary:
        temporary.write_bytes(bytes(signature) + b"\n")


def verify_signature(folder: Path, public_key: str | Path) -> None:
    """See that a package folder was signed with the secret key that belongs to `public_key`.

    That its other files are those of the manifest is for :func:`stcanet_runtime.package.contents.verify_checksum` to see.

    Args:
        folder: The package.
        public_key: File of :func:`write_keys` or ``minisign -G``, or the line in it that starts with RW.

    Raises:
        SignatureError: The package is not signed, signed by another key, or was altered afterwards.
        OptionError: The key cannot be read.
        MissingDependencyError: py-minisign is not installed.
    """
    minisign = _library()
    try:
        key = _public_key(minisign, str(public_key))
    except (OSError, minisign.Error) as error:
        raise OptionError("public key", str(public_key), f"a minisign public key or its file ({error})") from None
    try:
        signature = minisign.Signature.from_file(folder / SIGNATURE_NAME)
        key.verify((folder / MANIFEST_NAME).read_bytes(), signature)
    except (FileNotFoundError, NotADirectoryError):
        raise SignatureError(f"{folder} is not signed, and a signature is demanded: it has no {SIGNATURE_NAME}") from None
    except (OSError, minisign.Error) as error:
        raise SignatureError(f"{folder / SIGNATURE_NAME} is not a signature of this manifest by that key: {error}") from None


def _public_key(minisign: Any, text: str) -> Any:
    inline = len(text) == 56 and text.startswith("RW") and not Path(text).exists()  # base64 of 42 bytes
    return minisign.PublicKey.from_base64(text) if inline else minisign.PublicKey.from_file(text)


def _library() -> Any:
    return import_extra("minisign", "py-minisign", "signing and verifying signatures", "sign")
