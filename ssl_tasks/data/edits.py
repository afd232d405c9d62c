"""Edits: what people and programs do to a picture before it comes back as a copy.

`CALIBRATION` holds the edits on which a threshold is calibrated, `HELD_OUT` others, of other kinds, on which descriptors are
judged: what is tuned on the first is measured on the second. How strong an edit is follows from the generator alone.
"""

import io
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]
"""Of a picture in mode `L` or `RGB` it makes another in the same mode, of any size; the picture itself is left as it is."""

WORDS = ("LIMITED OFFER", "follow for more", "when you see it", "BREAKING NEWS", "(c) all rights reserved", "monday mood")


def copy(image: Image.Image, name: str, seed: int, image_id: int) -> Image.Image:
    """The picture after the edit of this name: the same for the same seed and id, whatever other copies are made.

    Raises:
        KeyError: where there is no such edit.
    """
    return EDITS[name](image, np.random.default_rng((seed, image_id, zlib.crc32(name.encode()))))


def jpeg(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Stored as JPEG of quality 20 to 80."""
    return _stored(image, "JPEG", int(random.integers(20, 81)))


def resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Half to twice as large."""
    times = 2 ** random.uniform(-1, 1)
    return _to(image, image.width * times, image.height * times)


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Cut to 60 to 95% of its area, of the same shape, anywhere."""
    share = np.sqrt(random.uniform(0.6, 0.95))
    return _cut(image, share, share, random)


def flipped(image: Image.Image, _random: np.random.Generator) -> Image.Image:
    """Left becomes right."""
    return ImageOps.mirror(image)


def rotated(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Turned by 2 to 10 degrees about its middle; the corners become black."""
    return image.rotate(_either(random, 2, 10), Image.Resampling.BICUBIC)


def lit(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation times 0.6 to 1.5."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(random.uniform(0.6, 1.5))
    return image


def grey(image: Image.Image, _random: np.random.Generator) -> Image.Image:
    """Without its colours."""
    return image.convert("L").convert(image.mode)


def bordered(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """In a frame of one grey, 3 to 10% of its shorter side wide."""
    width = max(1, round(min(image.size) * random.uniform(0.03, 0.1)))
    return ImageOps.expand(image, width, _shade(image, int(random.integers(256))))


def blurred(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Out of focus: a Gaussian of 1 to 3% of its shorter side."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) * random.uniform(0.01, 0.03)))


def noisy(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """With Gaussian noise of 5 to 20 grey levels."""
    pixels = np.asarray(image, np.float64)
    return Image.fromarray(np.clip(np.rint(pixels + random.normal(0, random.uniform(5, 20), pixels.shape)), 0, 255).astype(np.uint8))


def toned(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Another gamma in each channel, 0.6 to 1.7."""
    curve = 255 * np.linspace(0, 1, 256)[:, None] ** (1.7 ** random.uniform(-1, 1, len(image.getbands())))
    return image.point(np.rint(curve).astype(int).ravel(order="F").tolist())


def webp(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Stored as WebP of quality 10 to 50."""
    return _stored(image, "WEBP", int(random.integers(10, 51)))


def squeezed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Made 10 to 30% narrower, or lower."""
    share, narrower = 1 - random.uniform(0.1, 0.3), random.random() < 0.5
    return _to(image, image.width * (share if narrower else 1), image.height * (1 if narrower else share))


def letterboxed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Between two black bars, 10 to 25% of its height each, or of its width."""
    share = random.uniform(0.1, 0.25)
    bars = (0, round(image.height * share)) if random.random() < 0.5 else (round(image.width * share), 0)
    return ImageOps.expand(image, bars, _shade(image, 0))


def captioned(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """With words over it, white on a dark band."""
    made = image.copy()
    draw, height = ImageDraw.Draw(made), max(4, round(image.height * random.uniform(0.12, 0.2)))
    top = int(random.integers(image.height - height + 1)) if image.height > height else 0
    draw.rectangle((0, top, image.width, top + height), fill=_shade(image, 24))
    font = ImageFont.load_default(max(4, round(height * 0.7)))
    draw.text((image.width / 2, top + height / 2), WORDS[random.integers(len(WORDS))], _shade(image, 255), font, anchor="mm")
    return made


def stickered(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """With one to three discs of one colour over it, each a tenth to a quarter of its shorter side wide."""
    made = image.copy()
    draw = ImageDraw.Draw(made)
    for _ in range(random.integers(1, 4)):
        radius = min(image.size) * random.uniform(0.05, 0.125)
        x, y = random.uniform(0, image.width), random.uniform(0, image.height)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_shade(image, *(int(v) for v in random.integers(0, 256, 3))))
    return made


def zoomed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Cut to 25 to 60% of its area, of another shape."""
    area, shape = random.uniform(0.25, 0.6), 1.25 ** random.uniform(-1, 1)
    return _cut(image, np.sqrt(area * shape), np.sqrt(area / shape), random)


def reposted(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """As a screenshot shows it: on a larger page of one grey, under a caption, stored as WebP."""
    made = captioned(image, random)
    page = Image.new(image.mode, (round(image.width * random.uniform(1.1, 1.5)), round(image.height * random.uniform(1.1, 1.5))), _shade(image, 240))
    left, top = (int(random.integers(room - side + 1)) for room, side in zip(page.size, made.size, strict=True))
    page.paste(made, (left, top))
    return webp(page, random)


def moved(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Shifted by 5 to 15% of each side; what leaves on one side comes in on the other."""
    return ImageChops.offset(image, *(round(side * _either(random, 0.05, 0.15)) for side in image.size))


CALIBRATION: Mapping[str, Edit] = {
    "jpeg": jpeg, "resized": resized, "cropped": cropped, "flipped": flipped, "rotated": rotated, "lit": lit, "grey": grey, "bordered": bordered,
}  # fmt: skip
HELD_OUT: Mapping[str, Edit] = {
    "webp": webp, "blurred": blurred, "noisy": noisy, "toned": toned, "squeezed": squeezed, "letterboxed": letterboxed,
    "captioned": captioned, "stickered": stickered, "zoomed": zoomed, "moved": moved, "reposted": reposted,
}  # fmt: skip
EDITS: Mapping[str, Edit] = {**CALIBRATION, **HELD_OUT}


def _stored(image: Image.Image, kind: str, quality: int) -> Image.Image:
    """What comes back of a file of this format."""
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return Image.open(file).convert(image.mode)


def _to(image: Image.Image, width: float, height: float) -> Image.Image:
    return image.resize((max(1, round(width)), max(1, round(height))), Image.Resampling.BICUBIC)


def _cut(image: Image.Image, wide: float, high: float, random: np.random.Generator) -> Image.Image:
    """A rectangle of these shares of its width and height, at most all of it, anywhere in the picture."""
    size = [max(1, round(side * min(1, share))) for side, share in zip(image.size, (wide, high), strict=True)]
    left, top = (int(random.integers(side - cut + 1)) for side, cut in zip(image.size, size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))


def _either(random: np.random.Generator, low: float, high: float) -> float:
    """A number from `low` to `high`, or the negative of one."""
    return float(random.uniform(low, high) * (1 if random.random() < 0.5 else -1))


def _shade(image: Image.Image, *values: int) -> int | tuple[int, ...]:
    """A grey, or a colour of three values, as the picture's mode writes it."""
    if image.mode == "L":
        return values[0]
    return values if len(values) == 3 else values[:1] * 3
