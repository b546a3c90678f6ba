"""Parses a page for tests: its elements, scores and tables; checks that the HTML is well-formed."""

from __future__ import annotations

import html.parser

VOID = {"meta", "link", "img", "source", "br", "input"}


class Page(html.parser.HTMLParser):
    """A parsed page.

    **Arguments:** `text`: the page.

    Attributes: `elements` has (name, attributes) in order, `scores` has (name, value, text) of
    every score, `undefined` the names of undefined scores, `tables` the elements of each table.
    Elements that are not closed raise an error.
    """

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scores: list[tuple[str, str, str]] = []
        self.undefined: list[str] = []
        self.tables: list[list[tuple[str, dict[str, str]]]] = []
        self.text = ""
        self._open: list[str] = []
        self._score: tuple[str, str] | None = None
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), f"{tag}: duplicate attribute"
        self.elements.append((tag, attributes))
        if tag == "table":
            self.tables.append([])
        if "table" in self._open:
            self.tables[-1].append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if "data-score" in attributes:
            self._score = attributes["data-score"], attributes["value"]
        if "data-undefined" in attributes:
            self.undefined.append(attributes["data-undefined"])

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        if self._open[-1:] not in (["style"], ["script"]):
            self.text += data
        if self._score:
            self.scores.append((*self._score, data))
            self._score = None

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]
