"""Short trials: the commands are tested, not who wins; the trials have tests of their own."""

from __future__ import annotations

import pytest

from verification.experiments import trials


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the requests."""
    monkeypatch.setattr(trials, "REQUESTS", trials.REQUESTS // 10)
