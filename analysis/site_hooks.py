"""How MkDocs lays the site out: the pages of docs/ at its root, the others under reference/. See mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any


def on_config(config: Any) -> Any:
    """Headings get the anchors that GitHub gives them, so that a link holds in both places."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor
    return config


def on_files(files: Any, config: Any) -> Any:
    """`docs/index.md` is the front page, and `README.md` isn't."""
    for file in files.documentation_pages():
        folder, _, name = file.src_uri.rpartition("/")
        stem = name.removesuffix(".md")
        page = "" if stem in ("index", "README") else f"{stem}/"
        file.dest_uri = f"{'' if folder == 'docs' else 'reference/'}{page}index.html"
    return files


def anchor(heading: str, separator: str = "-") -> str:
    """What GitHub calls a heading in an address.

    >>> anchor("`sweep --dry-run`")
    'sweep---dry-run'
    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)
