from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def examples_run_in_a_directory_of_their_own(request, tmp_path, monkeypatch):
    """The doctests of README and docs make files named like the reader's."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def examples_that_are_files(request):
    """docs/examples.rst shows examples/table_lock.py, and then uses it."""
    if isinstance(request.node, pytest.DoctestItem):
        namespace = request.getfixturevalue("doctest_namespace")
        namespace["table_lock_example"] = Path(__file__).parent / "examples" / "table_lock.py"


@pytest.fixture(autouse=True)
def examples_for_trio(request):
    """docs/loops.rst needs it; nothing else does."""
    if isinstance(request.node, pytest.DoctestItem) and request.node.path.name == "loops.rst":
        pytest.importorskip("trio")
