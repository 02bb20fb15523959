"""The model card: what a manifest and a parity report say, for people. Nothing is in it that they do not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stcanet.evaluation.result import markdown_row, protocol_text
from stcanet_export.parity.report import ParityReport
from stcanet_runtime.package.manifest import Manifest
from stcanet_runtime.retrieval.figures import REPORTED_RANKS
from stcanet_runtime.wording import counted

_UNKNOWN = "Not stated."
_INTENDED = """\
Finding the same person again in crops of people, across cameras or over time. The model gives a vector for each crop or
clip; vectors of one person are closer than those of others. It is made for crops of whole, upright people, as a person
detector gives them."""
_LIMITS = """\
* Embeddings are not names: a match is a likeness of clothing and shape, and people in the same clothes are alike.
* Figures hold for the data sets that are named here. Other cameras, seasons, uniforms and crops give others; measure on
  your own before you decide anything by a threshold.
* How well it works for groups of people that the training data hardly show is not known.
* Following people is regulated in many places, and often forbidden without their consent. The licence below is about
  the weights only."""
_FACTS = {
    "dataset_notes": "notes on the data set",
    "train_images": "training samples",
    "kind": "samples are",
    "train_identities": "training identities",
    "val_queries": "queries held back for validation",
    "val_gallery": "gallery held back for validation",
    "init": "started from",
    "device": "trained on",
    "precision": "trained in",
}
"""What facts of a run are called, where their names do not say it."""
_NO_EVALUATION = "None is in the package: `stcanet export --result result.json` puts results of `stcanet evaluate` here."


def model_card(manifest: Manifest, report: ParityReport) -> str:
    """Markdown.

    Args:
        manifest: Of the package.
        report: What the parity gate found.
    """
    source = manifest.source
    sections = {
        "Intended use": _INTENDED,
        "Limits": _limits(source),
        "Input and output": _table(_contract(manifest)),
        "Training data": _training(source),
        "Evaluation": _evaluation(source.get("evaluation", ()), source.get("metrics", {})),
        "Precision": _precision(manifest),
        "Parity with PyTorch": _parity(report),
        "Licence of the weights": manifest.licence or _UNKNOWN,
        "Made by": f"{manifest.generator}, {manifest.created}. ONNX opset {manifest.opset}, "
        f"SHA-256 of `model.onnx` `{manifest.model_sha256}`.",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# {manifest.preset}\n\nA model of person re-identification. This card is written from `manifest.json`.\n\n{body}\n"


def _limits(source: Mapping[str, Any]) -> str:
    if source.get("trained") is False:
        return "* **The weights are random.** The embeddings say nothing about people; the package is for measuring speed."
    return _LIMITS


def _contract(manifest: Manifest) -> Iterator[tuple[str, str]]:
    spec, output = manifest.input, manifest.output
    shape = ", ".join("any" if length is None else str(length) for length in spec.shape)
    yield "input", f"`{spec.name}`, {spec.dtype}, {spec.color.upper()}, {spec.layout}, [{shape}]"
    normalised = "in the graph" if spec.mean is None else f"before it: mean {list(spec.mean)}, std {list(spec.std or ())}"
    yield "normalisation", normalised
    yield "resize", f"{spec.resample}, antialiased, to {spec.height}×{spec.width}, without keeping the aspect"
    if spec.clip_length is not None:
        yield "frames of a clip", f"{spec.clip_length}" + (" recommended, any number taken" if spec.dynamic_time else "")
    yield "output", f"`{output.name}`, {output.dim} dimensions, {'unit length' if output.normalized else 'not normalised'}"
    if output.part_maps:
        yield "part maps", ", ".join(f"`{name}`" for name in output.part_maps)
    yield "distance", output.metric


def _training(source: Mapping[str, Any]) -> str:
    facts = {name: value for name, value in source.get("training", {}).items() if value not in (None, [], {})}
    if source.get("epoch"):  # 0 is that of converted weights, and nobody knows theirs
        facts["epochs"] = source["epoch"]
    if "checkpoint_sha256" in source:
        facts["checkpoint SHA-256"] = f"`{source['checkpoint_sha256']}`"
    return (
        _table((_FACTS.get(name, name.replace("_", " ")), _plain(value)) for name, value in facts.items())
        if facts
        else _UNKNOWN
    )


def _evaluation(results: Sequence[Mapping[str, Any]], metrics: Mapping[str, float]) -> str:
    parts = []
    if results:
        parts.append(_results(results))
    if metrics:
        named = {name.removeprefix("val_").replace("rank", "rank-"): value for name, value in metrics.items()}
        values = ", ".join(f"{name} {100 * value:.2f} %" for name, value in named.items())
        parts.append(f"On images held back from training, which chose the checkpoint: {values}.")
    return "\n\n".join(parts) or _NO_EVALUATION


def _results(results: Sequence[Mapping[str, Any]]) -> str:
    titles = ["data", *(f"{name}, %" for name in ("mAP", *(f"rank-{rank}" for rank in REPORTED_RANKS), "mINP"))]
    lines = [markdown_row(titles), "|" + "---|" * len(titles)]
    for result in results:
        ranks = [result["cmc"][min(rank, len(result["cmc"])) - 1] for rank in REPORTED_RANKS]
        figures = [result["mAP"], *ranks, result["mINP"]]
        lines.append(markdown_row([str(result["data"]), *(f"{100 * value:.2f}" for value in figures)]))
    protocols = [f"Protocol of {result['data']}: {protocol_text(result['protocol'])}." for result in results]
    return "\n\n".join(["\n".join(lines), *protocols])


def _precision(manifest: Manifest) -> str:
    details = "".join(f"* {line}\n" for line in conversion_lines(manifest.conversion))
    more = f"\n\n{details}\n`conversion` in `manifest.json` has how it was done, and every figure." if details else ""
    return f"Computes in {manifest.precision}.{more}"


def conversion_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a conversion kept in float32, why, and what it lost: `conversion` of a manifest, for people."""
    if search := facts.get("search"):
        kept = ", ".join(search["kept"]) or "nothing but the attention's products"
        yield f"kept in fp32 by the search ({counted(search['runs'], 'run', 'runs')}): {kept}"
    if target := facts.get("target"):
        yield from (f"for {target['name']}: {reason}" for reason in target["reasons"])
        if target["profile"]:
            yield f"profile: {', '.join(f'{name} {shape}' for name, shape in target['profile'].items())}"
        yield f"{target['name']}: {target['checked']}"
    if evaluation := facts.get("evaluation"):
        named = {name: values for name, values in evaluation.items() if isinstance(values, dict)}
        figures = (f"{name} mAP {100 * row['mAP']:.2f}, rank-1 {100 * row['rank1']:.2f}" for name, row in named.items())
        yield f"on {evaluation['data']}: {'; '.join(figures)}"


def _parity(report: ParityReport) -> str:
    untried = f", of which {len(report.untried)} had nothing to compare" if report.untried else ""
    crops = counted(len(report.crops), "crop", "crops")
    figures = (
        f"{'Passed' if report.passed else 'FAILED'} on {crops}, {len(report.checks)} checks{untried}: "
        f"least cosine of an embedding with PyTorch's {report.min_cosine:.7f}, at least {report.tolerance.min_cosine:g} "
        "allowed. `parity.json` has every figure."
    )
    return "\n".join([figures, *(["", *(f"* {note}" for note in report.notes)] if report.notes else [])])


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        told = {name: item for name, item in value.items() if item not in (None, {}, [])}
        return ", ".join(f"{name.replace('_', ' ')} {_plain(item)}" for name, item in told.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _table(rows: Any) -> str:
    return "\n".join(["| | |", "|---|---|", *(markdown_row(row) for row in rows)])
