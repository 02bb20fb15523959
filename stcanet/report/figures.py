"""What the page says in figures and words: all of it from the record of the run. No torch here."""

from __future__ import annotations

from typing import Any

from stcanet.engine import run_files
from stcanet.evaluation.result import protocol_text, reranking_of
from stcanet.report.run import RunRecord
from stcanet_runtime.files import sha256_file


def large_figures(record: RunRecord) -> dict[str, str]:
    """The large numbers."""
    best, values = run_files.best_epoch(record.metrics), {}
    for found, how in ((record.results, ""), (record.results.get("reranked"), ", re-ranked")):
        if found:
            tested = f", {record.results['data']}{_judged(record)}{how}"
            for name, value in (("mAP", found["mAP"]), ("mINP", found["mINP"]), ("rank-1", found["cmc"][0])):
                values[name + tested] = f"{100 * value:.1f} %"
    for key, name in (("val_mAP", "validation mAP"), ("val_rank1", "validation rank-1")):
        if key in best:
            values[name] = f"{100 * best[key]:.1f} %"
    if record.metrics:
        last = record.metrics[-1]
        values["epochs"] = f"{last['epoch']} of {record.config.epochs}"
        if "val_mAP" in best:
            values["best epoch"] = str(best["epoch"])
        values["training time"] = _duration(sum(row["seconds"] for row in record.metrics))
        values["images per second"] = f"{last['images_per_second']:.0f}"
    return values


def protocol_sentence(record: RunRecord) -> str:
    """How the figures of ``results.json`` were made, empty without any: those of different protocols must not be compared."""
    if not record.results:
        return ""
    reranked = record.results.get("reranked")
    return protocol_text(record.results["protocol"]) + (f"; beside it, {reranking_of(reranked)}" if reranked else "")


def _judged(record: RunRecord) -> str:
    """Which checkpoint the figures of ``results.json`` are of, where it is not the one that the page is about."""
    digest = record.results["checkpoint_sha256"]
    chosen = run_files.chosen_checkpoint(record.root)
    if chosen and digest == sha256_file(chosen):
        return ""
    last = record.root / run_files.LAST
    return f" ({last.name})" if last.is_file() and digest == sha256_file(last) else " (another checkpoint than the present one)"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def subtitle(record: RunRecord) -> str:
    """Network, data, and when the run began."""
    parts = [f"STCANet, {record.config.preset}", f"trained on {record.config.data}"]
    started = record.environment.get("started")
    return " · ".join([*parts, *([f"started {started}"] if started else [])])


def origin(record: RunRecord) -> dict[str, str]:
    """Environment as a table."""
    facts: dict[str, Any] = dict(record.environment)
    versions = facts.pop("versions", {})
    resumed = facts.pop("resumed", [])
    rows = {
        name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in facts.items()
        if value
    }
    if versions:
        rows["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if resumed:
        rows["resumed"] = "; ".join(
            f"after epoch {again['after_epoch']}, {again['started']}, commit {again['commit']}: {again['command']}"
            for again in resumed
        )
    return rows
