"""What `stcanet train` shows while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stcanet_runtime.cli.text import printable
from stcanet_runtime.wording import counted

if TYPE_CHECKING:
    from stcanet.engine.observer import StepReport


class TrainingProgress:
    """Draws an epoch bar and a line per epoch on stderr; lines only where stderr is no terminal."""

    def __init__(self, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._epochs = epochs
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        live = (*columns, TextColumn("loss {task.fields[loss]:.3f}  acc {task.fields[acc]:.3f}  {task.fields[rate]:.0f} img/s"))
        self._bar = Bar(*live, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._task = self._bar.add_task("reading images", total=None, loss=0.0, acc=0.0, rate=0.0)

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_read(self, done: int, total: int) -> None:
        """Move the bar, which shows the decoding of the images first."""
        self._bar.update(self._task, completed=done, total=total)

    def on_start(self, facts: dict[str, Any]) -> None:
        """Say what is trained on."""
        queries = counted(facts["val_queries"], "query", "queries")
        validation = f"validation {queries} in {facts['val_gallery']}" if facts["val_queries"] else "no validation"
        self._console.print(
            f"{facts['dataset']}: {facts['train_images']} {facts['kind']} of {facts['train_identities']} identities, "
            f"{validation}; {facts['device']}, {facts['precision']}, images from {facts['images_from']}",
            soft_wrap=True,
        )
        if "init" in facts:
            self._console.print(f"{'started' if facts['resumed'] else 'starts'} from {facts['init']}", soft_wrap=True)
        for note in (*facts["dataset_notes"], *facts["notes"]):
            self._console.print(printable(f"note: {note}"), soft_wrap=True)
        if facts["resumed"]:
            self._console.print(_describe_resumed(facts["resumed"]), soft_wrap=True)

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        # The bar runs over the whole run, so that the time left is that of the run.
        self._bar.update(
            self._task,
            description=f"epoch {report.epoch}/{self._epochs}",
            total=report.steps * self._epochs,
            completed=(report.epoch - 1) * report.steps + report.step,
            loss=report.loss,
            acc=report.accuracy,
            rate=report.images_per_second,
        )

    def on_epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Print the line of an epoch."""
        self._console.print(
            f"epoch {epoch:3d}/{self._epochs}  loss {values['loss']:.3f}  acc {values['accuracy']:.3f}  lr {values['lr']:.2e}  "
            f"{values['images_per_second']:.0f} img/s  {values['seconds']:.0f} s  {validation_text(values)}".rstrip(),
            soft_wrap=True,
        )


def validation_text(values: dict[str, float]) -> str:
    """In the words and percents of `stcanet evaluate`; empty where nothing was validated."""
    if "val_mAP" not in values:
        return ""
    return f"validation mAP {100 * values['val_mAP']:.2f}, rank-1 {100 * values['val_rank1']:.2f}"


def _describe_resumed(resumed: dict[str, Any]) -> str:
    batches = f" and {counted(resumed['step'], 'batch', 'batches')}" if resumed["step"] else ""
    where = f"resumed after epoch {resumed['epoch']}{batches}"
    changed = "".join(f"; {name}: {before} → {now}" for name, (before, now) in resumed["changed"].items())
    return where + changed
