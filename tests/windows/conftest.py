from pathlib import Path

import pytest

import support


def pytest_collection_modifyitems(items):
    """These tests are about Windows."""
    here = Path(__file__).parent
    for item in items:
        if not support.IS_WINDOWS and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="not on Windows"))
