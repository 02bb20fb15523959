"""``stcanet convert``: weights of another program as a checkpoint of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stcanet.commands.options import BLOCKS, parse_blocks, preset_option
from stcanet.config import preset_config
from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import check_apart


@examples("""
    stcanet convert best_model.pth.tar -o ours.pt --preset stcanet-video
    stcanet convert resnet50_market.pth -o plain.pt --preset stcanet-image --blocks none
    stcanet train --data market1501/ --out runs/market --init other.pth   (start from what fits)
""")
def convert(
    weights: Annotated[Path, typer.Argument(help="Checkpoint of the published STCANet or IAUnet code, torchreid, and others.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write (.pt).")],
    preset: Annotated[str, preset_option("Network")] = "stcanet-image",
    blocks: BLOCKS = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of every entry as JSON.")] = False,
) -> None:
    """Make a checkpoint for `evaluate` and `export` from weights of another program.

    Fails if anything is missing that retrieval needs, or a layer has no place here; says what was taken and what was left out.
    A checkpoint does not tell the last stride of its network: it is 1 here, whatever it was there.
    """
    from dataclasses import asdict

    from stcanet.engine.checkpoint import save_checkpoint
    from stcanet.engine.foreign import convert as convert_weights
    from stcanet_runtime.cli.text import say

    check_apart([weights], ("--out", out))
    overrides = {} if blocks is None else {"blocks": parse_blocks(blocks)}
    checkpoint, report = convert_weights(weights, preset_config(preset, **overrides))
    save_checkpoint(checkpoint, out)
    text = f"{out}: {report}; the last stride is 1 here, whatever it was there"
    say({"out": str(out), **asdict(report), "last_stride": 1}, as_json, text)
