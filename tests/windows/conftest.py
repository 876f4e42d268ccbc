import pytest

import support


def pytest_itemcollected(item):
    """These tests are about Windows."""
    if not support.IS_WINDOWS:
        item.add_marker(pytest.mark.skip(reason="not on Windows"))
