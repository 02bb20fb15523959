"""``stcanet synth``: a synthetic dataset, for a first run with no download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stcanet.data.synthetic.config import SynthConfig, SynthCounts
from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import parse_size
from stcanet_runtime.cli.progress import progress_bar
from stcanet_runtime.cli.text import say
from stcanet_runtime.machine import cores
from stcanet_runtime.wording import counted

_DEFAULTS = SynthConfig()
_DEFAULT_SIZE = f"{_DEFAULTS.height}x{_DEFAULTS.width}"
_MAX_AUTO_WORKERS = 8


@examples("""
    stcanet synth people/
    stcanet synth people/ --identities 600 --cameras 6 --distractors 500 --seed 1
    stcanet synth people/ --size 256x128 --masks --json
""")
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to make: new or empty; with --force also a dataset made here before.")],
    identities: Annotated[int, typer.Option(help="People, training and test together.")] = _DEFAULTS.identities,
    test_identities: Annotated[
        int | None, typer.Option(help="How many of them are for query and gallery only.", show_default="a third")
    ] = None,
    cameras: Annotated[int, typer.Option(help="Cameras that see everybody.")] = _DEFAULTS.cameras,
    images_per_camera: Annotated[int, typer.Option(help="Images of each by each.")] = _DEFAULTS.images_per_camera,
    size: Annotated[str, typer.Option(metavar="HxW", help="Image height and width.")] = _DEFAULT_SIZE,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = _DEFAULTS.seed,
    distractors: Annotated[int, typer.Option(help="Gallery images of nobody in particular (identity 0000).")] = 0,
    junk: Annotated[int, typer.Option(help="Gallery images with bad boxes (identity -1).")] = 0,
    masks: Annotated[bool, typer.Option("--masks", help="Part masks too: one indexed PNG per image.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a dataset that was made here, and whatever came into its folders since."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Generate a synthetic dataset in the Market-1501 layout.

    Drawn people walk past several cameras; nothing is downloaded. Test identities are never in the training set.
    """
    from stcanet.data.synthetic.writer import generate

    height, width = parse_size(size)
    config = SynthConfig(
        identities=identities,
        test_identities=max(1, identities // 3) if test_identities is None else test_identities,
        cameras=cameras,
        images_per_camera=images_per_camera,
        height=height,
        width=width,
        seed=seed,
        distractors=distractors,
        junk=junk,
        masks=masks,
    )
    workers = min(cores(), _MAX_AUTO_WORKERS) if workers is None else workers
    with progress_bar("drawing") as progress:
        counts = generate(out, config, progress, workers, force)
    say({"out": str(out), **counts.to_dict()}, as_json, _summary(out, counts))


def _summary(out: Path, counts: SynthCounts) -> str:
    train, test = (counted(number, "identity", "identities") for number in (counts.train_identities, counts.test_identities))
    distractors = counted(counts.distractors, "distractor", "distractors")
    lines = [
        f"{out}: {counts.cameras} cameras",
        f"  training {counts.train_images:6d} images of {train}",
        f"  query    {counts.query_images:6d} images of {test}",
        f"  gallery  {counts.gallery_images:6d} images, of them {distractors}, {counts.junk} junk",
    ]
    return "\n".join([*lines, f"  masks    {counts.masks:6d}"] if counts.masks else lines)
