"""Draw the README's moving picture: card C1.1 at 90°, t from 0 to 1, as an animated GIF.

python book/moving_picture.py
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image

from cards import two_roads

TARGET = Path(__file__).parent / "_static" / "two_roads.gif"


def main() -> None:
    """Draw, shrink to few colours, write under a temporary name, rename."""
    frames = []
    for i in range(21):
        page = io.BytesIO()
        two_roads.draw(i / 20, 90).savefig(page, format="png", dpi=100)
        frames.append(Image.open(page).convert("P", palette=Image.Palette.ADAPTIVE, colors=32))
    pauses = [700] + [80] * 19 + [1500]
    aside = TARGET.with_suffix(".tmp")
    frames[0].save(
        aside, format="GIF", save_all=True, append_images=frames[1:], duration=pauses, loop=0, optimize=True
    )
    os.replace(aside, TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
