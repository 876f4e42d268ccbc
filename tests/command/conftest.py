import pytest

import lockfile
from support.lock_classes import CLASS_NAMES


@pytest.fixture(params=CLASS_NAMES)
def any_class(request):
    """Every class that the command knows."""
    return getattr(lockfile, request.param)
