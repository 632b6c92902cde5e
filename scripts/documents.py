"""The blocks of code in the documents, for whatever runs what is written there: lines that are indented by
four spaces or more."""

import re
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent


def blocks(document):
    """All of a document, each without what it is indented by."""
    found, lines, blank = [], [], 0
    for line in [*(REPO / document).read_text(encoding="utf-8").splitlines(), "end"]:
        if line.startswith("    "):
            lines += [""] * blank + [line]
            blank = 0
        elif lines and not line:
            blank += 1
        elif lines:
            indent = min(len(line) - len(line.lstrip()) for line in lines if line)
            found.append("".join(f"{line[indent:]}\n" for line in lines))
            lines, blank = [], 0
    return found


def block(document, beginning):
    """The one that begins so."""
    found = [text for text in blocks(document) if text.startswith(beginning)]
    if len(found) != 1:
        raise ValueError(f"{document}: {len(found)} blocks begin with {beginning!r}, and not one")
    return found[0]


def commands(text):
    """The lines of a block, without comments."""
    return [re.sub(r" +#.*", "", line) for line in text.splitlines()]


def commands_below(document, heading):
    """Those of all blocks of a section."""
    section = (REPO / document).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    return commands("\n".join(lines))
