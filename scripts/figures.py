#!/usr/bin/python3
"""usage: scripts/figures.py FILE [DIRECTORY]

Draws pictures of what `scripts/bench --json FILE` has measured: one for each section in the file that has a
function in PICTURES, as DIRECTORY/SECTION.svg (docs/figures by default).

The pictures are for the README, by day and by night: their background is none, and their colours are those of
the reader's theme.
"""

import json
import os
import sys
from xml.sax.saxutils import escape

WIDTH = 760
BAR, GAP, MARGIN = 13, 5, 16
LABELS = 150
# Of ours, of uWSGI, of uWSGI in another way.
KINDS = {"vassal": "ours", "uWSGI": "theirs", "uWSGI, chain": "chain"}
NAMES = {"vassal": "emperor", "uWSGI": "uWSGI's emperor", "uWSGI, chain": "uWSGI, chain reload"}
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600 } .soft { fill: #59636e } .end { text-anchor: end }
.ours { fill: #1a7f37 } .theirs { fill: #bc4c00 } .chain { fill: #d4a72c } .late { opacity: .45 }
.axis { stroke: #d1d9e0 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .soft { fill: #9198a1 } .axis { stroke: #3d444d }
.ours { fill: #3fb950 } .theirs { fill: #db6d28 } .chain { fill: #9e6a03 }
}
"""


class Picture:
    """Shapes, from the top downwards."""

    def __init__(self, title):
        self.title, self.y, self.shapes = title, MARGIN, []

    def text(self, x, text, kinds=""):
        """A line of text that stands on the present height."""
        self.shapes.append(f'<text x="{x:.0f}" y="{self.y:.0f}" class="{kinds}">{escape(text)}</text>')

    def bar(self, x, width, kinds):
        """A bar beside the text at the present height. Whatever is not nothing can be seen."""
        self.shapes.append(f'<rect x="{x:.1f}" y="{self.y - BAR + 3:.0f}" width="{max(width, 1):.1f}" '
                           f'height="{BAR}" class="{kinds}"/>')

    def line_down(self, x, to):
        """The axis of a panel, from the present height."""
        top = self.y - BAR
        self.shapes.append(f'<line x1="{x:.0f}" y1="{top:.0f}" x2="{x:.0f}" y2="{to:.0f}" class="axis"/>')

    def svg(self):
        height = self.y + MARGIN / 2
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" role="img">',
            f"<title>{escape(self.title)}</title>", f"<style>{STYLE}</style>", *self.shapes, "</svg>", "",
        ])


def number(value):
    """As many digits as one reads."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def panels(picture, groups, columns):
    """Bars for each row of each group, in panels side by side. A group is its heading, and rows of a name, a
    kind and a value for each column; a column is its heading and a unit."""
    room = (WIDTH - LABELS) / len(columns)
    rows = [row for _, group in groups for row in group]
    most = [max(max(row[2][index] for row in rows), 1e-9) for index in range(len(columns))]
    lefts = [LABELS + room * index for index in range(len(columns))]
    for left, (heading, _) in zip(lefts, columns):
        picture.text(left, heading, "head")
    for heading, group in groups:
        picture.y += BAR + 2 * GAP
        picture.text(0, heading, "head")
        picture.y += BAR + GAP
        for left in lefts:
            picture.line_down(left, picture.y + (BAR + GAP) * (len(group) - 1) + GAP)
        for name, kind, values in group:
            picture.text(8, name)
            for left, value, top, (_, unit) in zip(lefts, values, most, columns):
                width = (room - 80) * value / top
                if value:
                    picture.bar(left, width, kind)
                picture.text(left + width + 6, f"{number(value)}{unit}", "" if kind == "ours" else "soft")
            picture.y += BAR + GAP


def replicas(of, machine):
    """What a reload, a lost filesystem and a bad deploy cost."""
    picture = Picture("Requests during reloads, losses and bad deploys: emperor and uWSGI's emperor")
    groups = []
    for what, heading in [("reload", "A new version is deployed"),
                          ("kill of fuse-zip", "A FUSE filesystem is killed"),
                          ("deploy of a mistake", "A version that does not load is deployed")]:
        rows = []
        for name, kind in KINDS.items():
            seen = of.get(name, {}).get(what)
            if seen:
                lost = 100 * (seen["refused"] + seen["failed"]) / seen["asked"]
                gap = seen.get("around", seen)["longest_gap_ms"]
                replicas_of = ", 2 replicas" if name == "vassal" else ""
                rows.append((NAMES[name] + replicas_of, kind, [lost, gap]))
        groups.append((heading, rows))
    panels(picture, groups, [("refused or lost meanwhile", " %"), ("longest time without an answer", " ms")])
    times = of["vassal"]["reload"]["times"]
    picture.y += GAP
    picture.text(0, f"Real uWSGI over fuse-zip, 250 requests a second; each of these {times} times, "
                    f"with uWSGI's emperor {of['uWSGI']['reload']['times']} times.", "soft")
    picture.y += BAR + GAP
    picture.text(0, machine, "soft")
    return picture


def recovery(of, machine):
    """A killed filesystem: when it is noticed, when all is gone, when somebody serves again."""
    picture = Picture("A FUSE daemon is killed: noticed, the instance gone, another one serving")
    names = [name for name in ("vassal", "uWSGI") if name in of]
    most = max(of[name]["serving_ms"]["p50"] for name in names)
    picture.text(0, "kill -9 of the FUSE daemon, one instance: noticed, gone, serving again", "head")
    for name in names:
        picture.y += BAR + 2 * GAP
        picture.text(8, NAMES[name])
        gone, serving = (of[name][what]["p50"] for what in ("destroyed_ms", "serving_ms"))
        scale = (WIDTH - LABELS - 240) / most
        picture.bar(LABELS, gone * scale, KINDS[name])
        picture.bar(LABELS + gone * scale, (serving - gone) * scale, f"{KINDS[name]} late")
        noticed = of[name].get("detected_ms")
        words = [f"noticed {noticed['p50']:.1f}"] if noticed else []
        words += [f"gone {number(gone)}", f"serving {number(serving)} ms"]
        picture.text(LABELS + serving * scale + 6, ", ".join(words))
    picture.y += BAR + 2 * GAP
    picture.text(0, f"Median of {of['vassal']['serving_ms']['n']} kills. {machine}", "soft")
    return picture


# Of sections of the bench.
PICTURES = {"replicas": replicas, "recovery": recovery}


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    directory = os.path.join(os.path.dirname(__file__), "../docs/figures")
    if len(sys.argv) == 3:
        directory = sys.argv[2]
    os.makedirs(directory, exist_ok=True)
    with open(sys.argv[1], encoding="utf-8") as file:
        report = json.load(file)
    machine = "Linux {kernel}, {cpus} CPUs, load average {load_average:.0f}".format(**report["machine"])
    if report["machine"]["is_real_time"]:
        machine += " of other programs, which had to wait"
    for section, of in report["sections"].items():
        if section in PICTURES:
            with open(os.path.join(directory, f"{section}.svg"), "w", encoding="utf-8") as file:
                file.write(PICTURES[section](of, machine).svg())


if __name__ == "__main__":
    main()
