"""Paths in texts, cut down to their last component: POSIX, Windows, UNC and URLs of files, with spaces or without."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Final

_WORD: Final = r"(?:[^/\\\s\"'`:;,|<>*?\x00-\x1f]|,(?![/\\])|(?<=[A-Za-z])'(?=[A-Za-z]{2}))++"
_GAP: Final = r"(?<![,.)!?}\]])(?<!\.[A-Za-z])(?<!\.[A-Za-z]\w)(?<!\.[A-Za-z]\w\w)(?<!\.[A-Za-z]\w{3}) {1,2}(?![-/&=])"
"""What may stand between two words of one folder's name: not what ends a sentence, a file's name or an option."""
_FOLDER: Final = rf"{_WORD}(?:{_GAP}{_WORD}){{0,5}}"

_OPTION: Final = r"(?:(?<=[\s\"'=]-[A-Z])|(?<=^-[A-Z])|(?<=-isystem)|(?<=-iquote)|(?<=-idirafter)|(?<=-include))"
"""A compiler's option with a path right behind it."""
_POSIX: Final = rf"(?:(?<![\w.~)\]}}*%$/\\<>-])|{_OPTION})/{{1,4}}(?:{_FOLDER}/+)+"
_TILDE: Final = rf"(?<![\w.)\]}}/\\~])~[\w.-]{{0,32}}/+(?:{_FOLDER}/+)*"
_DRIVE: Final = (
    rf"(?<![A-Za-z0-9])(?:\\{{2,8}}[?.]\\+)?[A-Za-z]:(?:\\+(?:{_FOLDER}[\\/]+)*|/+(?:{_FOLDER}[\\/]+)+|/(?=[\w]+\.\w))"
)
_SHARE: Final = rf"(?<![\w:\\])\\{{2,8}}(?:[?.]\\+UNC\\+)?[\w.$-]+\\+(?:{_FOLDER}[\\/]+)*"
_FILE_URL: Final = rf"(?i:file):(?://[\w.-]*)?/*(?:[A-Za-z]:[\\/]+)?(?:{_FOLDER}[\\/]+)*"
_STORE: Final = r"(?i:s3a?|gs|gcs|hdfs|abfss?|wasbs?|nfs|smb|sftp|ssh|ftp|dbfs|viewfs|oss|rsync)://(?:[^\s\"'`<>/]+/+)*"
_URL: Final = r"(?<![A-Za-z0-9+.-])(?P<url>[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s\"'<>`]*)"
_FOLDERS: Final = re.compile("|".join((_FILE_URL, _STORE, _URL, _DRIVE, _SHARE, _TILDE, _POSIX)))

_FRAME: Final = re.compile(r"(?P<folders>[^\n]*[/\\])(?P<rest>[^/\\\n]+\(\d+\): .*)", re.DOTALL)
"""A Python frame: a file, a line and a function."""
_ABSOLUTE: Final = re.compile(r"(?:[/~\\]|[A-Za-z]:[/\\]|(?i:file:)).*", re.DOTALL)
_HOME: Final = re.compile(r"~[/\\]+")
_SEVERAL: Final = re.compile(r"\(\d+\): ")
_INSTALLED: Final = re.compile(r"\A.*(?:site|dist)-packages[/\\]+", re.DOTALL)
_PUBLIC: Final = frozenset(
    [
        "torch",
        "torchvision",
        "torchaudio",
        "torchao",
        "torchtune",
        "torchrec",
        "torchdata",
        "torchtitan",
        "functorch",
        "transformers",
        "diffusers",
        "accelerate",
        "peft",
        "trl",
        "datasets",
        "tokenizers",
        "huggingface_hub",
        "safetensors",
        "timm",
        "vllm",
        "sglang",
        "sgl_kernel",
        "tensorrt_llm",
        "deepspeed",
        "megatron",
        "fairscale",
        "lightning",
        "pytorch_lightning",
        "xformers",
        "flash_attn",
        "flashinfer",
        "triton",
        "apex",
        "bitsandbytes",
        "numpy",
        "scipy",
        "pandas",
        "PIL",
        "cv2",
        "skimage",
        "sklearn",
        "matplotlib",
        "pyarrow",
        "ray",
        "fastapi",
        "starlette",
        "uvicorn",
        "uvloop",
        "aiohttp",
        "anyio",
        "httpx",
        "httpcore",
        "requests",
        "urllib3",
        "pydantic",
        "pydantic_core",
        "msgspec",
        "zmq",
        "tqdm",
        "jinja2",
        "click",
        "typer",
        "rich",
        "yaml",
        "regex",
        "sentencepiece",
        "einops",
        "gemma_trace",
        "IPython",
        "ipykernel",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "tensorflow",
        "keras",
        "onnx",
        "onnxruntime",
        "intel_extension_for_pytorch",
        "torch_npu",
        "torch_xla",
        "habana_frameworks",
        "aiter",
        "composable_kernel",
        "deep_ep",
        "deep_gemm",
        "mamba_ssm",
        "causal_conv1d",
        "fla",
        "outlines",
        "xgrammar",
        "lmdeploy",
        "mmcv",
        "mmengine",
        "detectron2",
        "ultralytics",
        "bin",
        "lib",
    ]
) | frozenset(sys.stdlib_module_names)
"""Packages that anybody can install: a relative path into one says nothing of whose it is."""


def shortened(text: str, on_path: Callable[[], None], keep: int = 0, *, absolute_only: bool = False) -> str:
    """A text with each absolute path in it cut to its last component, or to what is below `site-packages`.

    So is a Python frame's relative path, unless it begins in a package that anybody can install.

    Args:
        on_path: called for each path that is cut.
        keep: how many folders to leave before the last component.
        absolute_only: leave a frame's relative path, and a file that lies in the home folder itself (`~/run.py`).

    >>> shortened("/home/me/My Project/model.py(3): forward", lambda: None)
    'model.py(3): forward'
    """
    if "/" not in text and "\\" not in text:
        return text
    frame = _FRAME.fullmatch(text) if len(_SEVERAL.findall(text, 0, 65536)) == 1 else None
    if frame and not re.search(r"\s[/\\]|[\"']", frame["folders"]):
        folders = frame["folders"]
        if _HOME.fullmatch(folders) and absolute_only:
            return text
        relative = not _ABSOLUTE.fullmatch(folders)
        if not relative or (not absolute_only and re.split(r"[/\\]", folders)[0] not in _PUBLIC):
            cut = _kept(folders, keep)
            if cut != folders:
                on_path()
            return cut + _FOLDERS.sub(lambda match: _cut(match, on_path, 0), frame["rest"])
    return _FOLDERS.sub(
        lambda match: match[0] if absolute_only and _HOME.fullmatch(match[0]) else _cut(match, on_path, keep), text
    )


def _cut(match: re.Match[str], on_path: Callable[[], None], keep: int) -> str:
    if match["url"] is not None:
        return match[0]
    folders, text, end = match[0], match.string, match.end()
    ends_here = end == len(text) or not re.match(r"[^\s\"'`:;|<>*?,)\]}]", text[end])
    cut = _kept(folders, keep + ends_here)
    if cut != folders:
        on_path()
    return cut.rstrip("/\\") if ends_here else cut


def _kept(folders: str, keep: int) -> str:
    """What stays of the folders before a file."""
    below, installed = _INSTALLED.subn("", folders)
    if installed:
        return below
    if not keep:
        return ""
    parts = [part for part in re.split(r"[/\\]+", re.sub(r"^\w+://?|^[A-Za-z]:", "", folders)) if part]
    return "".join(f"{part}/" for part in parts[-keep:])
