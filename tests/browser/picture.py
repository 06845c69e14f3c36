"""What a page's pictures show, told from their pixels: how much of a strip has a colour, and from where on."""

from typing import Any

_COUNT = """([canvas, shade]) => {
  const known = {
    flow: (r, g, b) => g > r + 50 && b > r + 50,
    upstream: (r, g, b) => r > b + 80 && g > b + 40,
    client: (r, g, b) => b > g + 50 && r > g + 20,
  };
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  let [count, first] = [0, width];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] > 60 && known[shade](data[at], data[at + 1], data[at + 2])) {
      count += 1;
      first = Math.min(first, (at / 4) % width);
    }
  }
  return { count, first, width };
}"""


async def seen(row: Any, shade: str) -> dict[str, int]:
    """Return of a row's strip how many pixels have the colour of `flow`, `upstream` or `client`, and the leftmost of them."""
    canvas = await row.locator("canvas").element_handle()
    found: dict[str, int] = await row.page.evaluate(_COUNT, [canvas, shade])
    return found


async def image(row: Any) -> str:
    """Return a row's strip as it is drawn now."""
    return str(await row.locator("canvas").evaluate("canvas => canvas.toDataURL()"))


def seconds(text: str) -> float:
    """Return a figure of the page, as "1.2 s" or "310 ms", in seconds."""
    value, unit = text.removeprefix("< ").split()
    return float(value) * {"ms": 0.001, "s": 1.0, "min": 60.0}[unit]
