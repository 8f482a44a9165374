"""Which weights a local checkpoint holds, in a short name: one that was trained on must not pass for the old one.

folder of *.safetensors or *.bin -> sizes and samples of each file -> 16 hex digits
"""

import hashlib
from pathlib import Path

SAMPLES, SAMPLE_BYTES = 64, 1 << 16  # of a file: 4 MB say as much as all of its 5 GB, and take no minute to read


def weights_hash(model: str | Path) -> str | None:
    """The fingerprint of a local checkpoint's weights; None for anything else, a hub id or a server's own name.

    A file of at most 4 MB counts whole, a larger one by 64 stretches of 64 KiB, evenly spread.
    """
    files = sorted(path for kind in ("*.safetensors", "*.bin") for path in Path(model).glob(kind))
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        _sample(path, digest)
    return digest.hexdigest()[:16]


def _sample(path: Path, digest: "hashlib._Hash") -> None:
    stride = max(SAMPLE_BYTES, path.stat().st_size // SAMPLES)
    with path.open("rb") as file:
        for at in range(0, path.stat().st_size, stride):
            file.seek(at)
            digest.update(file.read(SAMPLE_BYTES))
