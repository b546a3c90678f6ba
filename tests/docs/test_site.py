"""The site: built without a warning, every link resolves, nothing comes from elsewhere."""

from __future__ import annotations

import html.parser
import pathlib
import re
import urllib.parse

import pytest

from tests.docs.conftest import PAGES, ROOT, TEXTS


class Page(html.parser.HTMLParser):
    """What a page names: its anchors, its links, and what a browser fetches to show it."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("img", "script", "source", "iframe") and "src" in given:
            self.fetched.append(given["src"])
        if tag == "link" and "stylesheet" in given["rel"] + given.get("as", ""):
            self.fetched.append(given["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_page_is_built(site):
    for path in PAGES:
        place = path.relative_to(ROOT / "docs").with_suffix("")
        folder = site / place.parent if place.name == "index" else site / place
        assert (folder / "index.html").is_file(), place


def test_the_example_is_on_its_page(site):
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
                known = pages[target].anchors | {"__tabbed", "__skip"}
                assert anchor in known, f"{path.relative_to(site)}: no {anchor!r} in {link}"
            checked += 1
    assert checked > 500


def test_nothing_is_fetched_from_elsewhere(pages):
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


def test_links_in_the_repositorys_own_texts_resolve():
    for path in TEXTS:
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            if not urllib.parse.urlsplit(link).scheme:
                assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_readme_leads_to_the_site():
    assert "docs/index.md" in (ROOT / "README.md").read_text()
