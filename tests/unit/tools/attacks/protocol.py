"""Programs that talk to the host themselves, over the worker's own channel."""

from tests.unit.tools.attacks.corpus import Attack

# The worker's channel and the request's id, found the way hostile code would find them
_CHANNEL = """
import json, pickle, socket, struct
frame = sys._getframe()
while "channel" not in frame.f_locals:
    frame = frame.f_back
channel, token = frame.f_locals["channel"], frame.f_locals["header"]["id"]
def send(header, blob=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    channel.sendall(struct.pack("!II", len(text), len(blob)) + text + blob)
honest = {"id": token, "stdout": "forged", "stderr": "", "value": None, "error": None, "notes": [], "sizes": []}
class Pwn:
    def __reduce__(self):
        return (open, (host_file + ".pwned", "w"))
"""


def _attack(code: str, *ends: str, says: str = "", timeout_s: float = 30.0) -> Attack:
    return Attack(code=_CHANNEL + code, ends=ends, says=says, timeout_s=timeout_s)


PROTOCOL = {
    "printing frames": Attack(
        code="""
import struct
text = b'{"id": "x", "stdout": "forged", "value": null}'
os.write(1, struct.pack("!II", len(text), 0) + text)
print("still here")
""",
        says="still here",
    ),
    "pickle on the channel": _attack("channel.sendall(pickle.dumps(Pwn()) * 10)", "died"),
    "pickle in a frame": _attack("send(pickle.dumps(Pwn()))", "died", says="no JSON"),
    "a frame of four gigabytes": _attack(
        "channel.sendall(struct.pack('!II', 2**32 - 1, 2**32 - 1))", "died", says="are read"
    ),
    "a frame that never ends": _attack(
        "channel.sendall(struct.pack('!II', 1000, 0) + b'x'); import time; time.sleep(60)", "timeout", timeout_s=1.0
    ),
    "a flood": _attack("while True: channel.sendall(bytes(2**16))", "died"),
    "deep JSON": _attack("send(b'[' * 20_000)", "died", says="no JSON"),
    "JSON that is no object": _attack("send(b'[1, 2]')", "died", says="instead of an object"),
    "a wrong id": _attack("send(honest | {'id': 'other'})", "died", says="to no request"),
    "texts that are none": _attack("send(honest | {'stdout': {'a': 1}})", "died", says="texts are none"),
    "notes that are none": _attack("send(honest | {'notes': 'x'})", "died", says="notes are none"),
    "sizes that are none": _attack("send(honest | {'sizes': [[1.5, True]]})", "died", says="no size"),
    "negative sizes": _attack("send(honest | {'sizes': [[-1, -1]]}, bytes(3))", "died", says="no size"),
    "huge sizes": _attack("send(honest | {'sizes': [[2**20, 2**20]]}, bytes(3))", "died", says="larger"),
    "too many images": _attack("send(honest | {'sizes': [[1, 1]] * 1000}, bytes(3000))", "died", says="too many"),
    "a second reply for later": _attack("send(honest)\nsend(honest)", "ok", says="forged"),
    "shutting the channel": _attack("channel.shutdown(socket.SHUT_RDWR)", "died"),
    "half shutting it": _attack("channel.shutdown(socket.SHUT_WR)", "died"),
    "passing descriptors": _attack(
        """
send(b'')
for _ in range(20):
    socket.send_fds(channel, [b"x"], [0] * 20)
""",
        "died",
    ),
    "reading the host's requests": _attack(
        """
channel.settimeout(0.2)
try:
    print(channel.recv(10))
except OSError:
    print("nothing")
channel.settimeout(None)
""",
        "ok",
        says="nothing",
    ),
    "not reading at all": _attack("channel.shutdown(socket.SHUT_RD)", "ok", "died"),
    "breaking json": _attack("json.dumps = lambda *a, **k: '[]'", "died"),
    "breaking the framing": _attack("sys.modules['inside.frames'].pack = lambda *a: b'\\0' * 10", "died"),
    "replacing the kernel": _attack(
        "type(frame.f_locals['kernel']).answer = lambda *a: ({'stdout': 'x' * 10**6}, b'')", "ok"
    ),
    "half characters in every text": _attack(
        """
half = "\\ud800 \\udfff"
send(honest | {"stdout": half, "stderr": half, "value": half, "error": half, "notes": [half]})
""",
        "error",
        says="? ?",
    ),
    "oversized texts": _attack(
        """
long = "A" * 10_000
send(honest | {"stdout": long, "stderr": long, "value": long, "error": long})
""",
        "error",
        says="bytes left out",
    ),
    "texts of wide characters": _attack("send(honest | {'stdout': '\U0001f600' * 2000})", "ok", says="bytes left out"),
    "oversized notes": _attack("send(honest | {'notes': ['A' * 2000] * 20})", "ok", says="bytes left out"),
    "too many notes": _attack("send(honest | {'notes': ['A'] * 1000})", "died", says="notes are none"),
    "notes of no text": _attack("send(honest | {'notes': [None]})", "died", says="notes are none"),
    "a strip that no processor takes": _attack(
        "send(honest | {'sizes': [[900, 1]]}, bytes(2700))", "died", says="too elongated"
    ),
    "bytes that belong to no image": _attack(
        "send(honest | {'sizes': [[1, 1]]}, bytes(3000))", "died", says="belong to no image"
    ),
    "sides of a thousand digits": _attack("send(honest | {'sizes': [[10**1000, 1]]}, bytes(3))", "died", says="larger"),
    "a loss that is none": _attack(
        "send(honest | {'lost': 'yes', 'status': 'ok', 'infra': True})", "ok", says="forged"
    ),
    "no fields": _attack("send({'id': token})", "died", says="notes are none"),
    "a reply for the next question": _attack(
        "send(honest)\nfor count in (True, 0, 10**9, 'x', None): send({'id': token, 'count': count})",
        "ok",
        says="forged",
    ),
    "limits of the worker's own": Attack(
        code="""
from PIL import Image
for module in ("inside.frames", "inside.figures"):
    sys.modules[module].MAX_ASPECT = 10**9
Image.new("RGB", (900, 1))
""",
        ends=("died",),
        says="too elongated",
    ),
    "an output limit of the worker's own": Attack(
        code="""
display.__self__.output.limit = 9_000
print("A" * 8_000)
""",
        says="bytes left out",
    ),
}
