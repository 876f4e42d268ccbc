"""What Sphinx cannot know about the pages: it sees to all else when they are built."""

import re
from pathlib import Path

import lockfile

TREE = Path(__file__).resolve().parents[2]


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)", (TREE / "README.md").read_text())
    inside = [link for link in links if "://" not in link]
    assert len(inside) > 10
    assert [link for link in inside if not (TREE / link).exists()] == []


def test_reference_has_every_public_name():
    text = (TREE / "docs" / "reference.rst").read_text()
    told = set(re.findall(r"(?:\.\. (?:auto\w+|data):: |^ {10})([\w.]+)", text, re.MULTILINE))
    methods = [f"LockBase.{name}" for name in vars(lockfile.LockBase) if name[0] != "_"]
    methods += [f"AllOf.{name}" for name in vars(lockfile.AllOf) if name[0] != "_"]
    assert {*lockfile.__all__, *methods} - told == set()
