"""The claims ledger: each test marked `claim` records what it measured; `--ledger` writes it all down."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VERDICTS = ("holds", "within limits", "not shown here", "does not hold here", "not testable here")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("claims ledger")
    group.addoption("--ledger", metavar="FILE", help="write what the claim tests measured to this JSON file")
    group.addoption(
        "--ledger-against", metavar="FILE", help="fail unless it agrees with this committed ledger"
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers only report to the process that started them
        config.pluginmanager.register(Ledger(config))


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Record a claim's outcome: `measured("2.3e-9", verdict="holds")`.

    Several calls are joined; the verdict is that of the last.  `limits` says where a claim holds.
    """
    marker = request.node.get_closest_marker("claim")
    assert marker, "the fixture `measured` belongs to tests marked `claim`"

    def record(value: str, *, verdict: str = "holds", limits: str = "") -> None:
        assert verdict in VERDICTS, f"verdict {verdict!r} is not one of {VERDICTS}"
        assert bool(limits) == (verdict == "within limits"), "limits go with the verdict 'within limits'"
        request.node.user_properties.append(("measured", (value, verdict, limits)))

    return record


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A claim test that passed must have recorded something; what it recorded goes into the ledger."""
    report = yield
    marker = item.get_closest_marker("claim")
    if marker and call.when == "call" and report.passed:
        records = [value for name, value in item.user_properties if name == "measured"]
        if not records:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} is marked claim and recorded nothing: call `measured(…)`"
            return report
        _, verdict, limits = records[-1]
        sentence = " ".join((item.function.__doc__ or "").split("\n\n")[0].split())  # type: ignore[attr-defined]
        entry = {
            "id": marker.args[0],
            "claim": sentence,
            "measured": "; ".join(value for value, _, _ in records),
            "verdict": verdict,
            "limits": limits,
            "test": item.nodeid,
            **marker.kwargs,
        }
        report.user_properties.append(("entry", entry))
    return report


class Ledger:
    """What the claim tests of a run reported, from however many processes."""

    def __init__(self, config: pytest.Config) -> None:
        self.write_to = config.getoption("--ledger")
        self.against = config.getoption("--ledger-against")
        self.claims: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.claims |= {entry["id"]: entry for name, entry in report.user_properties if name == "entry"}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        names = sorted(self.claims, key=lambda k: (k[0], int(re.sub(r"\D", "", k)), k))
        found = {"claims": [self.claims[name] for name in names]}
        if self.write_to:
            aside = Path(self.write_to + ".tmp")
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
            os.replace(aside, self.write_to)
        if self.against:
            differences = disagreements(json.loads(Path(self.against).read_text(encoding="utf8")), found)
            if differences and session.exitstatus == 0:
                session.exitstatus = 1
            for line in differences:
                print(f"\nclaims ledger: {line}")


def disagreements(committed: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs between a committed ledger and this run, in words."""
    before, now = ({c["id"]: c for c in ledger["claims"]} for ledger in (committed, found))
    lines = [f"{key} is in one ledger only" for key in sorted(before.keys() ^ now.keys())]
    for key in sorted(before.keys() & now.keys()):
        for field in sorted(before[key].keys() | now[key].keys()):
            was, is_now = before[key].get(field), now[key].get(field)
            if was != is_now:
                lines.append(f"{key}, {field}: committed {was!r}, now {is_now!r}")
    if lines:
        lines.append("where the new ones are right, run `make claims` and commit the result")
    return lines
