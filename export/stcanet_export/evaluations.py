"""Results of ``stcanet evaluate``, as a package keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stcanet.evaluation.result import protocol_text
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import read_json, sha256_file
from stcanet_runtime.retrieval.figures import REPORTED_RANKS

_KEPT = ("data", "mAP", "mINP", "cmc", "num_valid_queries", "protocol")
# Not the model and where it ran: those are paths and names of the machine that evaluated.


def read_evaluation(path: str | Path, checkpoint: Path | None = None) -> dict[str, Any]:
    """Figures and protocol of a result file, the CMC up to the last rank that is reported.

    Args:
        path: The file.
        checkpoint: What the figures have to be of, where the result tells.

    Raises:
        DataError: It is no result of ``stcanet evaluate``, or of another checkpoint.
    """
    try:
        result = read_json(path)
        kept = {name: result[name] for name in _KEPT}
        kept["cmc"] = [float(value) for value in kept["cmc"][: max(REPORTED_RANKS)]]
        figures = [kept["mAP"], kept["mINP"], *kept["cmc"]]
        protocol_text(kept["protocol"])  # the model card has it
        json.dumps(kept, allow_nan=False, ensure_ascii=False).encode()  # packages keep it
        whole = kept["cmc"] and all(isinstance(figure, float) and 0 <= figure <= 1 for figure in figures)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is no result of 'stcanet evaluate --out': {error}") from None
    if not whole:
        raise DataError(f"{path} is no result of 'stcanet evaluate --out': its figures are no numbers from 0 to 1")
    judged = result.get("checkpoint_sha256")
    if judged is not None and checkpoint is not None and checkpoint.is_file() and judged != sha256_file(checkpoint):
        raise DataError(f"{path} is of another checkpoint than {checkpoint}; evaluate this one")
    return kept
