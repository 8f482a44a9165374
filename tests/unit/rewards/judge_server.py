"""A server that speaks the OpenAI protocol and answers from a script, as a process of its own.

    python judge_server.py '[{"status": 503}, {"reply": "..."}]'     prints its port, then serves until it is killed

The n-th request gets the n-th step, later ones the last. A step is `{"reply": text}`, `{"status": code}`, `{"body": raw
text}` or `{"drop": true}` (the connection closes unanswered), each with optional `delay` (seconds) and `headers`.
GET /requests lists what came: authorization, body, start (seconds), and how many requests were open just then.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Script:
    """The steps, and a record of every request."""

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self.steps = steps
        self.requests: list[dict[str, Any]] = []
        self.open = 0
        self.lock = threading.Lock()

    def begin(self, authorization: str | None, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.open += 1
            step = self.steps[min(len(self.requests), len(self.steps) - 1)]
            record = {"authorization": authorization, "body": body, "start": time.monotonic(), "open": self.open}
            self.requests.append(record)
            return step

    def end(self) -> None:
        with self.lock:
            self.open -= 1


def completion(model: str, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}


class Handler(BaseHTTPRequestHandler):
    script: Script
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send(200, json.dumps(self.script.requests))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        step = self.script.begin(self.headers.get("Authorization"), body)
        try:
            time.sleep(step.get("delay", 0))
            self.answer(step, body)
        finally:
            self.script.end()

    def answer(self, step: dict[str, Any], body: dict[str, Any]) -> None:
        if step.get("drop"):
            self.close_connection = True
        elif self.path != "/v1/chat/completions":
            self.send(404, json.dumps({"error": {"message": f"no such path: {self.path}"}}))
        elif "status" in step:
            self.send(step["status"], json.dumps({"error": {"message": "scripted"}}), step.get("headers"))
        elif "body" in step:
            self.send(200, step["body"], {"Content-Type": "text/html"})
        else:
            self.send(200, json.dumps(completion(body["model"], step["reply"])))

    def send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        payload = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        """The tests read /requests instead."""


def main() -> None:
    Handler.script = Script(json.loads(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
