"""``stcanet datasets``: which data sets are read, and whether a folder is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stcanet.commands.options import DATA_HELP
from stcanet_runtime.cli.examples import examples, with_examples
from stcanet_runtime.cli.options import JSON

if TYPE_CHECKING:
    from stcanet.data.datasets import Layout, ReIDDataset
    from stcanet.data.datasets.check import Finding

app = typer.Typer(
    help=with_examples(
        "List the data sets that can be read; check a folder.",
        """
        stcanet datasets                              what can be read
        stcanet datasets --tree                       and how the folders look
        stcanet datasets check data/market1501
        stcanet datasets check mars:torchreid=data/mars --json
        """,
    ),
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def list_layouts(
    context: typer.Context,
    tree: Annotated[bool, typer.Option("--tree", help="Show the folders of each, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the data sets that can be read."""
    if context.invoked_subcommand is not None:
        return
    from stcanet.data.datasets import LAYOUTS
    from stcanet_runtime.cli.text import print_json

    if as_json:
        print_json([_facts(layout) for layout in LAYOUTS])
        return
    for layout in LAYOUTS:
        typer.echo(_line(layout))
        for variant, meaning in layout.variants.items():
            if variant:
                typer.echo(f"    {layout.name}:{variant}  {meaning}")
        if tree:
            typer.echo("    " + layout.tree.replace("\n", "\n    ") + "\n")
    typer.echo("a .csv manifest  path,pid,camid,split[,track,frame] for any other data, images or tracklets")
    typer.echo("                 camid from 0, which names and pictures call c1; empty where the camera is not known")
    typer.echo("                 pid -1: junk, left out; pid 0: a distractor if only gallery lines have it, else a person")
    typer.echo("                 pid and camid may be names, such as anna or front door; a note says which number each has")
    typer.echo("                 (then leave lines of junk out: -1 is no name)")


@app.command()
@examples("stcanet datasets check mars:torchreid=data/mars --json")
def check(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    as_json: JSON = False,
) -> None:
    """Read a data set whole: every image, every identity. Exit status 1 if there are errors."""
    from dataclasses import asdict

    from stcanet.data.datasets import load_dataset
    from stcanet.data.datasets.check import check_dataset
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.cli.text import print_json

    dataset = load_dataset(data)
    with progress_bar("reading") as progress:
        findings = check_dataset(dataset, progress)
    if as_json:
        listed = [asdict(finding) for finding in findings]
        report = {"name": dataset.name, "splits": dataset.describe(), "protocol": dict(dataset.protocol), "findings": listed}
        print_json(report)
    else:
        typer.echo(_report(dataset, findings))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def _facts(layout: Layout) -> dict[str, Any]:
    return {
        "name": layout.name,
        "aliases": list(layout.aliases),
        "tracklets": layout.tracklets,
        "variants": [variant for variant in layout.variants if variant],
        "published": {variant: dict(counts) for variant, counts in layout.published.items()},
        "tree": layout.tree,
    }


def _line(layout: Layout) -> str:
    counts = ", ".join(f"{split} {number:,}" for split, number in layout.published[layout.default].items())
    also = f" (also {', '.join(layout.aliases)})" if layout.aliases else ""
    return f"{layout.name}{also}: {'tracklets' if layout.tracklets else 'images'}; {counts}"


def _report(dataset: ReIDDataset, findings: list[Finding]) -> str:
    from stcanet_runtime.cli.text import printable
    from stcanet_runtime.wording import counted

    kind = ("tracklet", "tracklets") if dataset.tracklets else ("image", "images")
    lines = [f"{dataset.name} ({kind[1]}), {dataset.root}"]
    for split, numbers in dataset.describe().items():
        of = f" of {counted(numbers['images'], 'image', 'images', ',')}" if dataset.tracklets else ""
        parts = [
            f"{counted(numbers['samples'], *kind, '7,')}{of}",
            counted(numbers["identities"], "identity", "identities", ","),
            counted(numbers["cameras"], "camera", "cameras"),
        ]
        if distractors := numbers.get("distractors"):
            parts.append(counted(distractors, "distractor", "distractors", ","))
        lines.append(f"  {split:8} {', '.join(parts)}")
    lines += [f"  {name}: {value}" for name, value in dataset.protocol.items()]
    for finding in findings:
        count = "" if finding.examples == (finding.message,) else f" ({finding.cases:,})"
        lines.append(f"{finding.level}: {finding.message}{count}")
        lines += [f"    {example}" for example in finding.examples if example != finding.message]
        if finding.cases > len(finding.examples):
            lines.append(f"    … and {finding.cases - len(finding.examples):,} more")
    errors = sum(finding.level == "error" for finding in findings)
    warnings = counted(len(findings) - errors, "kind of warning", "kinds of warning")
    found = f"{counted(errors, 'kind of error', 'kinds of error')}, {warnings}"
    lines.append(found if findings else "nothing wrong was found")
    return "\n".join(map(printable, lines))
