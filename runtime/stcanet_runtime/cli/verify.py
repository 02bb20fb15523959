"""``stcanet verify``, ``stcanet-runtime verify``: does this machine run a package right?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, PROVIDER
from stcanet_runtime.wording import counted


@examples("""
    stcanet verify package/
    stcanet verify package/ --provider openvino --json
    stcanet verify model.stcanet --public-key ours.pub
""")
def verify(
    package: Annotated[Path, typer.Argument(help="Model package: a folder, or one file (.zip, .stcanet).")],
    provider: PROVIDER = "auto",
    public_key: Annotated[
        str | None, typer.Option(help="Demand a signature by this minisign public key: its file, or its line RW….")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Check a package on this machine: its hashes, the embeddings of the drawn crops that it holds, the pixels of its JPEG."""
    from stcanet_runtime.cli.text import say
    from stcanet_runtime.inference.golden import verify_package

    result = verify_package(package, provider, public_key)
    signed = "" if public_key is None else "signature right, "
    embeddings = counted(result.crops, "golden embedding", "golden embeddings")
    text = (
        f"{package}: {embeddings} on '{result.provider}', min cosine {result.min_cosine:.9f} (at least {result.bound}), "
        f"pixels of a JPEG {result.pixel_error:.2f} of 255 off: {signed}{'verified' if result.passed else 'FAILED'}"
    )
    say({"passed": result.passed, **asdict(result)}, as_json, text)
    result.raise_if_failed()
