"""Which chapter of the book explains what a report shows.

The site has no address of its own: it is built where the reader is. So chapters are named, and linked only where
`html: baseurl:` in the `_config.yml` of the current folder says at which address the site stands.
"""

from pathlib import Path
from typing import NamedTuple

import yaml

TITLES = {
    "macro": "The cliff, seen from outside",
    "logit_lens": "The answer on its way up",
    "patching": "Patching: where does the answer get lost?",
    "components": "Components: do the parts still work?",
    "representations": "Representations: is it still the same picture?",
    "repair": "Repair: can it be undone?",
    "verdict": "The verdict: which failure is it?",
}
"""Page of the book -> its heading."""

EXPLAINED = {
    "forms": "verdict", "responds": "patching", "alone": "components", "inherited": "components", "repair": "repair",
    "answer rank": "macro", "lens signal": "logit_lens", "patching recovery": "patching",
    "attention entropy": "components", "sign flips": "components", "Jaccard": "components", "FFN cosine": "components",
    "CKA diagonal": "representations", "subspace": "representations", "error alignment": "representations",
    "repair gain": "repair", "next steps": "repair", "weights": "verdict", "examples": "macro",
}  # fmt: skip
"""Question, signal or part of the page -> page of the book."""


class Chapter(NamedTuple):
    """Heading, and address of the page; "" where the site has no address."""

    title: str
    address: str


def chapter_of(name: str, site: str) -> Chapter:
    """The chapter that explains a question, a signal or a part of the report.

    Args:
        site: from `address`.
    """
    page = EXPLAINED.get(name, "verdict")
    return Chapter(TITLES[page], f"{site}/book/{page}.html" if site else "")


def address(root: Path = Path()) -> str:
    """Where the site stands, without a slash at the end; "" where the folder's `_config.yml` does not say, or none is
    there."""
    file = root / "_config.yml"
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    html = found.get("html") if isinstance(found, dict) else None
    base = str((html.get("baseurl") if isinstance(html, dict) else "") or "")
    return base.rstrip("/") if base.startswith(("http://", "https://")) else ""
