"""Boxes of a frame to the batch of a model: the kernels, Pillow and, where installed, OpenCV, in turn in one run.

    python benchmarks/bench_preprocess.py                  # 32 boxes of a 1080p frame: seconds
    python benchmarks/bench_preprocess.py --check 10000    # and as many random boxes held against Pillow, bit for bit

Where CuPy sees a GPU, that takes part: with the frame there already, and with the crops there afterwards.

Prints medians; ``--out benchmarks/results`` records them with hardware, versions and commit. The largest difference from the
bytes of Pillow stands beside the speed: OpenCV's filters are no drop-in.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from provenance import add_out, environment, nothing_measured, write_result
from turns import in_turns, seconds

from stcanet_runtime.backends import compiled, gpu_arrays, gpu_crops, gpu_device, reference
from stcanet_runtime.images.frames import FORMATS, Frame, as_frame

Crops = NDArray[np.uint8]
HEIGHT, WIDTH = 256, 128


def picture(rng: np.random.Generator, height: int, width: int) -> Crops:
    """Smooth and rough places, RGB."""
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    smooth = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
    return (smooth + rng.normal(scale=12, size=smooth.shape)).clip(0, 255).astype(np.uint8)


def frame_of(format: str, rgb: Crops) -> Frame:
    """A frame in that layout. The colours of YUV are other ones: only the work must be right."""
    if format == "rgb":
        return as_frame(rgb, format)
    if format == "bgr":
        return as_frame(np.ascontiguousarray(rgb[:, :, ::-1]), format)
    height, width = rgb.shape[:2]
    stacked = np.concatenate([rgb[:, :, 0].ravel(), rgb[:, :, 1].ravel()])[: height * width * 3 // 2]
    return as_frame(stacked.reshape(-1, width), format)


def people(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.int64]:
    """Boxes of standing people: 120 to 480 pixels high at 1080p, 0.35 to 0.5 times as wide."""
    tall = rng.integers(height // 9, height * 4 // 9, count)
    wide = (tall * rng.uniform(0.35, 0.5, count)).astype(np.int64)
    x, y = rng.integers(0, width - wide), rng.integers(0, height - tall)
    return np.stack([x, y, x + wide, y + tall], axis=1)


def opencv(frame: Frame, boxes: NDArray[np.int64], filter_name: str) -> Crops:
    """What trackers do: the frame to RGB, crops resized one by one."""
    import cv2

    codes = {"bgr": cv2.COLOR_BGR2RGB, "nv12": cv2.COLOR_YUV2RGB_NV12, "i420": cv2.COLOR_YUV2RGB_I420}
    whole = frame.planes[0]
    if frame.format in codes:
        stacked = whole if len(frame.planes) == 1 else np.concatenate([p.reshape(-1, whole.shape[1]) for p in frame.planes])
        whole = cv2.cvtColor(stacked, codes[frame.format])
    crops = np.empty((len(boxes), HEIGHT, WIDTH, 3), np.uint8)
    for crop, (x1, y1, x2, y2) in zip(crops, boxes.tolist(), strict=True):
        cv2.resize(whole[y1:y2, x1:x2], (WIDTH, HEIGHT), dst=crop, interpolation=getattr(cv2, f"INTER_{filter_name}"))
    return crops


def candidates(frame: Frame, boxes: NDArray[np.int64], threads: int) -> Iterator[tuple[str, Callable[[], Crops]]]:
    yield "Pillow", partial(reference.resize_boxes, frame, boxes, HEIGHT, WIDTH)
    if importlib.util.find_spec("cv2"):
        for name in ("LINEAR", "CUBIC", "AREA"):
            yield f"OpenCV {name.lower()}, {threads} threads", partial(opencv, frame, boxes, name)
    for isa in compiled.instruction_sets()[:2]:  # wider ones have the loops of AVX2
        for count in sorted({1, threads}):
            call = partial(compiled.resize_boxes, frame, boxes, HEIGHT, WIDTH, threads=count, isa=isa)
            yield f"ours: {isa}, {count} thread{'s' * (count > 1)}", call
    if gpu_device.why_not() is None:
        device = gpu_device.device()
        there = Frame(frame.format, tuple(gpu_arrays.put(device, plane, np.uint8) for plane in frame.planes))
        yield "ours: gpu", partial(gpu_crops.resize_boxes, there, boxes, HEIGHT, WIDTH)


def measure(calls: dict[str, Callable[[], Crops]], repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds, after a first call that is held against Pillow's."""
    expected = calls["Pillow"]().astype(int)
    rows = {name: {"max_difference": int(np.abs(gpu_arrays.to_host(call()) - expected).max())} for name, call in calls.items()}
    times = in_turns(calls, repeats, seconds)
    return {name: {"ms": 1e3 * statistics.median(times[name]), **row} for name, row in rows.items()}


def check(count: int, rng: np.random.Generator) -> int:
    """How many of `count` random boxes, sizes, strides and layouts differ from Pillow."""
    differing = 0
    for number in range(count):
        height, width = (2 * int(n) for n in rng.integers(1, 200, 2))
        rgb = rng.integers(0, 256, (height, width + int(rng.integers(0, 9)), 3), dtype=np.uint8)[:, :width]
        format = FORMATS[number % len(FORMATS)]
        frame = as_frame(rgb, format) if format in ("rgb", "bgr") else frame_of(format, rgb)
        x1, y1 = rng.integers(0, width), rng.integers(0, height)
        box = np.array([[x1, y1, rng.integers(x1 + 1, width + 1), rng.integers(y1 + 1, height + 1)]])
        size = [int(n) for n in rng.integers(1, 300, 2)]
        ours = compiled.resize_boxes(frame, box, *size, isa=compiled.instruction_sets()[number // 4 % 2 - 1])
        differing += not np.array_equal(ours, reference.resize_boxes(frame, box, *size))
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--check", type=int, default=0, help="random boxes to hold against Pillow")
    parser.add_argument("--gpu", action="store_true", help="measure nothing where CuPy sees no GPU; preprocess_gpu.json")
    add_out(parser)
    arguments = parser.parse_args()
    if arguments.gpu and (problem := gpu_device.why_not()) is not None:
        nothing_measured(problem)
    facts, rng = environment("pillow", "opencv-python-headless"), np.random.default_rng(0)
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(arguments.threads)
    sizes = {"height": 1080, "width": 1920, "boxes": arguments.boxes, "repeats": arguments.repeats}
    rgb = picture(rng, sizes["height"], sizes["width"])
    boxes = people(rng, arguments.boxes, sizes["height"], sizes["width"])
    results = {}
    for format in FORMATS:
        results[format] = measure(dict(candidates(frame_of(format, rgb), boxes, arguments.threads)), arguments.repeats)
        for name, row in results[format].items():
            print(f"{format:5} {name:26} {row['ms']:8.2f} ms, differs by up to {row['max_difference']}")
    report: dict[str, Any] = {"benchmark": "preprocess", "environment": facts, "sizes": sizes, "results": results}
    if arguments.check:
        report["check"] = {"boxes": arguments.check, "differing": check(arguments.check, rng)}
        print(f"{report['check']['differing']} of {arguments.check} random boxes differ from Pillow")
    write_result(arguments.out, "preprocess_gpu" if arguments.gpu else "preprocess", report)
    ours = ((name, row) for rows in results.values() for name, row in rows.items() if name.startswith("ours"))
    if wrong := sorted({name for name, row in ours if row["max_difference"]}):
        raise SystemExit(f"not the bytes of Pillow: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
