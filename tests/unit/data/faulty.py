"""A mirror with faults: it records requests, breaks connections, and sends bytes that differ from those announced."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Faulty:
    """In front of the mirror; the faults are made where large files are served.

    `cut_after` breaks the connection after that many bytes of a body, `cuts` times; `lie` sends zeros.
    """

    def __init__(self, mirror: ASGIApp) -> None:
        self.mirror = mirror
        self.asked: list[tuple[str, str | None]] = []  # (name of a large file, Range header)
        self.cut_after = 0
        self.cuts = 0
        self.lie = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/large/"):
            await self.mirror(scope, receive, send)
            return
        ranges = dict(scope["headers"]).get(b"range")
        self.asked.append((scope["path"].split("/", 4)[4], ranges.decode() if ranges else None))
        left = self.cut_after if self.cuts else None
        self.cuts = max(0, self.cuts - 1)

        async def faulty(message: Message) -> None:
            nonlocal left
            body = message.get("body", b"")
            if self.lie:
                message = {**message, **({"body": bytes(len(body))} if body else {})}
            if left is not None and body:
                await send({**message, "body": body[:left], "more_body": True})
                left -= min(left, len(body))
                if not left:
                    raise ConnectionResetError("the fault of this test")  # uvicorn closes the connection
            else:
                await send(message)

        # Without the extension Starlette sends the file in pieces of its own, which can be counted
        await self.mirror({**scope, "extensions": {}}, receive, faulty)
