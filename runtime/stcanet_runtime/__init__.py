"""STCANet at the edge: embeddings of people, their distances, ranking and evaluation, without PyTorch.

Importing this package imports NumPy and nothing heavier; Pillow, ONNX Runtime and compiled kernels come when they are used.
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

# Not lazily: a submodule that is imported later would put itself in the place of the function of the same name.
from stcanet_runtime.evaluate import Evaluation, Protocol, evaluate, evaluate_embeddings
from stcanet_runtime.lazy import lazy_names
from stcanet_runtime.rerank import Reranking, rerank, rerank_distances, rerank_memory

if TYPE_CHECKING:
    from stcanet_runtime.asynchronous import AsyncEncoder
    from stcanet_runtime.calibration import Calibration, calibrate
    from stcanet_runtime.crops import list_images, parse_name
    from stcanet_runtime.distance import distance_matrix
    from stcanet_runtime.encoder import BoxEmbeddings, Encoder
    from stcanet_runtime.gallery import Gallery, Where
    from stcanet_runtime.identifier import Identifier
    from stcanet_runtime.identities import Track, Travel
    from stcanet_runtime.manifest import InputSpec, Manifest, OutputSpec
    from stcanet_runtime.package import load_manifest
    from stcanet_runtime.preprocess import load_image, resize
    from stcanet_runtime.ranking import SearchResult, search
    from stcanet_runtime.session import Session, available_providers, open_session
    from stcanet_runtime.sheet import Match, SheetRow, ranked_sheet
    from stcanet_runtime.track_buffer import TrackletBuffer
    from stcanet_runtime.tracklets import Sampling

_LAZY = {
    "asynchronous": ("AsyncEncoder",),
    "calibration": ("Calibration", "calibrate"),
    "crops": ("list_images", "parse_name"),
    "distance": ("distance_matrix",),
    "encoder": ("BoxEmbeddings", "Encoder"),
    "gallery": ("Gallery", "Where"),
    "identifier": ("Identifier",),
    "identities": ("Track", "Travel"),
    "manifest": ("InputSpec", "Manifest", "OutputSpec"),
    "package": ("load_manifest",),
    "preprocess": ("load_image", "resize"),
    "ranking": ("SearchResult", "search"),
    "session": ("Session", "available_providers", "open_session"),
    "sheet": ("Match", "SheetRow", "ranked_sheet"),
    "track_buffer": ("TrackletBuffer",),
    "tracklets": ("Sampling",),
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
