"""vLLM's server lives as long as the evaluation, however that ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

# Answers /health as vLLM does, and names itself; the evaluation enters and waits
EVALUATION = """
import signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from verl_axpo.eval.server import serving

signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in a shell's background, which ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)

server = '''
import http.server, os, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
print(os.getpid(), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
'''
serve = SimpleNamespace(command=lambda port: [sys.executable, "-c", server, str(port)])
with serving(serve, Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(60)
"""
PATIENCE_S = 30.0


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_server_ends_with_the_evaluation(by: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    evaluation = subprocess.Popen([sys.executable, "-c", EVALUATION, str(log)], stdout=subprocess.PIPE, text=True)
    assert evaluation.stdout is not None
    assert evaluation.stdout.readline().startswith("http://127.0.0.1:")
    server = psutil.Process(int(log.read_text().split()[0]))
    evaluation.send_signal(by)
    evaluation.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
