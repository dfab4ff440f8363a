"""A table that a cell makes: text where a notebook is read, HTML on the page."""

import html
import os
from collections.abc import Sequence

from geolessons.multitask_metrics import delta_m


class Table:
    """Rows of text below heads; a row of one entry is a heading for those after it."""

    def __init__(self, heads: Sequence[str], rows: Sequence[Sequence[str]]):
        self.heads, self.rows = list(heads), [list(row) for row in rows]
        wrong = [row for row in self.rows if len(row) not in (1, len(self.heads))]
        if wrong:
            raise ValueError(f"{wrong[0]} has {len(wrong[0])} entries; the table has {len(self.heads)}")

    def __repr__(self) -> str:
        whole = [self.heads] + [row for row in self.rows if len(row) > 1]
        widths = [max(len(entry) for entry in column) for column in zip(*whole, strict=True)]

        def line(row: list[str]) -> str:
            first, *rest = zip(row, widths, strict=True)
            cells = [f"{first[0]:<{first[1]}}", *(f"{entry:>{width}}" for entry, width in rest)]
            return "  ".join(cells).rstrip()

        return "\n".join([line(self.heads)] + [line(row) if len(row) > 1 else row[0] for row in self.rows])

    def _repr_html_(self) -> str | None:
        if os.environ.get("GEOLESSONS_PUBLISH") != "1":
            return None  # in the notebook it is text, which nbval compares
        head = "".join(f'<th scope="col">{html.escape(entry)}</th>' for entry in self.heads)
        body = ""
        for row in self.rows:
            if len(row) == 1:
                wide = f'<th scope="rowgroup" colspan="{len(self.heads)}">'
                body += f"<tr>{wide}{html.escape(row[0])}</th></tr>"
                continue
            first, *rest = (html.escape(entry) for entry in row)
            cells = "".join(f"<td>{entry.replace(' (', '<br>(')}</td>" for entry in rest)  # interval below
            body += f'<tr><th scope="row" style="font-weight:normal">{first}</th>{cells}</tr>'
        return f'<table class="table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


METHODS = {
    "single": "single task",
    "full": "all weights",
    "lora-each": "LoRA a task",
    "lora": "joint LoRA",
    "mtlora": "MTLoRA",
    "literal": "DELoRA, literal",
    "centred": "centred (ours)",
    "normalised": "normalised (ours)",
    "normalised-4": "same, 4 steps (ours)",
}
SINGLE_PASS = ("full", "lora", "mtlora", "literal", "centred", "normalised", "normalised-4")
METRICS = {
    "semseg": "semseg.mIoU",
    "human_parts": "human_parts.mIoU",
    "saliency": "saliency.mIoU",
    "normals": "normals.mean angle",
}


def answers(printed: dict[str, tuple[float, ...] | None], values: dict[str, dict]) -> Table:
    """The paper's rows, of which None could not be found there, above those of the study `multitask`."""
    single = dict(zip(METRICS, printed["single task"], strict=True))
    theirs = []
    for name, row in printed.items():
        cells = ["–"] * 5
        if row:
            score = delta_m(dict(zip(METRICS, row, strict=True)), single, ["normals"])
            cells = [f"{x:.2f}" for x in row] + [signed(score) if name != "single task" else "0"]
        theirs.append([name, *cells])
    ours = []
    for method, name in METHODS.items():
        cells = [spread(values[f"{method}.{metric}"]) for metric in METRICS.values()]
        score = values[f"{method}.delta_m"]
        ours.append([name, *cells, spread(score, signed) if method != "single" else "0"])
    n = values["lora.delta_m"]["n"]
    return Table(
        ["method", "classes, mIoU %", "parts, mIoU %", "saliency, mIoU %", "normals, °", "Δ_m, %"],
        [
            ["printed in the paper, but for Δ_m: Swin-Tiny, PASCAL-Context, 448 px"],
            *theirs,
            [f"ours: small Swin, scenes, 64 px, n = {n}"],
            *ours,
            ["ours: Swin-Tiny, PASCAL-Context, 448 px (could not be run)"],
            ["all methods", *["–"] * 5],
        ],
    )


def costs(values: dict[str, dict]) -> Table:
    """What each method of the study trains, holds and takes."""
    rows = []
    for method, name in METHODS.items():
        trained, size, ms, kept = (
            values[f"{method}.{key}"]["mean"] for key in ("trainable", "network", "step ms", "step kept MB")
        )
        passes = "1" if method in SINGLE_PASS else "4"
        rows.append([name, f"{trained:,.0f}", f"{size:,.0f}", f"{ms:,.0f}", f"{kept:,.0f}", passes])
    return Table(["method", "trained numbers", "numbers in all", "step, ms", "kept, MB", "passes"], rows)


def signed(x: float) -> str:
    """A number with its sign, two digits."""
    return f"{x:+.2f}".replace("-", "−")


def plain(x: float) -> str:
    """A number, one digit."""
    return f"{x:.1f}".replace("-", "−")


def spread(found: dict, form=plain) -> str:
    """Mean and 95 % interval."""
    return f"{form(found['mean'])} ({form(found['low'])} to {form(found['high'])})"
