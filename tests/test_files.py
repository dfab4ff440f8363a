"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from geolessons.files import replacing


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path, stop: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as aside:
            aside.write_text("ne")
            assert path.read_text() == "old"
            raise stop

    with pytest.raises(stop):
        write_half()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.json", "old")]
    with replacing(str(path)) as aside:
        aside.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.json", "new")]
