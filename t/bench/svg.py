"""Plots over time as small SVG files, readable in light and in dark.

A Figure has Panels one below the other, over one axis of seconds.  Lines are
steps: what holds at a time holds until the next.
"""

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 760, 62, 18
HEIGHT = 170            # of a panel's plot
ABOVE, BELOW = 46, 44   # of a panel: its name and legend, its axis
TOP = 30

STYLE = """
text{font:13px system-ui,sans-serif;fill:#1f2328}
.t{font-size:16px;font-weight:600}.n{font-weight:600}.s{fill:#59636e}
.g{stroke:#d1d9e0;fill:none}.b{fill:#fff}.w{fill:#818b98;fill-opacity:.22}
.h{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}
.l{stroke:#cf222e;stroke-dasharray:7 4;fill:none;stroke-width:1.5}
.lt{fill:#cf222e}
.p{fill:none;stroke-width:2;stroke-linejoin:round}
.c0{stroke:#0969da;stroke-width:4;stroke-opacity:.6}.c1{stroke:#bc4c00}
@media(prefers-color-scheme:dark){
text{fill:#f0f6fc}.s{fill:#9198a1}.g{stroke:#3d444d}.b{fill:#0d1117}
.h{stroke:#0d1117}.l{stroke:#ff7b72}.lt{fill:#ff7b72}
.c0{stroke:#58a6ff}.c1{stroke:#f0883e}}
"""


@dataclass
class Panel:
    """lines: {name: [(seconds, value)]}, two at most; limits: {name: value}.
    """
    name: str
    lines: dict
    limits: dict = field(default_factory=dict)
    low: float = 0
    high: float = None      # of the axis; by default what is drawn needs


@dataclass
class Figure:
    """bands: {name: (from, to)} are shaded; detail is read to the blind."""
    title: str
    detail: str
    seconds: int
    panels: list
    bands: dict = field(default_factory=dict)

    def text(self):
        height = TOP + len(self.panels) * (ABOVE + HEIGHT + BELOW)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
            f'height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(self.title)}</title>",
            f"<desc>{escape(self.detail)}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="b" width="{WIDTH}" height="{height}"/>',
            f'<text class="t" x="{LEFT}" y="26">{escape(self.title)}</text>',
        ]
        for i, panel in enumerate(self.panels):
            top = TOP + ABOVE + i * (ABOVE + HEIGHT + BELOW)
            parts += self._panel(panel, top)
            if i == 0:
                parts += self._bands(top + HEIGHT - 8)
        return "\n".join([*parts, "</svg>", ""])

    def _x(self, seconds):
        return LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)

    def _bands(self, y):
        """Their names; one panel's are enough."""
        return [f'<text class="s" x="{self._x(start) + 6:.1f}" y="{y}">'
                f"{escape(name)}</text>"
                for name, (start, _) in self.bands.items()]

    def _panel(self, panel, top):
        high = panel.high or 1.12 * max(
            [value for line in panel.lines.values() for _, value in line]
            + list(panel.limits.values()))
        bottom, right = top + HEIGHT, WIDTH - RIGHT

        def y(value):
            return bottom - (value - panel.low) / (high - panel.low) * HEIGHT

        parts = [f'<text class="n" x="{LEFT}" y="{top - 26}">'
                 f"{escape(panel.name)}</text>"]

        for start, end in self.bands.values():
            parts.append(
                f'<rect class="w" x="{self._x(start):.1f}" y="{top}" '
                f'width="{self._x(end) - self._x(start):.1f}" '
                f'height="{HEIGHT}"/>')

        for value in ticks(panel.low, high, 5):
            parts.append(
                f'<path class="g" d="M{LEFT} {y(value):.1f}H{right}"/>'
                f'<text class="s" x="{LEFT - 8}" y="{y(value) + 4:.1f}" '
                f'text-anchor="end">{value:g}</text>')
        for value in ticks(0, self.seconds, 12):
            parts.append(
                f'<path class="g" d="M{self._x(value):.1f} {bottom}v5"/>'
                f'<text class="s" x="{self._x(value):.1f}" y="{bottom + 19}" '
                f'text-anchor="middle">{value:g}</text>')
        parts.append(f'<text class="s" x="{(LEFT + right) / 2:.0f}" '
                     f'y="{bottom + 35}" text-anchor="middle">seconds</text>')

        at = LEFT
        for i, (name, line) in enumerate(panel.lines.items()):
            parts.append(
                f'<path class="p c{i}" d="M{at} {top - 13}h22"/>'
                f'<text x="{at + 28}" y="{top - 9}">{escape(name)}</text>')
            at += 52 + 7 * len(name)
            parts.append(f'<path class="p c{i}" d="'
                         f'{self._steps(line, y, panel.low)}"/>')

        for name, value in panel.limits.items():
            parts.append(
                f'<path class="l" d="M{LEFT} {y(value):.1f}H{right}"/>'
                f'<text class="lt h" x="{right - 4}" y="{y(value) - 5:.1f}" '
                f'text-anchor="end">{escape(name)}</text>')
        return parts

    def _steps(self, line, y, low):
        path, last = "", None

        for seconds, value in line:
            value = max(value, low)
            if last is None:
                path = f"M{self._x(seconds):.1f} {y(value):.1f}"
            elif value != last:
                path += f"H{self._x(seconds):.1f}V{y(value):.1f}"
            last = value
        return path + f"H{self._x(line[-1][0]):.1f}"


def ticks(low, high, most):
    """Round numbers from low to high, so many at most."""
    step = 1
    while (high - low) / step > most:
        step = next(s for s in round_numbers() if s > step)
    first = -(-low // step) * step
    return [first + i * step for i in range(int((high - first) / step) + 1)]


def round_numbers():
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10
