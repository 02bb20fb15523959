"""The network: backbone, attention, head, and their assembly."""

from stcanet.model.attention import STCABlock
from stcanet.model.stcanet import Embedder, Normalize, ReIDOutput, STCANet, build_model

__all__ = ["Embedder", "Normalize", "ReIDOutput", "STCABlock", "STCANet", "build_model"]
