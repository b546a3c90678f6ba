"""Strategies that damage the content of a file."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0, 1, -1, 2**31, 2**64, 1e308, "", ".", "/", "nan", "~"])
    | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=6,
)


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Changes, deletes, inserts or repeats one to four short parts, or cuts the end off."""
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(content)))
        stop = min(len(content), first + draw(st.integers(0, 64)))
        part = content[first:stop]
        replacement = draw(
            st.sampled_from([b"", part * 2, b"\0" * len(part), b"\xff" * len(part)])
            | st.binary(max_size=16)
            | st.sampled_from([b",", b"\n", b'"', b";", b"nan", b"1e999", b"-1", b"9" * 40])
        )
        end = b"" if draw(st.integers(0, 9)) == 0 else content[stop:]
        content = content[:first] + replacement + end
    return content


@st.composite
def damaged_json(draw: st.DrawFn, document: Any) -> Any:
    """Replaces or deletes one to three parts of a JSON document, or adds some."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        parent, key, node = None, None, document
        while isinstance(node, dict | list) and node and draw(st.integers(0, 4)):
            keys = sorted(node) if isinstance(node, dict) else range(len(node))
            parent, key = node, draw(st.sampled_from(keys))
            node = parent[key]
        value = draw(JSON_VALUES)
        if parent is None:
            if isinstance(document, dict) and draw(st.booleans()):
                document[draw(st.text(max_size=8))] = value
            else:
                return value
        elif draw(st.booleans()):
            parent[key] = value
        else:
            del parent[key]
    return document
