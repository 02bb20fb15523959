"""How a model is tested."""

from __future__ import annotations

from dataclasses import dataclass

from stcanet_runtime.inference.tracklets import ALL_FRAMES, Sampling
from stcanet_runtime.retrieval.distance import check_metric
from stcanet_runtime.retrieval.figures import APRule, check_ap_rule
from stcanet_runtime.retrieval.rerank import Reranking


@dataclass(frozen=True)
class EvaluationSettings:
    """How a model is tested.

    Raises:
        OptionError: There is no such distance or average precision.
    """

    sampling: Sampling = ALL_FRAMES
    """What of a tracklet is embedded, and whether mirror images count."""
    metric: str = "cosine"
    """'cosine' or 'euclidean'."""
    reranking: Reranking | None = None
    """Re-rank as well, with these parameters."""
    batch_size: int = 64
    """Images or frames per forward pass; changes no figure."""
    ap_rule: APRule = "rectangle"
    """'rectangle' or 'trapezoid'."""

    def __post_init__(self) -> None:
        check_metric(self.metric)
        check_ap_rule(self.ap_rule)

    def __str__(self) -> str:
        clips = f" in clips of {self.sampling.clip_length}" if self.sampling.clip_length else ""
        frames = f"all frames of tracklets{clips}" if self.sampling.frames == "all" else f"one clip of each tracklet{clips}"
        reranked = str(self.reranking or "not re-ranked")
        return "; ".join([f"AP {self.ap_rule}", f"{self.metric} distance", frames, flip_text(self.sampling.flip), reranked])


def flip_text(flip: bool) -> str:
    """Whether mirror images count, in a line of text."""
    return "mirror images averaged" if flip else "no mirror images"
