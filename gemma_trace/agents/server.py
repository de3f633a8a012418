"""The server of the Model Context Protocol: the catalog's tools on the official SDK, over standard input and output."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from gemma_trace._version import __version__
from gemma_trace.agents.catalog import INSTRUCTIONS, TOOLS, call, error_line
from gemma_trace.agents.desk import Desk
from gemma_trace.agents.parameters import schema_of
from gemma_trace.errors import MissingExtraError

if TYPE_CHECKING:
    from mcp.server import Server

EXTRA: Final = "mcp"


def build_server(desk: Desk) -> Server[Any]:
    """A server whose tools read what lies on a desk. It has no resources and no prompts, and asks its client nothing.

    Raises:
        MissingExtraError: the SDK isn't installed, or one before its version 2.
    """
    try:
        import anyio
        import anyio.to_thread
        import mcp_types as types
        from mcp.server import Server
    except ImportError:
        raise MissingExtraError("mcp", EXTRA) from None

    one_at_a_time = anyio.CapacityLimiter(1)

    async def list_tools(context: Any, asked: Any) -> types.ListToolsResult:
        hints = types.ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        )
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    title=tool.title,
                    description=tool.says,
                    input_schema=schema_of(tool.takes),
                    annotations=hints,
                )
                for tool in TOOLS
            ]
        )

    async def call_tool(context: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        text, failed = await anyio.to_thread.run_sync(
            _answered, desk, asked.name, asked.arguments or {}, limiter=one_at_a_time
        )
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=failed)

    server: Server[Any] = Server(
        "gemma-trace",
        version=__version__,
        title="gemma-trace",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    server.middleware.clear()  # the SDK's own reports each call to OpenTelemetry, if that is set up
    return server


def serve(desk: Desk) -> None:
    """Answer on standard input and output until the input ends, or the process is asked to end.

    Raises:
        MissingExtraError: the SDK isn't installed.
    """
    server = build_server(desk)
    import anyio
    from mcp.server.stdio import stdio_server

    async def run() -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    with _ended_at_once():
        anyio.run(run)


@contextlib.contextmanager
def _ended_at_once() -> Iterator[None]:
    """While the block runs, whatever asks the process to end ends it at once."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, _end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """End at once. The thread that reads the input can't be waited for, and there is nothing of ours to clear up."""
    os.write(2, f"gemma-trace: ended by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


def _answered(desk: Desk, name: str, given: dict[str, Any]) -> tuple[str, bool]:
    """A tool's answer, or the line that says why there is none; and whether it is that."""
    try:
        return call(desk, name, given), False
    except Exception as error:
        return error_line(desk, error), True
