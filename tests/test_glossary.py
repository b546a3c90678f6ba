"""Terms of `glossary.ini` do not occur in identifiers, comments, messages or docs."""

from __future__ import annotations

import configparser
import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("affect_jax", "benchmarks", "configs", "docs", "launch", "tests")
GLOSSARY = configparser.ConfigParser(delimiters=("=",))
GLOSSARY.read(ROOT / "tests" / "glossary.ini")
IDENTIFIERS, PHRASES = dict(GLOSSARY["identifiers"]), dict(GLOSSARY["phrases"])
PHRASE = re.compile(rf"\b({'|'.join(map(re.escape, PHRASES))})\b", re.IGNORECASE)

SOURCES = [path for name in FOLDERS for path in sorted((ROOT / name).rglob("*.py"))]
SOURCES.remove(pathlib.Path(__file__).resolve())  # it holds examples
TEXTS = [
    *(path for name in FOLDERS for path in sorted((ROOT / name).rglob("*"))),
    *ROOT.glob("*.md"),
]
TEXTS = [path for path in TEXTS if path.suffix in (".md", ".html", ".js", ".sh", ".sbatch")]


def names(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def problems_in(path: pathlib.Path) -> list[str]:
    """Banned identifiers and phrases of a Python file, with their line numbers."""
    problems = []
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        line = token.start[0]
        if token.type == tokenize.NAME and token.string in IDENTIFIERS:
            problems.append(f"{line}: {token.string} -> {IDENTIFIERS[token.string]}")
        elif token.type in (tokenize.STRING, tokenize.COMMENT):
            for match in PHRASE.finditer(token.string):
                line += token.string[: match.start()].count("\n")
                problems.append(f"{line}: {match[0]!r} -> {PHRASES[match[0].lower()]!r}")
    return problems


@pytest.mark.parametrize("path", SOURCES, ids=names)
def test_code_uses_standard_terms(path):
    assert not problems_in(path)


@pytest.mark.parametrize("path", TEXTS, ids=names)
def test_texts_use_standard_terms(path):
    assert not [match[0] for match in PHRASE.finditer(path.read_text())]


def test_a_banned_term_is_found(tmp_path):
    path = tmp_path / "code.py"
    path.write_text('told = 1  # the film\n"""\nNo memory is left."""\n')
    assert [problem.split(":")[0] for problem in problems_in(path)] == ["1", "1", "3"]
