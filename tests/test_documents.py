"""Links of the documents lead to files and headings that are there; tables name what is there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_they_import_is_there(document: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for module, names in re.findall(r"^from (stcanet[\w.]*) import ([\w, ]+)", "\n".join(blocks), re.MULTILINE):
        for name in names.split(","):
            assert hasattr(import_module(module), name.strip()), (module, name)


def headings(document: Path) -> list[str]:
    """As GitHub names them in links."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_the_kernels_guide_knows_every_header() -> None:
    guide = (ROOT / "csrc" / "README.md").read_text(encoding="utf-8")
    headers = (ROOT / "csrc" / "include" / "stcanet").glob("*.hpp")
    assert not [header.name for header in headers if f"| `{header.name}` |" not in guide]
