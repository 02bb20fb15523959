"""STCANet at the edge: embeddings of people, their distances, ranking and evaluation, without PyTorch.

Importing this package imports errors and nothing heavier; NumPy, Pillow, ONNX Runtime and compiled kernels come when they are
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stcanet_runtime._version import __version__
from stcanet_runtime.errors import (
    BackendError,
    CheckpointError,
    ConfigError,
    DataError,
    DroppedError,
    GalleryError,
    ImageError,
    ManifestError,
    MemoryLimitError,
    MissingDependencyError,
    OptionError,
    PackageError,
    ParityError,
    ProcessError,
    ProviderError,
    ShapeError,
    SignatureError,
    StcanetError,
)
from stcanet_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from stcanet_runtime.cameras.identifier import Identifier
    from stcanet_runtime.cameras.identities import Track, Travel
    from stcanet_runtime.gallery import Gallery, Where
    from stcanet_runtime.images.crops import list_images, parse_name
    from stcanet_runtime.inference.asynchronous import AsyncEncoder
    from stcanet_runtime.inference.encoder import BoxEmbeddings, Encoder
    from stcanet_runtime.inference.session import Session, available_providers, open_session
    from stcanet_runtime.inference.track_buffer import TrackletBuffer
    from stcanet_runtime.inference.tracklets import Sampling
    from stcanet_runtime.package.contents import load_manifest
    from stcanet_runtime.package.manifest import InputSpec, Manifest, OutputSpec
    from stcanet_runtime.pictures.sheet import Match, SheetRow, ranked_sheet
    from stcanet_runtime.preprocess import load_image, resize
    from stcanet_runtime.retrieval.calibration import Calibration, calibrate
    from stcanet_runtime.retrieval.distance import distance_matrix
    from stcanet_runtime.retrieval.evaluate import Evaluation, Protocol, evaluate, evaluate_embeddings
    from stcanet_runtime.retrieval.ranking import SearchResult, search
    from stcanet_runtime.retrieval.rerank import Reranking, rerank, rerank_distances, rerank_memory

_LAZY = {
    "cameras.identifier": ("Identifier",),
    "cameras.identities": ("Track", "Travel"),
    "gallery": ("Gallery", "Where"),
    "images.crops": ("list_images", "parse_name"),
    "inference.asynchronous": ("AsyncEncoder",),
    "inference.encoder": ("BoxEmbeddings", "Encoder"),
    "inference.session": ("Session", "available_providers", "open_session"),
    "inference.track_buffer": ("TrackletBuffer",),
    "inference.tracklets": ("Sampling",),
    "package.contents": ("load_manifest",),
    "package.manifest": ("InputSpec", "Manifest", "OutputSpec"),
    "pictures.sheet": ("Match", "SheetRow", "ranked_sheet"),
    "preprocess": ("load_image", "resize"),
    "retrieval.calibration": ("Calibration", "calibrate"),
    "retrieval.distance": ("distance_matrix",),
    "retrieval.evaluate": ("Evaluation", "Protocol", "evaluate", "evaluate_embeddings"),
    "retrieval.ranking": ("SearchResult", "search"),
    "retrieval.rerank": ("Reranking", "rerank", "rerank_distances", "rerank_memory"),
}

__all__ = [
    "AsyncEncoder",
    "BackendError",
    "BoxEmbeddings",
    "Calibration",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DroppedError",
    "Encoder",
    "Evaluation",
    "Gallery",
    "GalleryError",
    "Identifier",
    "ImageError",
    "InputSpec",
    "Manifest",
    "ManifestError",
    "Match",
    "MemoryLimitError",
    "MissingDependencyError",
    "OptionError",
    "OutputSpec",
    "PackageError",
    "ParityError",
    "ProcessError",
    "Protocol",
    "ProviderError",
    "Reranking",
    "Sampling",
    "SearchResult",
    "Session",
    "ShapeError",
    "SheetRow",
    "SignatureError",
    "StcanetError",
    "Track",
    "TrackletBuffer",
    "Travel",
    "Where",
    "__version__",
    "available_providers",
    "calibrate",
    "distance_matrix",
    "evaluate",
    "evaluate_embeddings",
    "list_images",
    "load_image",
    "load_manifest",
    "open_session",
    "parse_name",
    "ranked_sheet",
    "rerank",
    "rerank_distances",
    "rerank_memory",
    "resize",
    "search",
]

if not TYPE_CHECKING:  # else every misspelt name would be an object to mypy
    __getattr__, __dir__ = lazy_names(__name__, _LAZY)
