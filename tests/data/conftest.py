"""What the tests of this room need beside what all have."""

import pytest
from tqdm.auto import tqdm


@pytest.fixture
def bars_at_once(monkeypatch):
    """Show progress bars from the first moment, not only where something takes its time."""
    begin = tqdm.__init__
    monkeypatch.setattr(tqdm, "__init__", lambda bar, *args, **options: begin(bar, *args, **options | {"delay": 0}))
