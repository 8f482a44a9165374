"""Field types that several sources share."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _one_as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class Message(BaseModel):
    """A turn of a prompt."""

    role: str
    content: str = Field(min_length=1)


class Picture(BaseModel):
    """An encoded image as `datasets` stores it; the `path` beside the bytes is only a name."""

    data: bytes = Field(validation_alias="bytes", min_length=1)


Text = Annotated[str, Field(min_length=1)]
Identifier = Annotated[str, BeforeValidator(_number_as_text), Field(min_length=1)]  # a text, or a number taken as one
Pictures = Annotated[list[Picture], BeforeValidator(_one_as_list)]  # a list, or one that stands alone
