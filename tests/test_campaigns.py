"""The short forms of the campaigns; `make faults` runs the long ones."""

import pytest

import support
from campaigns import faults


@pytest.mark.parametrize("class_name", faults.CLASSES)
@pytest.mark.parametrize(("kind", "every"), [("kill", 5), ("fail", 15)])
def test_faults_at_system_calls(class_name, kind, every):
    if not support.REFUSABLE:
        pytest.skip("the numbers of this machine's system calls are not known")
    cases, defects = faults.campaign(kind, class_name, every)
    assert cases > 40
    assert not defects, "\n".join(defects)
