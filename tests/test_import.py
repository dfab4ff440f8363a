"""`import geolessons` stays light, and the examples in the docstrings are true."""

import doctest
import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import geolessons

HEAVY = ("matplotlib", "ipywidgets", "torchvision", "sklearn", "scipy", "tqdm", "IPython", "PIL")
MODULES = sorted(m.name for m in pkgutil.walk_packages(geolessons.__path__, "geolessons."))

REPORT = """
import json, sys, time
import torch
before, start = set(sys.modules), time.perf_counter()
import geolessons
spent = time.perf_counter() - start
print(json.dumps([spent, sorted(set(sys.modules) - before)]))
"""


@pytest.fixture(scope="module")
def report():
    done = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_import_is_quick(report):
    spent, _ = report
    assert spent < 0.5  # about 0.02 s; the promise is 0.1 s on a quiet machine


def test_import_loads_torch_and_itself_only(report):
    _, added = report
    assert not set(HEAVY) & {name.split(".")[0] for name in added}
    ours = [name for name in added if name.startswith("geolessons")]
    assert ours
    for name in ("data", "models", "training", "alignment", "widgets", "studies", "running_example"):
        assert f"geolessons.{name}" not in ours


def test_the_public_names_are_there():
    for name in geolessons.__all__:
        assert getattr(geolessons, name) is not None
    assert geolessons.__version__


@pytest.mark.parametrize("name", MODULES)
def test_all_names_exist_and_docstring_examples_are_true(name):
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), public
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_the_core_has_examples():
    tried = sum(
        doctest.testmod(importlib.import_module(f"geolessons.{name}")).attempted
        for name in ("trees", "arcs", "sphere", "paths", "fields", "adapters")
    )
    assert tried >= 11
