"""Breast segmentation: find the breast in a picture, crop, orient and scale it to bytes.

Scanned films have bright labels, tape and borders around the breast, a film base that is not black,
and black padding around the film; digital mammograms have none of these. One rule serves both.

Glare is what is brighter than any tissue: without a window in the header, a lead marker, a label, a
tape or a frame can be ten times as bright, and would be the bright class of every threshold.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mama.data.dicom.shrink import fit, resize

SEARCH_SIDE = 256  # pixels; long side of the copy in which the breast is searched
LEVELS = 1023  # levels of the histogram
BLACK = 0.01  # display values this close to the darkest are padding, not film
FLAT = 0.006  # gradient per pixel below which film counts as unexposed
SKIN = 0.3  # position of the skin line between film base (0) and the darkest tissue (1)
NECK = 7  # pixels; a part attached by less than twice this width is not breast
TIP = 3  # pixels; an attached part no longer than this is breast nevertheless
LIT = 0.015  # of the range; what is darker is background
BRIGHTER = 1.5  # times the usual brightest tissue; what is brighter is glare
USUAL = 95  # percentile of lit pixels that stands for the brightest tissue
PEAK = 0.9  # of the range; glare is flat, so all its pixels are this bright
HALO = 3  # pixels; the blurred edge of glare
GAP = 1.45  # times the brightest remaining pixels; brighter glare has nothing in between
LAYERS = 4  # of glare, each brighter than the next
OBJECT = 0.4  # share of a region; if more of it is glare, it is the tissue that is bright
SMALLEST = 0.02  # share of the picture; a smaller region is not a breast
SCALED = (0.5, 99.5)  # percentiles of tissue that map to 1 and 255


@dataclass(frozen=True)
class Breast:
    """A cropped breast with the chest wall on the left.

    Attributes:
        pixels: uint8 (height, width); 0 = background, 1-255 = tissue.
        found: False if no tissue was detected and the whole picture was used.
        box: the crop in pixels of the picture: top, left, bottom, right.
        mirrored: True if the chest wall was on the right.
    """

    pixels: np.ndarray
    found: bool
    box: tuple[int, int, int, int]
    mirrored: bool


def prepare(pixels: np.ndarray, long_side: int, table: np.ndarray | None = None) -> Breast:
    """Crop the breast out of a picture.

    Args:
        pixels: (height, width), display values in [0, 1] or, with a table, levels.
        long_side: longest side of the result in pixels; the aspect ratio is kept.
        table: float32, the display value of each level.
    """
    mask = breast_mask(resize(pixels, fit(pixels.shape, SEARCH_SIDE), table))
    found = bool(mask.any())
    if not found:
        mask = np.ones_like(mask)
    rows, columns = _extent(mask, 0), _extent(mask, 1)
    tall, wide = _enlarged(rows, mask, pixels, 0), _enlarged(columns, mask, pixels, 1)
    crop = pixels[tall, wide]
    mask = mask[rows, columns]

    size = fit(crop.shape, long_side)
    picture = resize(crop, size, table)
    tissue = resize(mask.astype(np.float32), size) > 0.5
    mirrored = _chest_wall_right(mask)
    if mirrored:
        picture, tissue = picture[:, ::-1], tissue[:, ::-1]
    box = (tall.start, wide.start, tall.stop, wide.stop)
    return Breast(_to_bytes(picture, tissue), found, box, mirrored)


def breast_mask(pixels: np.ndarray) -> np.ndarray:
    """Return the largest bright region that is no glare, without narrowly attached parts.

    Args:
        pixels: float32 (height, width) in [0, 1], about `SEARCH_SIDE` pixels long.

    Returns:
        bool (height, width), all false if nothing is bright enough.
    """
    smooth = ndimage.gaussian_filter(pixels, 1)
    darker = _below_gap(smooth)
    if darker is not None:
        rest, glare = darker
        breast = _largest(_capped(rest))
        if (breast & glare).sum() < OBJECT * breast.sum():
            return breast
    return _largest(_capped(smooth))


def _largest(smooth: np.ndarray) -> np.ndarray:
    nothing = np.zeros(smooth.shape, bool)
    if smooth.max() - smooth.min() <= BLACK or min(smooth.shape) == 1:
        return nothing
    bright = smooth > _skin_level(smooth)
    regions, count = ndimage.label(ndimage.minimum_filter(bright, 2 * NECK + 1, mode="constant"))
    if not count:
        return nothing
    largest = np.bincount(regions.ravel())[1:].argmax() + 1
    # Dilate by more than was eroded, within the bright area, to restore corners and the nipple.
    grown = ndimage.maximum_filter(regions == largest, 2 * (NECK + TIP) + 1)
    breast = _without_lines(ndimage.binary_fill_holes(grown & bright))
    return breast if breast.mean() >= SMALLEST else nothing


def _capped(smooth: np.ndarray) -> np.ndarray:
    """Return the picture with rare values far above the rest capped, rescaled to [0, 1]."""
    darkest = smooth.min()
    lit = smooth[smooth > darkest + LIT * (smooth.max() - darkest)]
    if not lit.size:
        return smooth
    cap = darkest + BRIGHTER * (np.percentile(lit, USUAL) - darkest)
    if smooth.max() <= cap:
        return smooth
    return np.asarray((np.minimum(smooth, cap) - darkest) / (cap - darkest))


def _below_gap(smooth: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the picture as if it had no glare, however large; None if the values have no gap.

    The values of tissue are continuous. Glare is flat: between it and the rest lie only the pixels
    of its edges. Background seen next to a saturated breast looks the same, so the caller decides.

    Returns:
        The picture below the gap, rescaled to [0, 1], and a bool mask of what is above it.
    """
    above = smooth - smooth.min()
    highest = top = float(above.max())
    for _ in range(LAYERS):
        edges = ndimage.maximum_filter(above > PEAK * top, 2 * HALO + 1)
        rest = above[(above > LIT * top) & ~edges]
        if rest.size < SMALLEST * above.size:
            break
        brightest = float(np.percentile(rest, 99))
        if GAP * brightest >= top:
            break
        top = brightest
        above = np.minimum(above, top)
    if top == highest:
        return None
    return above / top, smooth - smooth.min() > (1 + GAP) / 2 * top


