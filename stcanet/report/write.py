"""Makes the report of a run folder: ``report.html``, and the curves as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stcanet.config import PARTS, ModelConfig, TrainConfig
from stcanet.data.datasets import ReIDDataset, load_dataset
from stcanet.data.masks import MaskFolder
from stcanet.engine import run_files
from stcanet.engine.checkpoint import load_checkpoint
from stcanet.engine.devices import resolve_device
from stcanet.engine.embedding import QUICK
from stcanet.engine.overlap import best_overlap, part_iou, part_overlap
from stcanet.engine.part_maps import PartMaps, part_maps, pick_crops
from stcanet.engine.validation import choose_validation
from stcanet.evaluation import Embedded, EvaluationSettings, Result, embed_dataset, judge, open_model
from stcanet.report.attention import Blocks, draw_part_maps
from stcanet.report.curves import draw_curves
from stcanet.report.figures import large_figures, origin, protocol_sentence, subtitle
from stcanet.report.mistakes import hardest
from stcanet.report.page import Section, curves, figures, paragraph, picture, preformatted, render_page, table
from stcanet.report.run import RunRecord, read_run
from stcanet_runtime.errors import CheckpointError, DataError, StcanetError
from stcanet_runtime.files import atomic_path, write_json, write_text
from stcanet_runtime.inference.tracklets import ALL_FRAMES
from stcanet_runtime.pictures.sheet import draw_sheet
from stcanet_runtime.progress import Progress

_LOG_LINES = 200
_MASK_SIZE = (128, 64)  # at which maps and masks are compared, whatever the size of the network's input


def write_report(
    run: Path | str,
    data: Path | str | None = None,
    device: str = "auto",
    masks: Path | str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write ``report.html`` and ``curves/*.png`` into a run folder, finished or not.

    Args:
        run: The folder.
        data: Evaluate on the query and gallery of this data set, and write ``results.json``. None: look at the validation
            identities of the run's own training data (its test set, if it held none back); where those are gone, the report
            says so in the place of the pictures.
        device: Where the network runs: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        masks: Part masks to show beside the part maps; None takes those that the run was trained with.
        progress: Called after each batch with (clips done, clips in all); a crop is one clip.

    Returns:
        The page.

    Raises:
        DataError: It is no run folder, or `data` or `masks` cannot be read; or `masks` for a network without
            attention, or with other parts.
        ImageError: An image of `data` cannot be read. Whatever else cannot be drawn is said on the page.
        CheckpointError: The checkpoint is damaged; or there is none, where `data` or `masks` are given.
    """
    record = read_run(Path(run))
    charts = draw_curves(record.metrics)
    for name, chart in charts.items():
        with atomic_path(record.root / "curves" / f"{name}.png") as temporary:
            chart.save(temporary)
    looked_at = _look(record, data, device, masks, progress)
    record = read_run(record.root)  # results.json may be new
    sections = [
        Section("", figures(large_figures(record)) + _protocol(record)),
        Section("Curves", curves(charts) if charts else paragraph("No epoch was finished.", faint=True)),
        *looked_at,
        Section("Settings", table(origin(record)) + preformatted(run_files.CONFIG, record.config_text)),
        Section("Log", preformatted(run_files.LOG, "\n".join(record.log.splitlines()[-_LOG_LINES:])) if record.log else ""),
    ]
    page = record.root / run_files.REPORT
    write_text(page, render_page(record.root.resolve().name, subtitle(record), sections))
    return page


def _look(
    record: RunRecord, data: Path | str | None, device: str, masks: Path | str | None, progress: Progress | None
) -> list[Section]:
    """The sections that need the network and the pictures."""
    checkpoint = run_files.chosen_checkpoint(record.root)
    if checkpoint is None:
        if data is not None or masks is not None:
            raise CheckpointError(f"{record.root} has no checkpoint yet, so nothing can be evaluated or shown beside masks")
        return [Section("Hardest mistakes", paragraph("There is no checkpoint yet.", faint=True))]
    # What was asked for is not left out: here it is an error, before the work where that can be.
    split = load_dataset(data) if data is not None else None
    folder = MaskFolder(masks) if masks is not None else None
    if folder:
        _check_masked(record, load_checkpoint(checkpoint).model_config)
    judged = _evaluate(checkpoint, split, False, device, progress) if split else None
    if judged:
        write_json(record.root / run_files.RESULTS, judged[0].to_dict())

    def samples() -> ReIDDataset:
        return split or _validation(record.config)

    def mistakes() -> Section:
        return _mistakes(*(judged or _evaluate(checkpoint, samples(), True, device, progress)))

    def attention() -> Section | None:
        return _attention(record, checkpoint, samples, device, folder)

    return [*_section("Hardest mistakes", mistakes), *_section("Part attention", attention)]


