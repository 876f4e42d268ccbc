import pytest


@pytest.fixture(autouse=True)
def examples_run_in_a_directory_of_their_own(request, tmp_path, monkeypatch):
    """The doctests of README and docs make files named like the reader's."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)
