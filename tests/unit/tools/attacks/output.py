"""Programs that print, show or return too much, or values of the wrong kind."""

from tests.unit.tools.attacks.corpus import Attack

OUTPUT = {
    "giant output": Attack(
        code="for _ in range(10_000): print('x' * 10_000)", ends=("ok", "error"), says="bytes left out"
    ),
    "giant output past Python": Attack(
        code="""
try:
    while True:
        os.write(2, b"y" * 65536)
except OSError:
    pass
""",
        says="bytes left out",
    ),
    "giant value": Attack(code="'z' * 10**7", says="bytes left out"),
    "giant exception": Attack(code="raise ValueError('w' * 10**7)", ends=("error",), says="bytes left out"),
    "output of escapes": Attack(code="print('\\0\\x01\\x1b[2J' * 100_000)", says="bytes left out"),
    "not UTF-8": Attack(code="os.write(1, bytes(range(128, 256)) * 1000)"),
    "half a character": Attack(code="print('\\ud800 \\udfff'); '\\ud800'"),
    "printing until stopped": Attack(code="while True: print('x' * 100)", ends=("timeout", "error"), timeout_s=1.0),
    "endless repr": Attack(
        code="class X:\n    def __repr__(self):\n        while True: pass\nX()", ends=("timeout",), timeout_s=1.0
    ),
    "repr that raises": Attack(
        code="class X:\n    def __repr__(self): raise SystemExit('no')\nX()", ends=("error",), says="SystemExit"
    ),
    "exception that cannot be shown": Attack(
        code="class X(Exception):\n    def __str__(self): raise ValueError\n    __repr__ = __str__\nraise X",
        ends=("error", "died"),
    ),
    "giant image": Attack(
        code="from PIL import Image; Image.new('RGB', (50_000, 50_000))", ends=("error",), says="MemoryError"
    ),
    "large image": Attack(code="from PIL import Image; Image.new('RGB', (6000, 6000))", says="is shown at"),
    "image like a thread": Attack(code="from PIL import Image; Image.new('L', (60_000, 2))", says="too elongated"),
    "empty image": Attack(code="from PIL import Image; Image.new('RGB', (0, 5))", says="left out"),
    "many images": Attack(
        code="from PIL import Image\nfor _ in range(500): Image.new('RGB', (64, 64)).show()", says="only the first"
    ),
    "giant figure": Attack(
        code="import matplotlib.pyplot as plt; plt.figure(figsize=(5000, 5000)); plt.show()", ends=("error", "died")
    ),
    "many figures": Attack(
        code="import matplotlib.pyplot as plt\nfor _ in range(30): plt.figure(figsize=(1, 1))", says="only the first"
    ),
    "an image that lies": Attack(
        code="""
from PIL import Image
class Liar(Image.Image):
    size = property(lambda self: (8, 8))
    width = height = property(lambda self: 8)
    def convert(self, *a, **k): return self
    def tobytes(self, *a, **k): return b"x" * 10
    has_transparency_data = False
Liar()
""",
        ends=("died",),
        says="image larger than its bytes",
    ),
    "closing the standard descriptors": Attack(
        code="os.close(0); os.close(1); os.close(2); print('gone')", ends=("ok", "error")
    ),
    "closing every descriptor": Attack(code="os.closerange(0, 4096)", ends=("died",), says="closed its connection"),
    "closing sys.stdout": Attack(code="sys.stdout.close(); sys.stderr.close()", ends=("ok", "error")),
    "detaching sys.stdout": Attack(code="sys.stdout.detach(); sys.stderr.detach()", ends=("ok", "error", "died")),
    "no sys.stdout": Attack(code="del sys.stdout, sys.stderr, sys.stdin, sys.__stdout__"),
    "reading the keyboard": Attack(code="input()", ends=("error",), says="EOFError"),
}
