"""The Flower ClientApp: runs tasks at this site and replies with results or an error code."""

import logging
from collections.abc import Callable
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.site.config import load_site
from mama.exchange.codes import ErrorCode
from mama.system.logs import write_logs
from mama.system.processes import importing

with importing():
    from client.handlers import answer, refusal
    from client.identity.signature import signature_of

logger = logging.getLogger("fedmama.client")


def make_app(on_step: Callable[[str, int], None] | None = None) -> ClientApp:
    """Build the ClientApp; `on_step(site, step)` is called after every local step."""
    write_logs()
    app = ClientApp()

    @app.train()
    @app.evaluate()
    @app.query()
    def do(message: Message, context: Context) -> Message:
        """Answer a message and sign the reply.

        The site file's path comes from the node's configuration, never from the run's.
        """
        try:
            site = load_site(Path(str(context.node_config["site-file"])))
        except Exception as error:  # no exception's text may reach the server
            logger.error("site file: %s", error)
            return _pack(message, refusal(ErrorCode.SITE_FILE).encode(), b"", "")
        header, payload = _unpack(message.content)
        reply, tensors = answer(site, header, payload, on_step)
        encoded = reply.encode()
        return _pack(message, encoded, tensors, signature_of(site, header, encoded, tensors))

    return app


def _unpack(content: RecordDict) -> tuple[object, bytes]:
    # `config_records` and `array_records` create reference cycles that keep a message in memory.
    header, payload = content.get("header"), content.get("payload")
    text = header.get("json") if isinstance(header, ConfigRecord) else None
    block = payload.get("tensors") if isinstance(payload, ArrayRecord) else None
    return text, block.data if block is not None else b""


def _pack(message: Message, header: str, tensors: bytes, signature: str) -> Message:
    block = Array(dtype="uint8", shape=(len(tensors),), stype="safetensors", data=tensors)
    content = RecordDict(
        {
            "header": ConfigRecord({"json": header, "signature": signature}),
            "payload": ArrayRecord({"tensors": block}),
        }
    )
    return Message(content, reply_to=message)


app = make_app()
