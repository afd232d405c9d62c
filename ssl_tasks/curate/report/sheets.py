"""Contact sheets: the page's pictures as PNG files, a row a group."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ssl_tasks.curate.report.pictures import Tile
from ssl_tasks.report.theme import LIGHT

CELL, GAP, TEXT = 112, 8, 18
"""Side of a picture, the room around it and the height of the line below it, in pixels."""
ROWS = 12


def sheet(rows: Sequence[Sequence[Tile]]) -> bytes:
    """PNG of the first `ROWS` rows: green frames are kept, red ones removed; ids below."""
    rows = rows[:ROWS]
    width = GAP + max(len(row) for row in rows) * (CELL + GAP)
    canvas = Image.new("RGB", (width, GAP + len(rows) * (CELL + TEXT + GAP)), LIGHT.card)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    frames = {"kept": LIGHT.right, "gone": LIGHT.wrong, "": LIGHT.line}
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            x, y = GAP + across * (CELL + GAP), GAP + down * (CELL + TEXT + GAP)
            draw.rectangle((x, y, x + CELL - 1, y + CELL - 1), fill=LIGHT.line)
            if tile.picture:
                shown = tile.picture
                if tile.crisp:
                    times = CELL // max(shown.size)
                    shown = shown.resize((shown.width * times, shown.height * times), Image.Resampling.NEAREST)
                canvas.paste(shown, (x + (CELL - shown.width) // 2, y + (CELL - shown.height) // 2))
            draw.rectangle((x - 2, y - 2, x + CELL + 1, y + CELL + 1), outline=frames[tile.tone], width=2)
            draw.text((x, y + CELL + 3), f"{tile.id}  {tile.note or tile.fault}".rstrip()[:18], LIGHT.muted, font)
    buffer = io.BytesIO()
    canvas.quantize(255, Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
