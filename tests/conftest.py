"""Settings and fixtures for all tests."""

from __future__ import annotations

import atexit
import dataclasses
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import types

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
# One compilation cache per test session, for its workers and for the commands that they start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="affect_jax_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2 << 30))  # a limit makes JAX lock it

import filelock  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402
from absl import flags, logging  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.releases import create_flags, write_release  # noqa: E402

settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
# A deadline fails a case that takes longer; launch/fuzz.sh ends one that hangs.
settings.register_profile("fuzz", deadline=60_000, max_examples=100)
settings.load_profile("tests")
if not flags.FLAGS.is_parsed():  # Grain's worker processes read parsed flags
    flags.FLAGS.mark_as_parsed()

SHORT_BLOCKS = {
    **dict.fromkeys(("resnet34", "resnet50", "iresnet50", "convnext_tiny"), (2, 1, 1, 1)),
    **dict.fromkeys(("efficientnet_b0", "efficientnet_b2"), (1, 2, 1, 0, 0, 0, 0)),
}
MAX_MEMORY_MAPS = 25_000  # Linux allows 65,530
MAX_MEMORY_BYTES = 1536 << 20  # 1.5 GiB
FOLDER_MARKERS = {"faults": "fault", "benchmarks": "bench", "docs": "docs"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all tests of the folders in `FOLDER_MARKERS`."""
    for item in items:
        folder = item.path.parent.name
        if folder in FOLDER_MARKERS:
            item.add_marker(FOLDER_MARKERS[folder])


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Frees compiled programs before a process reaches its limits of memory and memory maps."""
    is_last = nextitem is None or nextitem.path != item.path
    if "jax" in sys.modules and (is_last or item.get_closest_marker("slow")):
        maps = pathlib.Path("/proc/self/maps")  # Linux only
        num_maps = len(maps.read_text().splitlines()) if maps.exists() else 0
        if num_maps > MAX_MEMORY_MAPS or psutil.Process().memory_info().rss > MAX_MEMORY_BYTES:
            sys.modules["jax"].clear_caches()


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


@pytest.fixture(scope="session")
def torchvision() -> types.ModuleType:
    """torchvision, even if its compiled operators do not match the installed PyTorch."""
    torch = pytest.importorskip("torch")
    try:
        import torchvision
    except ModuleNotFoundError:
        pytest.skip("needs torchvision: pip install affect_jax[torch]")
    except RuntimeError:  # an operator is missing: declare those that its modules use
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
        import torchvision

        torchvision.library_of_tests = library  # pyright: ignore  # lives as long as the module
    return torchvision


@pytest.fixture(scope="session")
def timm(torchvision) -> types.ModuleType:
    """timm, which imports torchvision."""
    return pytest.importorskip("timm")


@pytest.fixture
def short_trunks(monkeypatch) -> None:
    """Trunks with one or two blocks in a stage: whole ones compile for minutes."""
    from affect_jax.models import TRUNKS

    for name, blocks in SHORT_BLOCKS.items():
        monkeypatch.setattr(TRUNKS[name], "BLOCKS", blocks)


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run of 2 epochs on 64 faces, and the output of the commands that trained and evaluated it.

    The workdir is `folder / "run"`; commands ran in `folder`. Tests must not change it.
    """

    folder: pathlib.Path
    flags: list[str]
    trained: subprocess.CompletedProcess[str]
    evaluated: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, worker_id) -> TrainedRun:
    """The `TrainedRun` of this test session: one for all of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "trained_run"
    result = folder / "result.pickle"
    with filelock.FileLock(f"{folder}.lock"):
        if not result.exists():
            result.write_bytes(pickle.dumps(_train(folder)))
    return pickle.loads(result.read_bytes())


def _train(folder: pathlib.Path) -> TrainedRun:
    write_release(folder / "release")
    flags = [f"--config={REPOSITORY}/configs/resnet18_joint.py", "--workdir=run"]
    flags += create_flags(folder / "release", folder / "data", duration__epochs=2)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "affect_jax.main", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=400,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    trained = run(*flags)
    return TrainedRun(folder, flags, trained, run("--mode=evaluate", "--workdir=run"))
