"""The claims ledger itself: what is written, and what a run that differs from it is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLAIMS = '''
import pytest

@pytest.mark.claim("G10", source="a paper, Eq. 3", expected="0.5")
def test_ten(measured):
    """Half of it.

    Not part of the claim.
    """
    measured("0.5")
    measured("0.25", verdict="within limits", limits="small angles")

@pytest.mark.claim("G2", source="another", expected="1")
def test_two(measured):
    """All of it."""
    measured(VALUE, verdict="does not hold here")
'''
SILENT = """

@pytest.mark.claim("G3", source="a third", expected="")
def test_three(measured):
    pass
"""


def run(folder, claims, *options):
    """Run these claims in a project of their own; (exit status, what was said)."""
    (folder / "test_claims.py").write_text(claims, encoding="utf8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # others take seconds to load
    ended = subprocess.run(
        command, cwd=folder, env=alone, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


@pytest.fixture
def project(tmp_path):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = claim\n")
    assert run(tmp_path, CLAIMS.replace("VALUE", "'0.75'"), "--ledger", "ledger.json")[0] == 0
    return tmp_path


def test_it_holds_what_was_measured_in_natural_order(project):
    two, ten = json.loads((project / "ledger.json").read_text())["claims"]
    assert (two["id"], two["measured"]) == ("G2", "0.75")
    assert ten == {
        "id": "G10",
        "claim": "Half of it.",
        "measured": "0.5; 0.25",
        "verdict": "within limits",
        "limits": "small angles",
        "test": "test_claims.py::test_ten",
        "source": "a paper, Eq. 3",
        "expected": "0.5",
    }
    assert [path.name for path in project.glob("*.tmp")] == []


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]])
def test_a_run_that_differs_from_it_fails_and_says_where(project, workers):
    against = ["--ledger-against", "ledger.json", *workers]
    same, other = (CLAIMS.replace("VALUE", value) for value in ("'0.75'", "'0.7'"))
    assert run(project, same, *against)[0] == 0
    status, said = run(project, other, *against)
    assert status == 1
    assert "claims ledger: G2, measured: committed '0.75', now '0.7'" in said
    assert "run `make claims`" in said
    status, said = run(project, same.replace('"G2"', '"G4"'), *against)
    assert status == 1
    assert "G2 is in one ledger only" in said
    assert "G4 is in one ledger only" in said
    status, said = run(project, same.replace('source="another"', 'source="a misprint"'), *against)
    assert status == 1
    assert "G2, source: committed 'another', now 'a misprint'" in said


def test_a_claim_that_measures_nothing_fails(project):
    status, said = run(project, CLAIMS.replace("VALUE", "'0.75'") + SILENT)
    assert status == 1
    assert "test_three is marked claim and recorded nothing" in said
