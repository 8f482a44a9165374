"""Programs that want more memory, disk or descriptors than there is for them."""

from tests.unit.tools.attacks.corpus import Attack

FULL = {"ends": ("error",), "says": "MemoryError"}

MEMORY = {
    "memory bomb": Attack(code="x = []\nwhile True: x.append(bytearray(2**20))", **FULL),
    "one huge block": Attack(code="bytes(10**12)", **FULL),
    "numpy": Attack(code="import numpy as np; np.ones(10**11)", ends=("error",), says="MemoryError"),
    "a growing string": Attack(code="s = 'ab'\nwhile True: s += s", **FULL),
    "endless generator": Attack(
        code="import itertools; list(itertools.count())", ends=("error", "timeout"), timeout_s=4
    ),
    "shared mapping": Attack(
        code="""
import mmap
maps = []
def grow():
    while True:
        maps.append(mmap.mmap(-1, 2**26))
        maps[-1].write(bytes(2**26))
must_fail("mmap", grow)
maps.clear()
"""
    ),
    "memory in no process": Attack(
        code="""
must_fail("memfd", os.memfd_create, "x")
syscall_must_fail("memfd_secret", 447, 0)
if libc.shmget(0, 2**26, 0o1600) >= 0:
    print("ESCAPED shmget")
if libc.msgget(0, 0o1600) >= 0 or libc.semget(0, 1, 0o1600) >= 0:
    print("ESCAPED SysV")
"""
    ),
    "locked memory": Attack(
        code="""
import mmap
region = mmap.mmap(-1, 2**20)
if libc.mlockall(3) == 0:
    print("ESCAPED mlockall")
"""
    ),
    "raising its limits": Attack(
        code="""
import resource
for name in ("AS", "CPU", "FSIZE", "NOFILE", "CORE"):
    kind = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(kind)[1]
    must_fail(name, resource.setrlimit, kind, (hard + 1, hard + 1))
    must_fail(name, resource.setrlimit, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
    ),
    "full disk": Attack(
        code="""
written = 0
try:
    for number in range(64):
        with open(f"file{number}", "wb") as file:
            written += file.write(bytes(2**20))
except OSError:
    pass
print("wrote", written)
if written > 2**25 and os.getpid() == 1:
    print("ESCAPED the size of the scratch space")
"""
    ),
    "large file": Attack(
        code="""
with open("large", "wb") as file:
    for _ in range(64):
        file.write(bytes(2**20))
""",
        ends=("error",),
        says="OSError",
    ),
    "sparse file": Attack(code="open('sparse', 'wb').truncate(2**40)", ends=("error",), says="OSError"),
    "many files": Attack(code="for number in range(4200): open(str(number), 'w').close()", ends=("ok", "error")),
    "deep folders": Attack(
        code="""
for _ in range(1200):
    os.mkdir("d")
    os.chdir("d")
""",
        ends=("ok", "error"),
    ),
    "descriptor exhaustion": Attack(
        code="files = []\nwhile True: files.append(open('/dev/null'))", ends=("error",), says="OSError"
    ),
    "pipes full of data": Attack(
        code="""
pipes = []
def grow():
    while True:
        pipes.append(os.pipe())
        os.set_blocking(pipes[-1][1], False)
        os.write(pipes[-1][1], bytes(2**16))
must_fail("pipes", grow)
for reader, writer in pipes:
    os.close(reader), os.close(writer)
"""
    ),
    "decompression bomb": Attack(
        code="""
import gzip
data = gzip.compress(bytes(2**24), 1) * 64
must_fail("a gigabyte from megabytes", gzip.decompress, data)
"""
    ),
    "picture bomb": Attack(
        code="""
import io, struct, zlib
from PIL import Image
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
data = zlib.compress(bytes(1000))
png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
Image.MAX_IMAGE_PIXELS = None
must_fail("decoding", lambda: Image.open(io.BytesIO(png)).load())
"""
    ),
    "processor time": Attack(
        code="""
import resource, signal
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
while True: pass
""",
        ends=("died",),
        says="processor time",
    ),
}
