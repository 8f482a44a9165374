"""How a picture is opened and hashed."""

VERSION = 2  # raise when results change
