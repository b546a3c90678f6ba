"""The site builds without warnings, its links resolve, and it loads nothing from other hosts."""

from __future__ import annotations

import html.parser
import pathlib
import re
import urllib.parse

import pytest

from tests.docs.conftest import PAGES, ROOT, TEXTS


class Page(html.parser.HTMLParser):
    """The anchors and links of a page, and the files that a browser fetches to show it."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("img", "script", "source", "iframe") and "src" in values:
            self.fetched.append(values["src"])
        if tag == "link" and "stylesheet" in values["rel"] + values.get("as", ""):
            self.fetched.append(values["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_page_is_built(site):
    for path in PAGES:
        page = path.relative_to(ROOT / "docs").with_suffix("")
        folder = site / page.parent if page.name == "index" else site / page
        assert (folder / "index.html").is_file(), page


def test_example_is_included_in_its_page(site):
    assert "InferenceSession" in (site / "export" / "index.html").read_text(encoding="utf-8")


def test_every_link_resolves(pages, site):
    checked = 0
    for path, page in pages.items():
        for link in page.links + page.fetched:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            if not parts.path:
                target = path
            assert target.is_file(), f"{path.relative_to(site)}: {link}"
            if parts.fragment and target in pages:
                anchor = urllib.parse.unquote(parts.fragment)
                anchors = pages[target].anchors | {"__tabbed", "__skip"}
                assert anchor in anchors, f"{path.relative_to(site)}: no {anchor!r} in {link}"
            checked += 1
    assert checked > 500


def test_nothing_is_fetched_from_other_hosts(pages):
    for path, page in pages.items():
        assert page.fetched, path
        foreign = [link for link in page.fetched if urllib.parse.urlsplit(link).netloc]
        assert not foreign, f"{path}: {foreign}"


def test_every_module_is_in_the_reference(pages):
    anchors = set().union(*(page.anchors for page in pages.values()))
    for path in sorted((ROOT / "affect_jax").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name != "affect_jax":
            assert name in anchors, f"{name} is on no page of docs/reference"


def test_links_in_markdown_resolve():
    for path in TEXTS:
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            if not urllib.parse.urlsplit(link).scheme:
                assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_readme_links_to_the_documentation():
    assert "docs/index.md" in (ROOT / "README.md").read_text()
