import pytest


@pytest.fixture(params=["events", "polling"])
def how(request):
    """With the kernel's events, and where they are refused."""
    if request.param == "polling":
        request.getfixturevalue("refusals")
    return request.param
