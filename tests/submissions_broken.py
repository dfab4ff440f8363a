"""Submissions whose files are broken, odd or edited: what is made, and which exercises still get marks."""

from __future__ import annotations

import json
import os

from submissions import RIGHT, Room, case, notebook


@case(note="broken JSON")
def empty_file(room: Room) -> None:
    room.file.write_bytes(b"")


@case(note="broken JSON")
def half_a_file(room: Room) -> None:
    text = json.dumps(room.right())
    room.file.write_text(text[: len(text) // 2])


@case(note="no code cell")
def json_of_another_kind(room: Room) -> None:
    room.write([1, {"cells": 3}])


@case(note="UTF-8")
def binary_file(room: Room) -> None:
    room.file.write_bytes(bytes(range(256)) * 40)


@case(note="UTF-8")
def utf16(room: Room) -> None:
    room.file.write_text(json.dumps(room.right()), encoding="utf16")


@case(note="broken JSON")
def nested_too_deeply(room: Room) -> None:
    room.file.write_text("[" * 200_000 + "]" * 200_000)


@case(note="larger than")
def too_large(room: Room) -> None:
    with room.file.open("wb") as file:
        file.truncate(21 << 20)


@case(note="no code cell")
def no_cells(room: Room) -> None:
    room.write({**room.right(), "cells": []})


@case(note="no code cell")
def cells_that_are_none(room: Room) -> None:
    room.write({**room.right(), "cells": [None, 3, "x", {"cell_type": 4}, {"cell_type": "markdown"}]})


@case(note="no notebook in the folder", student="a_folder.ipynb")
def a_folder(room: Room) -> None:
    room.path.mkdir()  # with a notebook's ending


@case("123", note="several notebooks")
def two_notebooks(room: Room) -> None:
    room.path.mkdir()
    for name, answers, when in (("b", {}, 1), ("a", RIGHT, 2)):
        path = room.path / f"{name}.ipynb"
        path.write_text(json.dumps(notebook(room.assignments, answers)))
        os.utime(path, (when, when))


@case(note="a link")
def link_to_another(room: Room) -> None:
    room.file.symlink_to("aaa_honest.ipynb")


@case(note="not a file")
def a_pipe(room: Room) -> None:
    os.mkfifo(room.file)


@case(note="not a notebook", student="notes.txt")
def not_a_notebook(room: Room) -> None:
    room.path.write_text("I could not open it")


@case(note="which assignment")
def of_no_assignment(room: Room) -> None:
    cells = [{"cell_type": "code", "source": "x = 1", "metadata": {}}]
    room.write({**room.right(), "metadata": {}, "cells": cells})


@case(note="there is no assignment 77")
def of_another_assignment(room: Room) -> None:
    room.write({**room.right(), "metadata": {"coursework": {"assignment": "77"}}})


@case("123", note="nbformat 3")
def nbformat_3(room: Room) -> None:
    found = room.right()
    for cell in found["cells"]:
        cell["input"] = cell.pop("source")
    room.write({"nbformat": 3, "metadata": found["metadata"], "worksheets": [{"cells": found["cells"]}]})


@case("123")
def nbformat_99(room: Room) -> None:
    room.write({**room.right(), "nbformat": 99, "nbformat_minor": "x"})


@case("2", note="no cell answers 9.1, 9.3")
def missing_cells(room: Room) -> None:
    found = room.right()
    found["cells"] = [c for c in found["cells"] if c["metadata"]["coursework"].get("exercise") == "9.2"]
    room.write(found)


@case("123")
def reordered_cells(room: Room) -> None:
    found = room.right()
    found["cells"].reverse()
    room.write(found)


def _twice(room: Room, *answers: str) -> None:
    found = room.right()
    at = next(i for i, c in enumerate(found["cells"]) if c["source"] == RIGHT["9.2"])
    found["cells"][at : at + 1] = [{**found["cells"][at], "source": answer} for answer in answers]
    room.write(found)


@case("123", note="9.2 is answered 2 times")
def right_the_second_time(room: Room) -> None:
    _twice(room, "def spread(x):\n    return 0\n", RIGHT["9.2"])


@case("13", note="9.2 is answered 2 times")
def wrong_the_second_time(room: Room) -> None:
    _twice(room, RIGHT["9.2"], "def spread(x):\n    return 0\n")


@case()
def untouched(room: Room) -> None:
    room.write(notebook(room.assignments, {}))


@case("13")
def edited_checks(room: Room) -> None:
    found = notebook(room.assignments, {**RIGHT, "9.2": "def spread(x):\n    return x.max()\n"})
    for cell in found["cells"]:
        if cell["metadata"]["coursework"]["role"] == "check":
            cell["source"] = "print('9.2: right')"
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["9.2: right"]}]
    room.write(found)


@case("123")
def deleted_checks(room: Room) -> None:
    found = room.right()
    found["cells"] = [c for c in found["cells"] if c["metadata"]["coursework"]["role"] != "check"]
    room.write(found)


@case("123")
def without_metadata(room: Room) -> None:
    found = room.right()
    found["metadata"] = {}
    for cell in found["cells"]:
        cell["metadata"] = {}
    room.write(found)


@case("123")
def told_by_names_alone(room: Room) -> None:
    cells = [{"cell_type": "code", "source": s.splitlines(keepends=True)} for s in RIGHT.values()]
    room.write({"cells": cells, "metadata": None})


@case("13")
def sources_of_odd_kinds(room: Room) -> None:
    found = notebook(room.assignments, {**RIGHT, "9.2": {"a": 1}})  # type: ignore[dict-item]
    found["cells"].append({"cell_type": "code", "source": [1, None], "metadata": []})
    room.write(found)


@case("13")
def half_a_character(room: Room) -> None:
    room.write(notebook(room.assignments, {**RIGHT, "9.2": "x = '\ud800'\ndef spread(x): return 0\n"}))


@case("13")
def zero_bytes(room: Room) -> None:
    room.write(notebook(room.assignments, {**RIGHT, "9.2": "def spread(x):\0 return 0\n"}))


@case("123", student="=HYPERLINK(1)")
def a_formula_for_a_name(room: Room) -> None:
    room.write(room.right())


@case("123", student='@evil | `x` <b>,\n"')
def signs_for_a_name(room: Room) -> None:
    room.write(room.right())


@case("123")
def magics_inside(room: Room) -> None:
    body = "    %time low, high = 0, 1\n    if x.numel() == 0:\n        !echo none\n"
    spread = RIGHT["9.2"].replace("\n", "\n" + body, 1)
    room.write(notebook(room.assignments, {**RIGHT, "9.2": spread}))


@case("123")
def lines_that_look_like_magics(room: Room) -> None:
    spread = 'def spread(x):\n    """\n%time\n"""\n    return ((x.max() - x.min())\n% 1e9)\n'
    twice = "%matplotlib inline\ndef twice(x):\n    return (2 * x\n        % 1e9)\n"
    room.write(notebook(room.assignments, {**RIGHT, "9.2": spread, "9.3": twice}))


@case("123")
def magics(room: Room) -> None:
    room.write(notebook(room.assignments, {**RIGHT, "9.2": "%matplotlib inline\n!ls\n" + RIGHT["9.2"]}))
