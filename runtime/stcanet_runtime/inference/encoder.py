"""Images in, unit vectors out: the class that most users of the runtime need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from stcanet_runtime.arrays import Float32Array, UInt8Array
from stcanet_runtime.batching import DEFAULT_SIZES, check_sizes, cut, run_together
from stcanet_runtime.errors import ImageError, OptionError, PackageError, ShapeError
from stcanet_runtime.files import sha256_file
from stcanet_runtime.images.boxes import BoxCrops, crop_boxes
from stcanet_runtime.images.frames import FrameSource
from stcanet_runtime.inference.contract import check_contract, check_crops, noise, run_graph, unit_embeddings
from stcanet_runtime.inference.providers import Resources, Shapes
from stcanet_runtime.inference.reading import read_ahead
from stcanet_runtime.inference.session import Session, open_session
from stcanet_runtime.inference.tracklets import ALL_FRAMES, Sampling, embed_tracklets
from stcanet_runtime.package.archive import opened
from stcanet_runtime.package.contents import load_verified, model_path, unchanged, verify_whole
from stcanet_runtime.package.manifest import Manifest
from stcanet_runtime.package.profile import read_profile, usual_shape
from stcanet_runtime.package.signature import verify_signature
from stcanet_runtime.preprocess import ImageSource, load_image, placed, resize
from stcanet_runtime.progress import Progress

OnError = Callable[[int, ImageError], None]
"""Called with the position of an image that cannot be read and the reason; that image then has no row."""


class BoxEmbeddings(NamedTuple):
    """A row for each box of a frame."""

    embeddings: Float32Array
    """``[N, D]``, unit length; zeros where `valid` is False, so at cosine distance 1 from everything."""
    valid: NDArray[np.bool_]
    """``[N]``: whether the box has a pixel in the frame."""


class Encoder:
    """Turns crops of people into embeddings. Safe to call from several threads.

    Example:
        >>> encoder = Encoder.load("package/")  # doctest: +SKIP
        >>> embeddings = encoder.encode(["a.jpg", "b.jpg"])  # doctest: +SKIP

    Attributes:
        manifest: What the package says about itself.
        session: The open model; `session.explain()` says where it runs.
        model_sha256: Of the model file: which model the embeddings are of. None for a session without a file.
        batch_sizes: Crops (or clips) of a run, ascending: any number of them is cut into runs of these sizes.
    """

    def __init__(self, manifest: Manifest, session: Session, batch_sizes: Sequence[int] = DEFAULT_SIZES) -> None:
        check_contract(manifest, session)
        fixed = manifest.input.batch  # there is no other size to run then
        self.manifest, self.session = manifest, session
        self.batch_sizes = check_sizes(batch_sizes if fixed is None else (fixed,))
        self.model_sha256 = manifest.model_sha256

    @classmethod
    def load(
        cls,
        package: str | Path,
        providers: str | Sequence[str] = "auto",
        threads: int | None = None,
        batch_sizes: Sequence[int] | None = None,
        warm_up: bool = False,
        cache: str | Path | None = None,
        gpu_memory: int | None = None,
        public_key: str | Path | None = None,
    ) -> Encoder:
        """Open a model package.

        Args:
            package: Folder with `model.onnx` and `manifest.json`, or the same as a `.zip` or `.stcanet` file, whose hashes
                are checked; or a single ONNX file, whose manifest is in its metadata.
            providers: "auto", a name or a list; see :func:`stcanet_runtime.inference.session.open_session`.
            threads: Threads of one run; None leaves it to the provider, within the CPU quota of a container.
            batch_sizes: The only sizes of runs. A rest below the smallest is filled up, which a GPU hardly notices: (8, 32).
                None takes 1, 2, 4, … 32, or of these what is in the shape profile of a package made for TensorRT.
            warm_up: Whether each size runs once now, so that none stalls later.
            cache: Folder in which TensorRT and OpenVINO keep what they compile; with it "auto" takes TensorRT where it can.
            gpu_memory: Most bytes that CUDA may take for tensors.
            public_key: Demand a signature by this minisign key (its file, or its line), and every file that it covers. Without
                a key, report, golden vectors and model card may be missing: they are not needed to run.

        Raises:
            PackageError: Incomplete, altered, or not a package.
            SignatureError: Not signed by the demanded key.
            ManifestError: The manifest is malformed, or contradicts the model.
            ProviderError: A provider that was named cannot run here.
        """
        package = Path(package)
        if not package.exists():
            raise PackageError(f"{package}: no such file or folder")
        given = None if batch_sizes is None else check_sizes(batch_sizes)
        with opened(package) as path, unchanged(path):
            if public_key is not None:
                verify_signature(path, public_key)
            manifest = load_verified(path)
            if public_key is not None:
                verify_whole(path, manifest)
            sizes, usual = _sizes(manifest, given)
            shapes = {manifest.input.name: _shapes(manifest, sizes, usual)}
            resources = Resources(threads, gpu_memory, None if cache is None else Path(cache), shapes)
            model = manifest.model_sha256 or sha256_file(path)
            encoder = cls(manifest, open_session(model_path(path), providers, resources=resources), sizes)
            encoder.model_sha256 = model
        if warm_up:
            encoder.warm_up()
        return encoder

    @property
    def dim(self) -> int:
        """Length D of an embedding."""
        return self.manifest.output.dim

    def encode(
        self,
        images: Sequence[ImageSource],
        color: str | None = None,
        batch_size: int = 32,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> Float32Array:
        """Embed crops.

        To a clip package an image is a tracklet of one frame: its clip is the frame repeated.

        Args:
            images: Paths, PIL images, or uint8 arrays ``[H, W, 3]`` of any size.
            color: Channel order of arrays, "rgb" or "bgr"; not for files and PIL images.
            batch_size: Crops of a batch; two batches are held in memory at a time, since one is read while another is embedded.
                Runs are of `batch_sizes`. Results do not depend on it.
            progress: Called after each batch.
            on_error: Called for an image that cannot be read, which is then left out. Without it the first such image
                is an error: an embedding that is silently missing shifts all rows behind it.

        Returns:
            ``[N, D]`` unit float32, a row per image (that could be read), in order.

        Raises:
            ImageError: An image cannot be read and `on_error` is not given; the message has its name or its index.
            ShapeError: An array is not uint8 ``[H, W, 3]``; the message has its index.
            OptionError: `color` is missing for arrays, or an option is out of range.
        """
        _check_list("images", images)
        if batch_size < 1:
            raise OptionError("batch_size", batch_size, "at least 1")
        seen = 0

        def crops() -> Iterator[UInt8Array]:
            nonlocal seen
            for number, crop in self._readable(images, color, batch_size, on_error):
                seen = number
                yield crop

        rows = []
        for batch in _batches(self._as_inputs(crops()), batch_size):
            rows.append(self.embed(batch)[0])
            if progress:
                progress(seen, len(images))
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)

    def encode_boxes(self, frame: FrameSource, xyxy: ArrayLike, format: str) -> BoxEmbeddings:
        """Embed people in a frame, by the boxes of a detector or tracker.

        Crops are those that `encode` makes of the same pixels, bit for bit; the frame is neither copied nor converted. One on a
        GPU is cut there, and with CUDA or TensorRT a model that takes bytes reads its crops there. No box is an error:
        :func:`stcanet_runtime.images.boxes.clip_boxes` says how they are cut and rounded, and what is not valid.

        Args:
            frame: uint8, ``[H, W, 3]`` for "rgb" and "bgr", ``[H * 3/2, W]`` or planes for "nv12" and "i420"; see
                :func:`stcanet_runtime.images.frames.as_frame`. Rows may lie apart.
            xyxy: ``[N, 4]``: left, upper, right and lower edges in pixels, integers or not.
            format: "rgb", "bgr", "nv12" or "i420".

        Raises:
            OptionError: An unknown format.
            ShapeError: The frame or the boxes have an unexpected shape or type.
            BackendError: The frame is on a GPU, and CuPy cannot be used here.
        """
        return self.embed_boxes(self.crop_boxes(frame, xyxy, format))

    def embed_boxes(self, crops: BoxCrops) -> BoxEmbeddings:
        """Embed what `crop_boxes` gave: the second half of `encode_boxes`."""
        rows = [self.embed(batch)[0] for batch in _batches(self._as_inputs(crops.crops), self.batch_sizes[-1])]
        embeddings = np.zeros((len(crops.valid), self.dim), np.float32)
        embeddings[crops.valid] = np.concatenate(rows) if rows else 0
        return BoxEmbeddings(embeddings, crops.valid)

    def crop_boxes(self, frame: FrameSource, xyxy: ArrayLike, format: str) -> BoxCrops:
        """Crops of the size of the model, ``[V, H, W, 3]``, and which boxes are valid: the first half of `encode_boxes`."""
        size = self.manifest.input.height, self.manifest.input.width
        return crop_boxes(frame, xyxy, format, *size, threads=self.session.threads)

    def _as_inputs(self, crops: Iterable[UInt8Array]) -> Iterator[UInt8Array]:
        """Crops as the model takes them: to a clip package each is a tracklet of one frame."""
        frames = self.manifest.input.clip_length if self._takes_clips else None
        return (crop if frames is None else np.repeat(crop[None], frames, axis=0) for crop in crops)

    def encode_tracklets(
        self,
        tracklets: Sequence[Sequence[ImageSource]],
        color: str | None = None,
        batch_size: int = 32,
        progress: Progress | None = None,
        sampling: Sampling = ALL_FRAMES,
    ) -> Float32Array:
        """Embed tracklets.

        A tracklet is filled up to a multiple of T frames by its first frames, again and again, and cut into clips of T
        consecutive frames. Its embedding is the direction of the mean of its clips' features before normalisation:
        ``normalise(Σ norm_i · embedding_i)``. With a package that takes images, it is the direction of the mean of the
        embeddings of all frames.

        Args:
            tracklets: Frames of each tracklet, in order, at least one each.
            color: Channel order of arrays.
            batch_size: Frames of a batch, of one tracklet or several, at least one clip: two batches are held in memory at a
                time. Runs are of `batch_sizes`.
            progress: Called after each batch with (clips done, clips in all).
            sampling: Which frames, how long a clip is, and whether mirror images count too.

        Returns:
            ``[N, D]`` unit float32, a row per tracklet.

        Raises:
            OptionError: The package does not take clips of that length, or an option is out of range.
            ShapeError: A tracklet is empty, or an array is not uint8 ``[H, W, 3]``; the message says which.
            ImageError: A frame cannot be read; the message has its name or its place.
        """
        _check_list("tracklets", tracklets)
        for index, tracklet in enumerate(tracklets):
            _check_list(f"tracklets[{index}]", tracklet)
            if len(tracklet) == 0:
                raise ShapeError(f"tracklets[{index}] has no frames; a tracklet needs at least one")
        resolved = replace(sampling, clip_length=self.clip_length(sampling))
        read = partial(self._crop, color=color)
        return embed_tracklets(tracklets, read, self.embed_clips, self.dim, resolved, batch_size, progress)

    def clip_length(self, sampling: Sampling) -> int:
        """Frames of the clips that this model is given; 1 for a package that takes images.

        Raises:
            OptionError: It does not take clips of the length that was asked for.
        """
        spec = self.manifest.input
        return sampling.length(spec.clip_length, spec.dynamic_time)

    def embed_clips(self, clips: UInt8Array) -> tuple[Float32Array, Float32Array | None]:
        """`embed` for clips ``[N, T, H, W, 3]``, also where the package takes images: T = 1, and no lengths there."""
        if self._takes_clips:
            return self.embed(clips)
        return self.embed(clips[:, 0])[0], None  # all packages of images weigh frames alike, whether they tell lengths or not

    def warm_up(self, callers: int = 1) -> None:
        """Run each of the batch sizes once, on noise.

        Args:
            callers: Threads that will run the model, each `AsyncEncoder` being one; see
                :func:`stcanet_runtime.batching.run_together`.

        Raises:
            OptionError: `callers` is below 1.
        """
        crops = noise(self.manifest.input, self.batch_sizes[-1])
        run_together((partial(self.embed_batch, crops[:size]) for size in reversed(self.batch_sizes)), callers)

    def embed(self, batch: UInt8Array) -> tuple[Float32Array, Float32Array | None]:
        """`embed_batch` for any number of crops, in runs of the batch sizes."""
        if len(batch) == 0:
            return self.embed_batch(batch)
        runs = [(*self.embed_batch(rows), count) for rows, count in cut(batch, self.batch_sizes)]
        embeddings = np.concatenate([rows[:count] for rows, _, count in runs])
        norms = [lengths[:count] for _, lengths, count in runs if lengths is not None]
        return embeddings, np.concatenate(norms) if norms else None

    def embed_batch(self, batch: UInt8Array) -> tuple[Float32Array, Float32Array | None]:
        """Run the model on crops that have the size of the manifest already.

        Args:
            batch: RGB uint8, ``[N, H, W, 3]``, or ``[N, T, H, W, 3]`` for clip packages.

        Returns:
            Embeddings ``[N, D]``, unit float32; and the lengths ``[N]`` of the features before normalisation, None for a
            package that takes images and gives unit embeddings.

        Raises:
            ShapeError: The batch is not of that shape and type.
            PackageError: The model gave NaN or infinity.
        """
        check_crops(batch, self.manifest.input)
        if len(batch) == 0:
            tells_lengths = self._takes_clips or not self.manifest.output.normalized
            return np.empty((0, self.dim), np.float32), np.empty(0, np.float32) if tells_lengths else None
        return unit_embeddings(self.manifest, run_graph(self.manifest, self.session, batch))

    def part_maps(self, batch: UInt8Array) -> tuple[Float32Array, ...]:
        """Where each attention block sees the parts of the body, for packages that were exported with part maps.

        Args:
            batch: As for :meth:`embed_batch`, at least one crop.

        Returns:
            For each block in the order of the network, values in 0..1, ``[N, parts, h, w]``, or ``[N, T, parts, h, w]`` for
            clip packages.

        Raises:
            PackageError: The package has no part maps.
            ShapeError: The batch is not of the package's shape and type, or empty.
        """
        names = self.manifest.output.part_maps
        if not names:
            raise PackageError("the package has no part maps; export it with --part-maps")
        check_crops(batch, self.manifest.input)
        if len(batch) == 0:
            raise ShapeError("part_maps needs at least one crop")
        outputs = run_graph(self.manifest, self.session, batch)
        return tuple(outputs[name] for name in names)

    @property
    def _takes_clips(self) -> bool:
        return self.manifest.input.takes_clips

    def _crop(self, image: ImageSource, color: str | None) -> UInt8Array:
        return resize(load_image(image, color), self.manifest.input.height, self.manifest.input.width)

    def _readable(
        self, images: Sequence[ImageSource], color: str | None, ahead: int, on_error: OnError | None
    ) -> Iterator[tuple[int, UInt8Array]]:
        """The crops that can be read, each with the number of images seen so far; `ahead` images are read before they are."""

        def read(index: int, image: ImageSource) -> UInt8Array:
            with placed(f"images[{index}]"):
                return self._crop(image, color)

        numbered = enumerate(images)
        batches = iter(lambda: dict(islice(numbered, ahead)), {})
        for index, crop in (item for batch in read_ahead(batches, read) for item in batch.items()):
            try:
                pixels = crop.result()
            except ImageError as error:
                if on_error is None:
                    raise
                on_error(index, error)
            else:
                yield index + 1, pixels


def _sizes(manifest: Manifest, given: tuple[int, ...] | None) -> tuple[tuple[int, ...], int]:
    """Sizes of runs, and for which of them an engine is made fastest: those that were given, or else what the package says."""
    if manifest.input.batch is not None:  # there is no other size to run then
        return (manifest.input.batch,), manifest.input.batch
    if given is not None:
        return given, given[-1]
    if (profile := read_profile(manifest)) is not None:
        return profile.sizes, profile.usual
    return DEFAULT_SIZES, DEFAULT_SIZES[-1]


def _shapes(manifest: Manifest, sizes: Sequence[int], usual: int) -> Shapes:
    """The smallest, the usual and the largest input of the graph."""
    row = usual_shape(manifest.input)
    return Shapes((sizes[0], *row), (usual, *row), (sizes[-1], *row))


def _batches(crops: Iterable[UInt8Array], size: int) -> Iterator[UInt8Array]:
    pending: list[UInt8Array] = []
    for crop in crops:
        pending.append(crop)
        if len(pending) == size:
            yield np.stack(pending)
            pending = []
    if pending:
        yield np.stack(pending)


def _check_list(name: str, value: object) -> None:
    """One path or one image is easily passed where a list belongs, and would be read letter by letter or row by row."""
    single = isinstance(value, (str, Path, Image.Image)) or (isinstance(value, np.ndarray) and value.ndim < 4)
    if single:
        raise ShapeError(f"{name} must be a list of images; put a single one in brackets: [image]")
