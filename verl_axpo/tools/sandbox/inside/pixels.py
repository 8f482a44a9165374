"""A picture's pixels as a reader sees them: RGB of 8 bit, what is transparent on white. The same code on both sides.

Pillow's own conversion to RGB drops transparency, so that black lines on nothing become all black, and cuts 16-bit
levels off at 255, so that nearly every grey becomes white.
"""

from typing import Any

GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
MOST_LEVEL = 255  # of 8 bit


def to_rgb(image: Any) -> Any:
    """The image itself if it is opaque RGB, else a converted copy.

    Raises:
        ValueError: levels without a known white (`F`, `I` outside 0 to 255), or a mode that Pillow cannot convert.
    """
    from PIL import Image

    if image.mode in GREY_16:
        image = _eight_bit(image)
    elif image.mode in ("I", "F"):
        _check_levels(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer.getchannel("A"))
    return white


def shrunk(image: Any, most_pixels: int) -> Any:
    """The image itself, or a copy of about `most_pixels` pixels in the same shape if it has more."""
    pixels = image.width * image.height
    if pixels <= most_pixels:
        return image
    scale = (most_pixels / pixels) ** 0.5
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))


def _eight_bit(image: Any) -> Any:
    """The high byte of each level, as Pillow takes it of 16-bit colours; a transparent level becomes an alpha channel.

    uint16 (height, width) -> `L` or `LA`.
    """
    import numpy as np
    from PIL import Image

    levels = np.asarray(image)
    grey = Image.fromarray((levels >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = Image.fromarray(np.where(levels == transparent, 0, MOST_LEVEL).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _check_levels(image: Any) -> None:
    low, high = image.getextrema()
    if image.mode == "F" or low < 0 or high > MOST_LEVEL:
        raise ValueError(
            f"mode {image.mode} with levels from {low:g} to {high:g}, of which none is known to be white: scale them "
            "to 0 to 255 and convert to uint8"
        )
