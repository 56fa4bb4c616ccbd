"""The Flower ClientApp: takes a task, does it at this hospital, answers with figures or an error code."""

import logging
from collections.abc import Callable
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.answers import answer, refusal
from client.signature import signature_of
from client.sitefile import load_site
from mama.exchange.codes import ErrorCode
from mama.logs import write_logs

logger = logging.getLogger("fedmama.client")


def make_app(on_step: Callable[[str, int], None] | None = None) -> ClientApp:
    """A ClientApp; `on_step(site, step)` is told of every local step."""
    write_logs()
    app = ClientApp()

    @app.train()
    @app.evaluate()
    @app.query()
    def do(message: Message, context: Context) -> Message:
        """Unpack, answer, sign, pack. The node's own configuration, never the run's, names the site file."""
        try:
            site = load_site(Path(str(context.node_config["site-file"])))
        except Exception as error:  # whatever it is, its text must not reach the server
            logger.error("site file: %s", error)
            return _pack(message, refusal(ErrorCode.SITE_FILE).encode(), b"", "")
        header, payload = _unpack(message.content)
        reply, tensors = answer(site, header, payload, on_step)
        said = reply.encode()
        return _pack(message, said, tensors, signature_of(site, header, said, tensors))

    return app


def _unpack(content: RecordDict) -> tuple[object, bytes]:
    # Not through `config_records` and `array_records`, which make cycles that keep a message in memory.
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
