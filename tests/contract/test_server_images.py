"""What vLLM's server decodes from the data URL that the evaluation sends."""

import io

import pytest
from PIL import Image
from vllm.multimodal.media.image import ImageMediaIO

from verl_axpo.agent.conversation import image_part
from verl_axpo.images import open_image


def files() -> dict[str, bytes]:
    """Pictures that decoders show in different ways."""
    photograph, exif = Image.new("RGB", (64, 32), "white"), Image.Exif()
    photograph.paste("red", (0, 0, 16, 16))
    exif[0x112] = 6
    drawing = Image.new("RGBA", (64, 32), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (0, 0, 32, 16))
    pictures = {
        "photograph": (photograph, "JPEG", {}),
        "turned": (photograph, "JPEG", {"exif": exif}),
        "transparent": (drawing, "PNG", {}),
        "transparent grey": (drawing.convert("LA"), "PNG", {}),
        "transparent palette": (drawing.quantize(4, Image.Quantize.FASTOCTREE), "PNG", {}),
        "16 bit": (Image.new("I;16", (64, 32), 40_000), "PNG", {}),
        "for print": (photograph.convert("CMYK"), "JPEG", {}),
        "GIF": (photograph, "GIF", {}),
    }
    made = {}
    for name, (image, kind, options) in pictures.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    return made


@pytest.mark.parametrize("name", files())
def test_the_server_decodes_what_the_tools_see(name: str) -> None:
    data = files()[name]
    head, _, text = image_part(data)["image_url"]["url"].partition(",")
    decoded = ImageMediaIO().load_base64(head.removeprefix("data:").removesuffix(";base64"), text).media
    assert decoded.tobytes() == open_image(data).tobytes()
