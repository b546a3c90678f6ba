"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
import pathlib

# Before JAX starts: two virtual devices, as many as there are cores. Optimization level 0 halves
# the compilation time.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=2",
        "--xla_backend_optimization_level=0",
    ]
)
REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
# Commands that the tests start use this compilation cache instead of the one in the user's home.
os.environ.setdefault("XDG_CACHE_HOME", str(REPOSITORY / ".pytest_cache" / "home"))

import pytest  # noqa: E402
from absl import flags, logging  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("tests")
if not flags.FLAGS.is_parsed():  # Grain's worker processes read parsed flags
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def real_faces() -> pathlib.Path:
    """Real photographs in AffectNet's first layout, which are not part of the repository."""
    default = REPOSITORY.parent / "shared" / "real_faces"
    path = pathlib.Path(os.environ.get("AFFECT_JAX_REAL_FACES", default))
    if not (path / "training.csv").is_file():
        pytest.skip(f"no photographs at {path}; set AFFECT_JAX_REAL_FACES to a release's folder")
    return path


@pytest.fixture
def logged_warnings(monkeypatch) -> list[str]:
    """The warnings that absl logs during the test."""
    messages: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: messages.append(text % values))
    return messages
