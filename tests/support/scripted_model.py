"""A model that follows a script: a local HTTP server that answers coding agents as their vendors' servers do.

Decided here: the four protocols, as far as agents without a terminal use them: messages of Anthropic, responses and
chat completions of OpenAI, and content of Gemini. Each request that offers tools gets the next step of the script: a
call of a tool, or the last text. A request without tools, such as for a title, gets a text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

LAST = "The work is done."
_TITLE = "A title"


class Call(NamedTuple):
    """A call of a tool."""

    tool: str
    arguments: dict[str, Any]


class ScriptedModel(ThreadingHTTPServer):
    """The server.

    Attributes:
        asked: The requests that offered tools, in their order.
        strange: The requests that no protocol here has, as method and path.
    """

    daemon_threads = True

    def __init__(self, script: Sequence[Call]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.asked: list[dict[str, Any]] = []
        self.strange: list[str] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def step(self, request: dict[str, Any]) -> tuple[int, Call | str]:
        """Give the next step, and its number."""
        if not request.get("tools"):
            return 0, _TITLE
        with self._lock:
            self.asked.append(request)
            number = len(self.asked)
        return number, self.script[number - 1] if number <= len(self.script) else LAST


@contextmanager
def scripted(script: Sequence[Call]) -> Iterator[ScriptedModel]:
    """Serve a model for the time of a block."""
    server = ScriptedModel(script)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedModel
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Say nothing on standard error."""

    def do_GET(self) -> None:
        self._refuse()

    def do_HEAD(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        self.server.strange.append(f"{self.command} {self.path}")
        self._answer(404, b"{}", "application/json")

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        try:
            request = json.loads(data or b"{}")
        except ValueError:
            return self._refuse()
        if path.endswith(("count_tokens", ":countTokens")):
            return self._answer(200, b'{"input_tokens": 1, "totalTokens": 1}', "application/json")
        for end, spell in _PROTOCOLS.items():
            if path.endswith(end):
                number, step = self.server.step(request)
                return self._stream(
                    spell(number, step), is_stream=bool(request.get("stream", end == ":streamGenerateContent"))
                )
        return self._refuse()

    def _stream(self, events: Iterable[dict[str, Any] | str], *, is_stream: bool) -> None:
        found = [*events]
        if not is_stream:
            assert isinstance(found[-1], dict)
            return self._answer(200, json.dumps(found[-1]).encode(), "application/json")
        text = ""
        for event in found:
            if isinstance(event, dict) and "type" in event:
                text += f"event: {event['type']}\n"
            text += f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n"
        return self._answer(200, text.encode(), "text/event-stream")

    def _answer(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _spell_chat(number: int, step: Call | str) -> Iterator[dict[str, Any] | str]:
    """Chat completions of OpenAI."""
    base = {"id": f"chat-{number}", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    delta: dict[str, Any] = {"role": "assistant", "content": step}
    if isinstance(step, Call):
        function = {"name": step.tool, "arguments": json.dumps(step.arguments)}
        delta = {
            "role": "assistant",
            "tool_calls": [{"index": 0, "id": f"call_{number}", "type": "function", "function": function}],
        }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    yield {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    end = "stop" if isinstance(step, str) else "tool_calls"
    yield {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": end}], "usage": usage}
    yield "[DONE]"


def _spell_responses(number: int, step: Call | str) -> Iterator[dict[str, Any]]:
    """Responses of OpenAI."""
    base = {"id": f"resp_{number}", "object": "response", "model": "scripted", "output": []}
    item: dict[str, Any]
    if isinstance(step, str):
        content = [{"type": "output_text", "text": step, "annotations": []}]
        item = {
            "type": "message",
            "id": f"msg_{number}",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
    else:
        item = {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "name": step.tool,
            "arguments": json.dumps(step.arguments),
            "status": "completed",
        }
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    }
    yield {"type": "response.created", "response": {**base, "status": "in_progress"}}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": {**base, "status": "completed", "output": [item], "usage": usage}}


def _spell_messages(number: int, step: Call | str) -> Iterator[dict[str, Any]]:
    """Messages of Anthropic."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    base = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "stop_sequence": None,
        "usage": usage,
    }
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta: dict[str, Any] = {"type": "text_delta", "text": step}
    if isinstance(step, Call):
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": step.tool, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(step.arguments)}
    end = "end_turn" if isinstance(step, str) else "tool_use"
    yield {"type": "message_start", "message": {**base, "content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": end, "stop_sequence": None}, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}


def _spell_gemini(number: int, step: Call | str) -> Iterator[dict[str, Any]]:
    """Content of Gemini."""
    part: dict[str, Any] = {"text": step}
    if isinstance(step, Call):
        part = {"functionCall": {"id": f"call_{number}", "name": step.tool, "args": step.arguments}}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    yield {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}


_PROTOCOLS = {
    "/chat/completions": _spell_chat,
    "/responses": _spell_responses,
    "/v1/messages": _spell_messages,
    ":streamGenerateContent": _spell_gemini,
    ":generateContent": _spell_gemini,
}
