"""Models of the Hugging Face Hub: access, cache and download are huggingface_hub's, the token too.

The token is never asked for here, nor printed: huggingface_hub finds it by itself. What it raises becomes one line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gemma_trace.errors import ModelError

CHECKPOINTS: Final = {size: f"google/gemma-3-{size}-it" for size in ("4b", "12b", "27b")}
"""The instruction-tuned checkpoints of Gemma 3, by size."""

_SMALL_FILES: Final = ("*.json", "*.jinja", "*.model", "*.txt")
_WEIGHTS: Final = "*.safetensors"
_THEIRS: Final = ("huggingface_hub", "httpx", "httpcore")  # whose errors are about the network


def is_within_reach(repo: str) -> bool:
    """Whether it makes sense to ask for this model: it is in the cache already, or there is a token to ask with."""
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repo, "config.json")
    return isinstance(cached, str) or huggingface_hub.get_token() is not None


def download(repo: str, *, weights: bool, on_files: Callable[[int], None], on_file: Callable[[], None]) -> Path:
    """A model's files in the Hub's cache, downloaded as far as they aren't there.

    A download that breaks off is taken up where it ended, by huggingface_hub: at once, and again the next time.

    Args:
        weights: the weights as well; else configuration and processor alone.
        on_files: hears how many files it is going to look at.
        on_file: hears of each that is there.

    Raises:
        ModelError: there is no such model, it is gated, or the Hub can't be reached and the cache lacks it.
    """
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars, tqdm

    class Files(tqdm):
        """huggingface_hub's bar of files, heard by us and not drawn."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]
            self._counts_files = kwargs.get("unit") != "B"
            if self._counts_files and kwargs.get("total"):
                on_files(int(kwargs["total"]))

        def update(self, n: float | None = 1) -> None:
            if self._counts_files:
                on_file()

    patterns = [*_SMALL_FILES, *([_WEIGHTS] if weights else [])]
    disable_progress_bars()
    try:
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=patterns, tqdm_class=Files))
    except Exception as error:
        if not isinstance(error, OSError | ValueError) and not type(error).__module__.startswith(_THEIRS):
            raise
        raise ModelError(explained(repo, error)) from error
    finally:
        enable_progress_bars()


def explained(repo: str, error: Exception) -> str:
    """One line on what went wrong. Of the error's own text nothing is repeated: it may hold addresses and headers."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo}"
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is gated: ask for access at {page}, then run: hf auth login; or use --weights random"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no model {repo!r} on the Hub, or it is private; check --model, or run: hf auth login"
    if isinstance(error, errors.HFValidationError):
        return f"{repo!r} is not the name of a model on the Hub; give OWNER/NAME, a preset or a folder"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"the Hub answered {status} for {repo}; try again later, or use --weights random"
    return f"can't download {repo} from the Hub ({type(error).__name__}); check the network, or use --weights random"
