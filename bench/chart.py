"""Bar charts as SVG: a panel a figure, a bar a client, a whisker from the lowest to the highest round."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.results import ClientSummary, Column

PANEL_WIDTH, LABEL_WIDTH, VALUE_WIDTH = 300, 130, 64
BAR, GAP, TOP = 18, 9, 64
OURS_COLOUR, OTHER_COLOUR, FLOOR_COLOUR, INK = "#0b7a75", "#b8bfc6", "#e0c36a", "#24292f"


def _colour(client: str) -> str:
    return OURS_COLOUR if client.startswith("btfast") else FLOOR_COLOUR if client in ("floor", "disk") else OTHER_COLOUR


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _panel(left: float, column: Column, clients: Sequence[ClientSummary]) -> list[str]:
    arrow = "more is better" if column.better == "more" else "less is better"
    parts = [_text(left, TOP - 12, f"{column.title} ({arrow})", weight="bold")]
    spreads = [client.figures.get(column.key) for client in clients]
    top = max((spread.high for spread in spreads if spread), default=0) or 1.0
    scale = (PANEL_WIDTH - VALUE_WIDTH) / top
    for row, (client, spread) in enumerate(zip(clients, spreads, strict=True)):
        y = TOP + row * (BAR + GAP)
        middle = y + BAR / 2
        if spread is None:
            parts.append(_text(left, middle + 4, "not measured"))
            continue
        width = max(spread.median * scale, 1)
        parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{_colour(client.client)}"/>')
        low, high = left + spread.low * scale, left + spread.high * scale
        whisker = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {y + 5}v8M{high:.1f} {y + 5}v8"
        parts.append(f'<path d="{whisker}" stroke="{INK}"/>')
        parts.append(_text(max(left + width, high) + 6, middle + 4, f"{spread.median:.{column.digits}f}"))
    return parts


def draw(title: str, clients: Sequence[ClientSummary], columns: Sequence[Column]) -> str:
    """The SVG document; clients from top to bottom in the order given, a panel for each column."""
    width = LABEL_WIDTH + len(columns) * (PANEL_WIDTH + 24) + 16
    height = TOP + len(clients) * (BAR + GAP) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(16, 26, title, size=15, weight="bold"),
    ]
    for row, client in enumerate(clients):
        y = TOP + row * (BAR + GAP) + BAR / 2 + 4
        parts.append(_text(LABEL_WIDTH, y, client.client, anchor="end"))
    for number, column in enumerate(columns):
        parts += _panel(LABEL_WIDTH + 12 + number * (PANEL_WIDTH + 24), column, clients)
    return "\n".join([*parts, "</svg>", ""])