def _check_masked(record: RunRecord, model: ModelConfig) -> None:
    if not model.blocks:
        raise DataError(f"{record.root} has a network without attention, so there is nothing to show beside masks")
    if model.num_parts != len(PARTS):
        raise DataError(f"{record.root} has a network with num_parts = {model.num_parts}, and masks have {len(PARTS)} parts")


def _section(title: str, draw: Callable[[], Section | None]) -> list[Section]:
    """A section, or why it could not be drawn: one that fails leaves the others alone. None makes no section."""
    try:
        section = draw()
    except (StcanetError, OSError) as error:
        return [Section(title, paragraph(f"Not drawn: {error}", faint=True))]
    return [section] if section else []


def _validation(config: TrainConfig) -> ReIDDataset:
    """The identities that chose the checkpoint, as query and gallery; the test set where none were held back."""
    dataset = load_dataset(config.data)
    _, query, gallery, _ = choose_validation(dataset, config.val_fraction, config.seed)
    if not query:
        return dataset
    # The gallery is not that of the test set, whose variant it may be.
    protocol = {name: value for name, value in dataset.protocol.items() if name != "gallery"}
    name = f"{dataset.name}, validation"
    return replace(dataset, name=name, train=(), query=query, gallery=gallery, junk=0, protocol=protocol)


def _evaluate(
    checkpoint: Path, split: ReIDDataset, quick: bool, device: str, progress: Progress | None
) -> tuple[Result, Embedded]:
    model, settings = open_model(checkpoint, device), EvaluationSettings(QUICK if quick else ALL_FRAMES)
    embedded = embed_dataset(model, split, settings, progress)
    return judge(model, embedded, settings), embedded


def _mistakes(result: Result, embedded: Embedded) -> Section:
    dataset = embedded.dataset
    rows = hardest(result.plain, dataset.query, dataset.gallery, embedded.query, embedded.gallery)
    protocol = paragraph(f"Protocol: {result.protocol()}.", faint=True)
    if not rows:
        text = f"None: every query on {dataset.name} finds all its matches first. {result.plain.summary()}."
        return Section("Hardest mistakes", paragraph(text) + protocol)
    sheet = draw_sheet(rows, "Hardest mistakes", dataset.name)
    text = (
        f"The queries with the lowest average precision, the worst first, by {Path(result.model).name} on {dataset.name}: "
        f"{result.plain.summary()}. Where the right person is not among the nearest, the first right image comes last, with "
        "its rank."
    )
    return Section("Hardest mistakes", paragraph(text) + picture("hardest mistakes", sheet) + protocol)


def _attention(
    record: RunRecord, checkpoint: Path, samples: Callable[[], ReIDDataset], device: str, masks: MaskFolder | None
) -> Section | None:
    model = load_checkpoint(checkpoint).build().to(resolve_device(device))
    if not model.config.blocks:
        return None
    start = record.root / run_files.PART_MAPS
    before = PartMaps.load(start) if start.is_file() else None
    images = before.images if before else pick_crops(samples().query)
    moments = {"before": before.blocks} if before else {}
    moments["after"] = part_maps(model, images).blocks
    folder = masks or _masks(record)
    drawn = draw_part_maps(images, model.config.blocks, moments, folder)
    text = (
        "How sure each attention block is, pixel by pixel, that there is the part: the stronger the colour, the surer. "
        + ("Before: the network as it was built. " if before else "")
        + (_overlap(images, moments, folder) if folder else "")
        + (
            ""
            if folder
            else "This run had no part masks, so what a map shows is what the network found useful, and need not be the part."
        )
    )
    return Section("Part attention", paragraph(text) + picture("part maps", drawn))


def _overlap(images: Sequence[Path], moments: Mapping[str, Blocks], masks: MaskFolder) -> str:
    truth = torch.from_numpy(np.stack([masks.read(image, *_MASK_SIZE) for image in images]))
    sizes = [block.shape[-2:] for block in moments["after"]]
    size = " and ".join(f"{height}×{width}" for height, width in sizes)
    best = part_iou(best_overlap(sizes, len(PARTS), truth)).nanmean()
    values = {
        moment: part_iou(part_overlap([torch.from_numpy(block)[:, None].logit(eps=1e-4) for block in blocks], truth)).nanmean()
        for moment, blocks in moments.items()
    }
    return (
        "IoU of maps and masks on these crops: "
        + ", ".join(f"{name} {100 * value:.0f} %" for name, value in values.items())
        + f". Maps of {size} pixels that are all the loss asks for reach {100 * best:.0f} %."
    )


def _masks(record: RunRecord) -> MaskFolder | None:
    return MaskFolder(record.config.masks) if record.config.masks else None


def _protocol(record: RunRecord) -> str:
    sentence = protocol_sentence(record)
    return paragraph(f"Test protocol: {sentence}.", faint=True) if sentence else ""
