#!/usr/bin/env python3
"""Draws the cost of an event against how many there were before, from the CSV of

    cargo bench --bench headline -- --flat > flat.csv
    benches/plot.py flat.csv docs/flat.svg

Needs nothing but Python. Lines that are not numbers are skipped.
"""

import math
import sys

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP, BOTTOM = 760, 170, 70, 110, 40, 40, 50
INK, GRID, BUS, FLOOR = "#333", "#ddd", "#1f6feb", "#8a8a8a"


def read(path):
    """Rows of events, ns per event, floor ns, ratio, resident KiB, mean ns."""
    rows = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            try:
                rows.append([float(cell) for cell in line.split(",")])
            except ValueError:
                continue
    if not rows or any(len(row) != 6 for row in rows):
        sys.exit(f"{path}: not the output of --flat")
    return rows


def ceiling(value):
    """The next 1, 2 or 5 times a power of ten: an axis that starts at 0 and ends there."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


class Panel:
    """One diagram; x is logarithmic and shared."""

    def __init__(self, top, title, highest, first, last):
        self.top, self.highest = top, ceiling(highest)
        self.first, self.last = math.log10(first), math.log10(last)
        self.parts = [text(LEFT, top - 10, title, anchor="start", weight="bold")]
        for step in range(5):
            value = self.highest * step / 4
            y = self.y(value)
            self.parts.append(line(LEFT, y, WIDTH - RIGHT, y))
            self.parts.append(text(LEFT - 8, y + 4, f"{value:,.4g}" if value < 10_000 else f"{value:,.0f}", anchor="end"))
        for power in range(math.ceil(self.first), math.floor(self.last) + 1):
            x = self.x(10**power)
            self.parts.append(line(x, top, x, top + PANEL))
            self.parts.append(text(x, top + PANEL + 18, f"{10**power:,}"))

    def x(self, events):
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(events) - self.first) / (self.last - self.first)

    def y(self, value):
        return self.top + PANEL * (1 - value / self.highest)

    def curve(self, points, name, colour):
        at = [(self.x(events), self.y(value)) for events, value in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        self.parts.append(text(WIDTH - RIGHT + 10, at[-1][1] + 4, name, anchor="start", colour=colour))


def text(x, y, words, anchor="middle", weight="normal", colour=INK):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">{words}</text>'


def line(x1, y1, x2, y2):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{GRID}"/>'


def draw(rows):
    first, last = rows[0][0], rows[-1][0]
    time = Panel(TOP, "nanoseconds per event", max(max(row[1:3]) for row in rows), first, last)
    time.curve([(row[0], row[2]) for row in rows], "by hand", FLOOR)
    time.curve([(row[0], row[1]) for row in rows], "threadbus", BUS)
    memory = Panel(TOP + PANEL + GAP + 20, "resident memory, MiB", max(row[4] for row in rows) / 1024, first, last)
    memory.curve([(row[0], row[4] / 1024) for row in rows], "process", BUS)
    height = memory.top + PANEL + BOTTOM
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            *time.parts,
            *memory.parts,
            text((LEFT + WIDTH - RIGHT) / 2, height - 10, "events on one bus so far"),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], "w", encoding="utf-8") as svg:
        svg.write(draw(read(sys.argv[1])))
