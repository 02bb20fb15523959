"""Results of ``stcanet evaluate``, as a package keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stcanet.evaluation.result import read_result
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import sha256_file
from stcanet_runtime.retrieval.figures import REPORTED_RANKS

_KEPT = ("data", "mAP", "mINP", "cmc", "num_valid_queries", "protocol")
# Not the model and where it ran: those are paths and names of the machine that evaluated.


def read_evaluation(path: str | Path, checkpoint: Path | None = None) -> dict[str, Any]:
    """Figures and protocol of a result file, the CMC up to the last rank that is reported.

    Args:
        path: The file.
        checkpoint: What the figures have to be of, where the result tells.

    Raises:
        OSError: It cannot be read.
        DataError: It is no result of ``stcanet evaluate``, or of another checkpoint.
    """
    result = read_result(path)
    kept = {name: result[name] for name in _KEPT} | {"cmc": result["cmc"][: max(REPORTED_RANKS)]}
    judged = result["checkpoint_sha256"]
    if judged is not None and checkpoint is not None and checkpoint.is_file() and judged != sha256_file(checkpoint):
        raise DataError(f"{path} is of another checkpoint than {checkpoint}; evaluate this one")
    return kept
