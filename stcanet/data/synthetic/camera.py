"""A camera: where it hangs, what it looks at, and what it does to light."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from stcanet.data.synthetic.backdrop import paint_backdrop
from stcanet.data.synthetic.seeding import Stream, generator
from stcanet.data.synthetic.viewpoint import Viewpoint

# Exposure, red and blue gain, gamma: neighbouring cameras differ on purpose, so that colours do not carry over.
_LIGHTS = (
    (1.05, 1.02, 0.98, 1.0),
    (0.72, 1.14, 0.80, 1.1),
    (1.22, 0.90, 1.14, 0.85),
    (0.60, 0.94, 1.16, 0.95),
    (0.95, 1.10, 0.92, 1.3),
    (1.10, 0.96, 0.88, 0.8),
)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Camera:
    """One camera of the network."""

    backdrop: Image.Image
    yaw: float
    """Radians: which way most people walk here, 0 towards the camera."""
    elevation: float
    taper: float
    tilt: float
    fill: float
    """Share of the image height that a person takes."""
    exposure: float
    red: float
    blue: float
    gamma: float
    contrast: float
    saturation: float
    blur: float
    """Standard deviation in pixels of an image 128 high."""
    noise: float
    """Standard deviation in grey levels."""
    quality: int
    """JPEG quality."""
    occlusion: float
    """Probability that something stands in front of the person."""

    def viewpoint(self, yaw: float, height: int, width: int, rng: np.random.Generator, sloppiness: float = 1.0) -> Viewpoint:
        """A view of a person in a detector's box; ``sloppiness`` scales how far the box is off."""
        spread = 0.025 * sloppiness
        return Viewpoint(
            yaw=yaw,
            elevation=self.elevation,
            scale=height * self.fill * rng.uniform(1 - 2 * spread, 1 + 2 * spread) / math.cos(self.elevation),
            stretch=rng.uniform(0.9, 1.12),
            taper=self.taper,
            tilt=self.tilt + rng.normal(0, 0.015),
            centre=(width / 2 + rng.normal(0, spread * height), height / 2 + rng.normal(0, spread * height)),
        )

    def expose(self, scene: Image.Image, rng: np.random.Generator) -> Image.Image:
        """What the sensor makes of a scene: light, colour, blur, noise."""
        blur = self.blur * scene.height / 128 * rng.uniform(0.6, 1.4)
        if blur > 0.25:
            scene = scene.filter(ImageFilter.GaussianBlur(blur))
        exposed = np.asarray(scene.point(self._response(rng)), np.float32)
        grey = (exposed @ _LUMA)[..., None]
        pixels = grey + (exposed - grey) * np.float32(self.saturation)
        pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * (self.noise * rng.uniform(0.7, 1.3))
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    def encode(self, image: Image.Image) -> bytes:
        """The image as a JPEG of this camera's quality."""
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=self.quality)
        return buffer.getvalue()

    def _response(self, rng: np.random.Generator) -> list[int]:
        """Three tables of 256 values: exposure and white balance, gamma, then contrast around mid-grey."""
        exposure = self.exposure * rng.uniform(0.86, 1.16)
        gains = np.array([self.red, 1.0, self.blue]) * rng.uniform(0.97, 1.03, 3) * exposure
        light: NDArray[np.float64] = np.clip(np.arange(256)[None, :] / 255 * gains[:, None], 0, None) ** self.gamma
        levels = (light - 0.45) * self.contrast + 0.45
        return np.clip(np.rint(levels * 255), 0, 255).astype(int).ravel().tolist()


@lru_cache(maxsize=64)
def camera(seed: int, number: int, height: int) -> Camera:
    """The camera with a number, 0 or more; ``height`` is that of its images."""
    rng = generator(seed, Stream.CAMERA, number)
    exposure, red, blue, gamma = _LIGHTS[number % len(_LIGHTS)]
    if number >= len(_LIGHTS):  # a repeated preset gets a touch of its own
        exposure, red, blue = np.multiply((exposure, red, blue), rng.uniform(0.92, 1.08, 3)).tolist()
    elevation = rng.uniform(0.02, 0.3)
    return Camera(
        backdrop=paint_backdrop(number, rng, height),
        yaw=number * math.radians(75) + rng.uniform(-0.2, 0.2),
        elevation=elevation,
        taper=elevation * rng.uniform(0.6, 1.0),
        tilt=rng.uniform(-0.05, 0.05),
        fill=rng.uniform(0.82, 0.92),
        exposure=exposure,
        red=red,
        blue=blue,
        gamma=gamma,
        contrast=rng.uniform(0.8, 1.2),
        saturation=rng.uniform(0.65, 1.05),
        blur=rng.uniform(0.2, 0.8),
        noise=rng.uniform(2, 7),
        quality=int(rng.integers(55, 93)),
        occlusion=rng.uniform(0.08, 0.3),
    )
