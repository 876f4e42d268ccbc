"""The tests of the other lock classes, for one more."""

import importlib
import inspect

FIXTURES = {"lock_class", "lock"}


def adopt(namespace, module, *, without=()):
    """Takes over those tests of a module that are about any lock class, with its fixtures.

    without: names of tests that ask for what only files have; each is to be there.
    """
    found = importlib.import_module(module)
    unknown = [name for name in without if not hasattr(found, name)]
    assert not unknown, f"no longer in {module}: {unknown}"
    for name, value in vars(found).items():
        if name.startswith("test_"):
            if name not in without and FIXTURES & set(inspect.signature(value).parameters):
                namespace[name] = value
        elif type(value).__name__ == "FixtureFunctionDefinition":
            namespace[name] = value
