"""Calls of `avfs mcp` in traces of OpenTelemetry: what a span says, and which trace it belongs to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mcp import Place

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACER = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

class Lines(SpanExporter):
    def export(self, spans):
        for span in spans:
            print(json.dumps([format(span.context.trace_id, "032x"), dict(span.attributes)]), file=sys.stderr, flush=True)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Lines()))
trace.set_tracer_provider(provider)
from avfs_git.cli import app
sys.exit(app.run(["mcp", "--vault", "work"]))
"""


@pytest.mark.slow
def test_calls_are_spans_of_the_trace_of_their_caller(hermetic: Path) -> None:
    """Of the call's own `traceparent`, else of the environment's.

    A span tells what was done, and an error by its code.
    """
    Place(hermetic / "avfs")
    other = "4bf92f3577b34da6a3ce929d0e0e4736"
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    own = {"traceparent": f"00-{other}-00f067aa0ba902b7-01"}
    calls = [
        ("initialize", hello),
        ("tools/call", {"name": "write_file", "arguments": {"path": "secret-name", "content": "x"}}),
        ("tools/call", {"name": "checkpoint", "arguments": {}, "_meta": own}),
        ("tools/call", {"name": "read_text_file", "arguments": {"path": "no-such-file"}}),
    ]
    variables = {**os.environ, "TRACEPARENT": f"00-{TRACE}-b7ad6b7169203331-01"}
    with subprocess.Popen(
        [sys.executable, "-c", TRACER], text=True, stdin=-1, stdout=-1, stderr=-1, env=variables
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for number, (method, params) in enumerate(calls):
            document = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            server.stdin.write(json.dumps(document) + "\n")
            server.stdin.flush()
            assert json.loads(server.stdout.readline())["id"] == number
        _, told = server.communicate()

    spans = [json.loads(line) for line in told.splitlines() if line.startswith("[")]
    found = {attributes.get("gen_ai.tool.name"): (trace, attributes) for trace, attributes in spans}
    assert server.returncode == 0
    assert found["write_file"][0] == found["read_text_file"][0] == TRACE
    assert found["checkpoint"][0] == other
    assert found["checkpoint"][1]["gen_ai.operation.name"] == "execute_tool"
    assert (found["checkpoint"][1]["avfs.outcome"], len(found["checkpoint"][1]["avfs.checkpoint"])) == ("created", 40)
    assert found["read_text_file"][1]["avfs.error"] == "path.not_found"
    assert "no-such-file" not in told


LIBRARY = (
    TRACER.rpartition("from avfs_git")[0]
    + """
from pathlib import Path
from avfs_git import Home
from avfs_git.errors import AvfsError
with Home(Path(sys.argv[1])) as home:
    work = home.open_vault("work").workspace()
    work.write("secret-name", b"x")
    work.checkpoint("one")
    work.exec("sh", "-c", "exit 3", backend="checkout")
    try:
        work.merge("nowhere")
    except AvfsError:
        pass
"""
)


def test_a_program_that_has_opentelemetry_gets_spans(hermetic: Path) -> None:
    """Each command, checkpoint and merge is one, with its outcome, or the code of its error."""
    Place(hermetic / "avfs")

    done = subprocess.run(
        [sys.executable, "-c", LIBRARY, hermetic / "avfs"], text=True, capture_output=True, check=True
    )

    spans = [json.loads(line)[1] for line in done.stderr.splitlines() if line.startswith("[")]
    assert {(span["avfs.vault"], span["avfs.fork"]) for span in spans} == {("work", "main")}
    first, second, third = spans
    assert (first["avfs.outcome"], len(first["avfs.checkpoint"]), first["avfs.changed_files"]) == ("created", 40, 1)
    assert second["avfs.exit_code"] == 3
    assert third["avfs.error"] == "checkpoint.not_found"
    assert "secret-name" not in done.stderr


def test_the_command_line_joins_the_trace_of_its_caller(hermetic: Path) -> None:
    """As under `opentelemetry-instrument`: its spans belong to the trace that the environment names."""
    Place(hermetic / "avfs")
    code = TRACER.replace('["mcp", "--vault", "work"]', '["--vault", "work", "checkpoint", "save", "one"]')

    variables = {**os.environ, "TRACEPARENT": f"00-{TRACE}-b7ad6b7169203331-01"}
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, env=variables)

    (line,) = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert json.loads(line)[0] == TRACE