def _without_lines(mask: np.ndarray) -> np.ndarray:
    """Drop rows and columns with only a few pixels: scratches along the edges of a film."""
    mask = mask & (mask.sum(0, keepdims=True) > NECK)
    return mask & (mask.sum(1, keepdims=True) > NECK)


def _skin_level(smooth: np.ndarray) -> float:
    """Return the threshold between background and skin.

    Otsu's threshold separates bright tissue from the dark part; a second one separates the dark
    part into film base and faint tissue. Digital mammograms have no film: their background is the
    padding.
    """
    darkest, bright = smooth.min(), otsu(smooth.ravel())
    dark = (smooth > darkest + BLACK) & (smooth < bright)
    faint = otsu(smooth[dark]) if dark.mean() > SMALLEST else bright
    film = smooth[dark & (smooth < faint) & (np.hypot(*np.gradient(smooth)) < FLAT)]
    base = np.median(film) if film.size > SMALLEST * smooth.size else darkest
    return float(base + SKIN * (faint - base))


def otsu(values: np.ndarray) -> float:
    """Return the threshold that best separates two classes (Otsu, IEEE Trans. SMC 9, 1979).

    Args:
        values: float (n,) in [0, 1].
    """
    counts = np.bincount((values * LEVELS).astype(np.int32), minlength=2)
    levels = np.arange(len(counts))
    below = np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * levels)
    above = below[-1] + counts[-1] - below
    with np.errstate(invalid="ignore"):
        between = (sums[-1] * below / (below + above) - sums[:-1]) ** 2 / (below * above)
    return float(levels[np.nan_to_num(between).argmax()] + 1) / LEVELS


def _chest_wall_right(mask: np.ndarray) -> bool:
    """Return whether the right edge has more tissue than the left."""
    edge = max(1, mask.shape[1] // 20)
    return bool(mask[:, -edge:].sum() > mask[:, :edge].sum())


def _to_bytes(pixels: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pixels[tissue], SCALED)
    scaled = np.clip((pixels - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    return np.where(tissue, np.round(1 + 254 * scaled), 0).astype(np.uint8)


def _extent(mask: np.ndarray, axis: int) -> slice:
    places = np.flatnonzero(mask.any(axis=1 - axis))
    return slice(int(places[0]), int(places[-1]) + 1)


def _enlarged(part: slice, mask: np.ndarray, pixels: np.ndarray, axis: int) -> slice:
    """Return the slice of the full picture that covers a slice of the mask."""
    scale = pixels.shape[axis] / mask.shape[axis]
    return slice(int(part.start * scale), int(np.ceil(part.stop * scale)))
