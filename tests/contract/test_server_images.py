"""Pictures in vLLM's server: what it decodes from the data URL that the evaluation sends, and what it keeps."""

import io

import pytest
from PIL import Image
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer
from vllm.config import MultiModalConfig
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


def test_the_rollout_server_processes_a_picture_once() -> None:
    """vLLM keeps what its processor made of a picture; verl turns that off for older versions. With it, neither further
    turns of a rollout nor the K continuations of a prefix have the question's images processed again."""
    settings: dict[str, object] = {}
    server = vLLMHttpServer.__new__(vLLMHttpServer)
    server.config = None
    server._preprocess_engine_kwargs(settings)
    assert "mm_processor_cache_gb" not in settings
    assert MultiModalConfig().mm_processor_cache_gb > 0
