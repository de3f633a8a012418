"""Which server it is, what its model is called, and how its profiler is turned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gemma_trace.errors import CaptureError
from gemma_trace.foreign import UnreadableValueError, decoded, text
from gemma_trace.served.api import Answer, Server, ServerError
from gemma_trace.served.refusal import one_line, refusal

VLLM: Final = "vllm"
SGLANG: Final = "sglang"

NO_PROFILER: Final = (
    "the server has no /start_profile, so that its requests are only timed; start vLLM with --profiler-config "
    '\'{"profiler":"torch","torch_profiler_dir":"/path/to/traces"}\' (before 0.13 with VLLM_TORCH_PROFILER_DIR set), '
    "or SGLang with SGLANG_TORCH_PROFILER_DIR set, and give that folder as --traces"
)


@dataclass(frozen=True)
class ServerKind:
    """What a server says of itself.

    Attributes:
        name: `vllm`, `sglang`, or "" for any other.
        version: "" where it doesn't say.
        model: what requests have to call its model.
        several: that it was one of several, in one line; "" where it was given, or there is one alone.
    """

    name: str
    version: str
    model: str
    several: str = ""

    @property
    def shown(self) -> str:
        """E.g. "vllm 0.32.0"."""
        return f"{self.name} {self.version}".strip()

    def extra(self, request_id: str) -> dict[str, Any]:
        """What a request says beside OpenAI's members: that all tokens are to be generated, and what it is called.

        vLLM takes the name from the header `X-Request-Id`.
        """
        named = {"rid": request_id} if self.name == SGLANG else {}
        return {"ignore_eos": True, **named} if self.name in (VLLM, SGLANG) else {}


def kind_of(server: Server, model: str | None) -> ServerKind:
    """Ask a server what it is.

    Args:
        model: what its model is called; None takes its first.

    Raises:
        CaptureError: it doesn't answer, or lists no model.
    """
    answer = server.ask("GET", "/v1/models")
    listed = _member(answer.body, "data") if answer.status == 200 else None
    models = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if model is None and not models:
        raise CaptureError(_without_models(answer))
    owner = text(models[0].get("owned_by")).lower() if models else ""
    name = next((known for known in (VLLM, SGLANG) if known in owner), "")
    version = text(_asked(server, "/version", "version")) if name == VLLM else ""
    if name == SGLANG:
        version = text(_asked(server, "/server_info", "version") or _asked(server, "/get_server_info", "version"))
    model_name = model or text(models[0].get("id"))
    several = f"the server has {len(models)} models; {one_line(model_name)} is its first, --model NAME takes another"
    return ServerKind(name, version[:40], model_name, several if model is None and len(models) > 1 else "")


def _without_models(answer: Answer) -> str:
    """Why it isn't known what to call a server's model."""
    give = "give --model the name of its model"
    if answer.status == 200:
        return f"the server lists no model at /v1/models; check that it is OpenAI-compatible, or {give}"
    if answer.status == 404:
        return f"the server has no /v1/models; check the path of --server, or {give}"
    return refusal(answer.status, answer.body)


def _asked(server: Server, path: str, member: str) -> Any:
    try:
        answer = server.ask("GET", path)
    except ServerError:
        return None
    return _member(answer.body, member) if answer.status == 200 else None


def _member(body: bytes, name: str) -> Any:
    try:
        return decoded(body, dict[str, Any]).get(name)
    except UnreadableValueError:
        return None


def start_profile(server: Server, kind: ServerKind, prefix: str, traces: str) -> None:
    """Turn the server's profiler on.

    Args:
        prefix: what the traces' names begin with, where the server takes one.
        traces: the folder that SGLang is to write into.

    Raises:
        CaptureError: it has none, or refuses.
    """
    body: dict[str, Any] | None = None
    if kind.name == VLLM:
        body = {"profile_prefix": prefix}
    elif kind.name == SGLANG:
        body = {"output_dir": traces, "activities": ["CPU", "GPU"], "with_stack": True, "record_shapes": True}
    answer = server.ask("POST", "/start_profile", body)
    if answer.status in (404, 405):
        raise CaptureError(NO_PROFILER)
    if answer.status >= 400:
        raise CaptureError(f"/start_profile: {refusal(answer.status, answer.body)}")


def stop_profile(server: Server, timeout_s: float) -> str:
    """Turn it off, which writes the traces.

    Returns:
        What went wrong, in one line; "" for nothing.
    """
    try:
        answer = server.ask("POST", "/stop_profile", timeout_s=timeout_s)
    except ServerError as error:
        return f"/stop_profile: {str(error.args[0]).replace('--timeout', '--stop-timeout')}"
    return f"/stop_profile: {refusal(answer.status, answer.body)}" if answer.status >= 400 else ""
