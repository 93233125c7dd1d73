"""A layout as HTML: a fragment that a page can include and a browser opens as it is.

Made as a tree, so that every text is escaped; written in ASCII, so that no page's encoding matters.
"""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from .layout import Layout, Row

STYLE = """
.ebc-table { border-collapse: collapse; border-block: 2px solid; margin: 1em auto;
  font: 14px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums }
.ebc-table caption { padding: .5em; font-weight: 600; text-align: start }
.ebc-table th, .ebc-table td { padding: .2em .7em; font-weight: 400; text-align: start;
  vertical-align: top }
.ebc-table thead th { vertical-align: bottom }
.ebc-table thead { border-block-end: 1px solid }
.ebc-table .group { text-align: center;
  background: linear-gradient(currentColor 0 0) bottom / calc(100% - 1.4em) 1px no-repeat }
.ebc-table .begins th, .ebc-table .begins td { border-block-start: 1px solid #999 }
.ebc-table .number { text-align: end; white-space: nowrap }
.ebc-table td[title] { cursor: help }
.ebc-table tfoot td { border-block-start: 1px solid; font-size: 12px }
"""
"""How a table looks; it bears on tables of the class ``ebc-table`` alone."""


def html(layout: Layout, caption: str, note: str = "") -> str:
    """A `style` and a `table` with caption, scopes, and in each cell's title the run it is from.

    Parameters
    ----------
    layout : what the table says
    caption : stands above it
    note : stands below it, small; none where it is empty
    """
    table = Element("table", {"class": "ebc-table"})
    SubElement(table, "caption").text = caption
    _head(SubElement(table, "thead"), layout)
    body = SubElement(table, "tbody")
    for number, row in enumerate(layout.body):
        _row(body, row, layout.is_numeric, begins=number > 0 and row.begins_group)
    if note:
        width = str(len(layout.labels) + len(layout.is_numeric))
        SubElement(SubElement(SubElement(table, "tfoot"), "tr"), "td", colspan=width).text = note
    style = Element("style")
    style.text = STYLE
    for part in (style, table):
        ElementTree.indent(part)
    parts = [ElementTree.tostring(part, "us-ascii", method="html") for part in (style, table)]
    return "\n".join(part.decode() for part in parts) + "\n"


def _head(head: Element, layout: Layout) -> None:
    """Headings by level; the index's names stand beside all of them."""
    levels = len(layout.head)
    for level, headings in enumerate(layout.head):
        line = SubElement(head, "tr")
        is_last = level == levels - 1
        for name in layout.labels if level == 0 else ():
            tag = "th" if name else "td"
            attributes = {"scope": "col"} if name else {}
            attributes |= {"rowspan": str(levels)} if levels > 1 else {}
            SubElement(line, tag, attributes).text = name
        for heading, is_numeric in zip(
            headings, layout.is_numeric if is_last else [False] * len(headings), strict=True
        ):
            attributes = {"scope": "col" if is_last else "colgroup"} if heading.text else {}
            if not is_last:
                attributes |= {"colspan": str(heading.span)}
                attributes |= {"class": "group"} if heading.text else {}
            elif is_numeric:
                attributes["class"] = "number"
            SubElement(line, "th" if heading.text else "td", attributes).text = heading.text


def _row(body: Element, row: Row, is_numeric: tuple[bool, ...], begins: bool) -> None:
    line = SubElement(body, "tr", {"class": "begins"} if begins else {})
    for level, label in enumerate(row.labels):
        if label is None:
            continue  # the label above spans this line, too
        is_inner = level == len(row.labels) - 1
        attributes = {"scope": "row" if is_inner else "rowgroup"}
        attributes |= {} if label.span == 1 else {"rowspan": str(label.span)}
        SubElement(line, "th", attributes).text = label.text
    for cell, number in zip(row.cells, is_numeric, strict=True):
        attributes = {"class": "number"} if number else {}
        attributes |= {"title": f"run: {cell.run}"} if cell.run else {}
        place = SubElement(line, "td", attributes)
        (SubElement(place, "strong") if cell.is_best else place).text = cell.text
