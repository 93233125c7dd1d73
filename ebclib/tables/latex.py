"""A layout as LaTeX, ruled as booktabs rules tables.

pandas' own writer knows neither rules under a group of columns nor a note below the table.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import accumulate

from pylatexenc.latexencode import (
    RULE_DICT,
    UnicodeToLatexConversionRule,
    UnicodeToLatexEncoder,
)

from .layout import Heading, Layout, Row

# In LaTeX's first font encoding a bare | prints a dash.
_BAR = UnicodeToLatexConversionRule(RULE_DICT, {ord("|"): r"\textbar"})


def latex(layout: Layout, caption: str, label: str, note: str = "") -> str:
    r"""A `table` environment that a document with `booktabs` and `graphicx` can \\input.

    A table wider than the line is shrunk to it. Text is text: nothing in a cell, heading, caption or
    note is taken for a command.

    Parameters
    ----------
    layout : what the table says
    caption : stands above it
    label : what \\ref is given, of letters, digits, colons and hyphens
    note : stands below it, small; none where it is empty

    Raises
    ------
    ValueError : a character that LaTeX has no command for; it is named
    """
    stubs = len(layout.labels)
    numeric = ["r" if is_numeric else "l" for is_numeric in layout.is_numeric]
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        r"\begin{table}[tbp]",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{{label}}}",
        r"\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{'l' * stubs}{''.join(numeric)}@{{}}}}",
        r"\toprule",
        *_head(layout, numeric),
        r"\midrule",
    ]
    for number, row in enumerate(layout.body):
        if number and row.begins_group:
            lines.append(r"\addlinespace")
        lines.append(_row(row))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if note:
        lines.append(rf"\par\medskip\parbox{{\linewidth}}{{\footnotesize {escaped(note)}}}")
    return "\n".join([*lines, r"\end{table}", ""])


def escaped(text: str) -> str:
    r"""Text as LaTeX prints it, in ASCII.

    >>> print(escaped("50 % of a_b: 1.2 × 3 ± 0.4"))
    50 \% of a\_b: 1.2 {\texttimes} 3 \ensuremath{\pm} 0.4

    Raises
    ------
    ValueError : a character that LaTeX has no command for; it is named
    """
    try:
        return _encoder("fail").unicode_to_latex(text)
    except ValueError:
        known = _encoder("ignore").unicode_to_latex
        unknown = [character for character in text if not known(character)]
        raise ValueError(
            f"{text!r} holds {' '.join(unknown)}, which LaTeX has no command for; write it in words."
        ) from None


@cache
def _encoder(unknown: str) -> UnicodeToLatexEncoder:
    return UnicodeToLatexEncoder(
        conversion_rules=[_BAR, "defaults"],
        unknown_char_policy=unknown,
        unknown_char_warning=False,
    )


def _cell(text: str) -> str:
    r"""A cell's text; braces keep `\\` and rules before it from taking [ or * for an option of theirs."""
    inside = escaped(text)
    return f"{{{inside}}}" if re.match(r"[\[*]", inside) else inside


def _row(row: Row) -> str:
    labels = [_cell(label.text) if label else "" for label in row.labels]
    cells = [
        rf"\textbf{{{_cell(cell.text)}}}" if cell.is_best else _cell(cell.text)
        for cell in row.cells
    ]
    return " & ".join([*labels, *cells]) + r" \\"


def _head(layout: Layout, numeric: list[str]) -> list[str]:
    r"""The lines of the head, with a \\cmidrule under each group; the index's names stand in the last."""
    stubs = len(layout.labels)
    lines = []
    for level, headings in enumerate(layout.head):
        is_last = level == len(layout.head) - 1
        names = [_cell(name) if is_last else "" for name in layout.labels]
        starts = [stubs + 1, *accumulate([h.span for h in headings], initial=stubs + 1)][1:-1]
        if is_last:
            texts = [
                _heading(heading, kind) for heading, kind in zip(headings, numeric, strict=True)
            ]
        else:
            texts = [_heading(heading, "c") for heading in headings]
        lines.append(" & ".join([*names, *texts]) + r" \\")
        if not is_last:
            rules = [
                rf"\cmidrule(lr){{{start}-{start + heading.span - 1}}}"
                for start, heading in zip(starts, headings, strict=True)
                if heading.text
            ]
            lines += [" ".join(rules)] if rules else []
    return lines


def _heading(heading: Heading, alignment: str) -> str:
    if alignment == "c":
        return rf"\multicolumn{{{heading.span}}}{{c}}{{{escaped(heading.text)}}}"
    return _cell(heading.text)
