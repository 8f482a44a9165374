"""An OpenAI-compatible server as a process of its own, whose answers are scripted by the question.

    ScriptedServer(scripts, folder) -> `python scripted.py` -> /v1/chat/completions, /v1/completions, /v1/models

A question whose text has `script:NAME` (the last one counts) gets, at its assistant turn t, step t of that script; a
question without one that of the script `any`. A step is an answer (`text` or a whole `message`, `finish`,
`prompt_tokens`, `completion_tokens`, other fields of the reply in `extra`), other bytes in place of one (`raw`, as
Latin-1) or a mishap: `status` (an HTTP error) or `drop` (the connection), each for the first `times` requests; `sleep`
seconds come before either. Every request is a line in `requests.jsonl`.
"""

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

MODEL = "scripted"
ZOOM_TOOLS = str(Path(__file__).parent / "zoom.yaml")
Step = dict[str, Any]
Scripts = dict[str, list[Step]]


class ScriptedServer:
    """The process; a context. `url` ends in /v1."""

    def __init__(self, scripts: Scripts, folder: Path, port: int = 0) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scripts.json").write_text(json.dumps(scripts))
        command = [sys.executable, __file__, str(folder), str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "ScriptedServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def requests(self) -> list[dict[str, Any]]:
        """The bodies of all requests so far, in the order of their arrival."""
        path = self.folder / "requests.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    scripts: Scripts
    mishaps: ClassVar[Counter[tuple[str, int]]] = Counter()

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 4096}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with (self.folder / "requests.jsonl").open("a") as file:
            file.write(json.dumps({**body, "authorization": self.headers["Authorization"]}) + "\n")
        if self.path.endswith("/completions") and not self.path.endswith("/chat/completions"):
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": body["max_tokens"], "total_tokens": 0}
            choice = {"index": 0, "text": "", "finish_reason": "length"}
            reply = {"id": "x", "object": "text_completion", "created": 0, "model": MODEL}
            self.reply(200, reply | {"choices": [choice], "usage": usage})
            return
        if body["model"] != MODEL:
            self.reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            return
        name, turn = script_of(body["messages"])
        step = self.scripts[name][turn]
        time.sleep(step.get("sleep", 0))
        if ("status" in step or "drop" in step) and self.mishaps[name, turn] < step.get("times", sys.maxsize):
            self.mishaps[name, turn] += 1
            if "drop" in step:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.reply(step["status"], {"error": {"message": step.get("error", "scripted failure")}})
            return
        self.send(200, step["raw"].encode("latin-1") if "raw" in step else json.dumps(answer(step)).encode())

    def reply(self, status: int, body: dict[str, Any]) -> None:
        self.send(status, json.dumps(body).encode())

    def send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle(self) -> None:
        # A client that was killed in the middle of its request
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """No log lines."""


def script_of(messages: list[dict[str, Any]]) -> tuple[str, int]:
    text = json.dumps([message["content"] for message in messages if message["role"] == "user"])
    found = ["any", *re.findall(r"script:(\w+)", text)]
    return found[-1], sum(message["role"] == "assistant" for message in messages)


def answer(step: Step) -> dict[str, Any]:
    message = step.get("message") or {"role": "assistant", "content": step["text"]}
    extra = step.get("extra", {})
    choice = {"index": 0, "message": message, "finish_reason": step.get("finish", "stop"), **extra.get("choice", {})}
    usage = {"prompt_tokens": step.get("prompt_tokens", 100), "completion_tokens": step.get("completion_tokens", 10)}
    usage["total_tokens"] = sum(usage.values())
    reply = {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage}
    return reply | extra.get("reply", {})


def main() -> None:
    Handler.folder = Path(sys.argv[1])
    Handler.scripts = json.loads((Handler.folder / "scripts.json").read_text())
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
