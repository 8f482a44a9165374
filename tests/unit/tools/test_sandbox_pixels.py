"""Pictures out of the sandbox and into it: the pixels that everybody else sees."""

from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from verl_axpo.images import open_image
from verl_axpo.tools.sandbox import SandboxPool, Session

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def session(pool: SandboxPool) -> AsyncIterator[Session]:
    made = Session(pool)
    yield made
    await made.close()


RAMP = "import numpy as np\nfrom PIL import Image\nlevels = np.tile(np.linspace(0, 65535, 64).astype({}), (8, 1))\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (RAMP.format("np.uint16") + "Image.fromarray(levels)", [0, 130, 255]),
        (RAMP.format("'>u2'") + "Image.fromarray(levels)", [0, 130, 255]),
        (RAMP.format("np.uint16") + "Image.fromarray((levels > 30000))", [0, 255, 255]),
        (RAMP.format("np.uint16") + "Image.fromarray((levels >> 8).astype(np.int32))", [0, 130, 255]),
        ("from PIL import Image; Image.new('RGBA', (64, 8))", [255, 255, 255]),
        ("from PIL import Image; Image.new('LA', (64, 8))", [255, 255, 255]),
    ],
    ids=["uint16", "big endian", "bool", "wide", "transparent", "transparent grey"],
)
async def test_an_array_comes_back_with_the_levels_that_it_has(
    session: Session, code: str, expected: list[int]
) -> None:
    (image,) = (await session.run(code)).images
    seen = [image.getpixel((place, 0))[0] for place in (0, 32, 63)]  # 32 / 63 of 255 is 130
    assert np.abs(np.array(seen) - expected).max() <= 2


@pytest.mark.parametrize("code", [RAMP.format("np.int32"), RAMP.format("np.float32")], ids=["int32", "float32"])
async def test_levels_without_a_known_white_are_told_to_the_policy(session: Session, code: str) -> None:
    result = await session.run(code + "Image.fromarray(levels)")
    assert (result.status, result.images) == ("ok", ())
    assert "64 x 8 pixels left out: mode" in result.text
    assert "scale them to 0 to 255" in result.text


async def test_what_goes_in_is_what_everybody_sees(session: Session) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 4, 8))
    result = await session.run("_pil_images[0].mode, _pil_images[0].tobytes().hex()", images=[clear])
    assert open_image(clear).tobytes().hex() in str(result.value)
