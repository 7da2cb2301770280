"""Sample grids, enlarged so that a person can look at 64-pixel scenes."""

from pathlib import Path

from PIL import Image
from torch import Tensor


def save_grid(images: Tensor, path: Path, columns: int = 12, enlarge: int = 2) -> None:
    """Write (N, 3, S, S) images in 0..1 as one PNG."""
    pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    count, height, width, _ = pixels.shape
    sheet = Image.new("RGB", (columns * width, -(-count // columns) * height), "white")
    for index, picture in enumerate(pixels):
        sheet.paste(Image.fromarray(picture), ((index % columns) * width, (index // columns) * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * enlarge, sheet.height * enlarge), Image.Resampling.NEAREST).save(path)
