"""What each metric makes of ten changes of a photograph, and where real pictures lie: `python -m benchmarks.metric_changes FOLDER`.

FOLDER holds photographs in folders of classes, at any depth (`N_class` is `class`). Every photograph is compared with itself changed: brighter
by 20 levels, JPEG of quality 30, mirrored, shifted by 5 %, blurred, its hue turned by 30 degrees, another photograph of the class, one of
another class, noise, and its mean colour. Then the ruler of an evaluation is laid under every fifth photograph.

The encoder is a small one of open_clip, trained here on the other photographs for a few minutes (two crops of one photograph belong together
and to the name of its class, noise and plain colours to none), or `--encoder`, as evaluations name it.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from fashion_ml.data.pictures import is_image, load_picture
from fashion_ml.evaluation.encoder_check import flat_of, noise_of
from fashion_ml.evaluation.instruments import load_encoder
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.ruler import RealPictures, Ruler, lay_ruler
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.metrics.registry import LOSSES, asked_for
from fashion_ml.runtime.console import bar, say, show_lines

_SIDE, _EDGE = 64, 96
_WEIGHTS = {"visual_loss": 0.2, "fashion_clip_loss": 0.6, "color_loss": 0.2}
_SHOWN = (*LOSSES, "ciede2000", "color_correlation_masked")
_HELD_OUT = 5
"""Every so many photographs one is not trained on."""


def brighter(picture: Image.Image) -> Image.Image:
    """20 of 255 levels more."""
    return picture.point(lambda level: min(level + 20, 255))


def jpeg(picture: Image.Image) -> Image.Image:
    """Written and read at quality 30."""
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=30)
    return Image.open(buffer).convert("RGB")


def mirrored(picture: Image.Image) -> Image.Image:
    """Left and right exchanged."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def shifted(picture: Image.Image) -> Image.Image:
    """5 % to the right and down, round the edge."""
    return Image.fromarray(np.roll(np.asarray(picture), (picture.height // 20, picture.width // 20), (0, 1)))


def blurred(picture: Image.Image) -> Image.Image:
    """Gaussian, 2 % of the shorter side."""
    return picture.filter(ImageFilter.GaussianBlur(min(picture.size) * 0.02))


def turned(picture: Image.Image) -> Image.Image:
    """Hue by 30 of 360 degrees."""
    hue, saturation, value = picture.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda level: (level + 21) % 256), saturation, value)).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "brightness +20": brighter,
    "JPEG quality 30": jpeg,
    "flip": mirrored,
    "shift 5 %": shifted,
    "blur": blurred,
    "hue +30°": turned,
}


def found(folder: Path) -> tuple[list[Path], list[str]]:
    """Photographs, and the class of each by its folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path.name))
    return paths, [re.sub(r"^\d+_", "", path.parent.name) for path in paths]


def train_encoder(pictures: Sequence[Image.Image], classes: Sequence[str], steps: int) -> FashionClip:
    """A small image tower of open_clip whose embeddings know a photograph by its parts, its class, and noise and plain colours as neither."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transform import PreprocessCfg, image_transform_v2

    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    small = torch.stack([_tensor(picture.resize((_EDGE, _EDGE), Image.Resampling.BICUBIC)) for picture in pictures])
    tower = ModifiedResNet(layers=(1, 2, 2, 1), output_dim=128, heads=8, image_size=_SIDE, width=24)
    names = sorted(set(classes))
    label = torch.tensor([names.index(name) for name in classes])
    texts = torch.nn.Parameter(torch.randn(len(names) + 1, 128) * 0.1)  # the last is of what is no photograph
    optimizer = torch.optim.AdamW([*tower.parameters(), texts], lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    with bar("train an encoder", steps) as progress:
        for _ in range(steps):
            rows = torch.randint(0, len(small), (48,), generator=draw)
            views = [torch.cat([_crops(small[rows], draw), _nothing(8, draw)]) for _ in range(2)]
            first, second = F.normalize(tower(torch.cat(views)), dim=1).chunk(2)
            target = torch.cat([label[rows], torch.full((8,), len(names))])
            same = rows[:, None] == rows[None]
            logits = first @ second.T / 0.1
            logits[:48, :48] = logits[:48, :48].masked_fill(same & ~torch.eye(48, dtype=torch.bool), -1e4)
            named = F.cross_entropy(first @ F.normalize(texts, dim=1).T / 0.1, target)
            places = torch.arange(48)
            loss = F.cross_entropy(logits[:48], places) + F.cross_entropy(logits.T[:48], places) + named
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.advance()
    say(f"loss at the end: {loss.item():.3f}")
    model = torch.nn.Module()
    model.visual = tower  # type: ignore[assignment]
    model.encode_image = tower.forward  # type: ignore[assignment]
    preprocess = image_transform_v2(
        PreprocessCfg(size=_SIDE, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash"), is_train=False
    )
    return FashionClip("trained here", "trained here", model.eval(), preprocess, None)


def _tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 127.5 - 1


def _crops(batch: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """A part of each picture, 60 to 100 % a side, sometimes mirrored, in another light."""
    parts = []
    for picture in batch:
        side = int(_EDGE * (0.6 + 0.4 * torch.rand(1, generator=draw).item()))
        y, x = (int(torch.randint(0, _EDGE - side + 1, (1,), generator=draw)) for _ in "yx")
        part = F.interpolate(picture[None, :, y : y + side, x : x + side], (_SIDE, _SIDE), mode="bilinear", antialias=True)[0]
        part = part.flip(2) if torch.rand(1, generator=draw) < 0.5 else part
        contrast, light = 0.7 + 0.6 * torch.rand(2, generator=draw)
        parts.append(part * contrast + (light - 1) * 0.6)
    return torch.stack(parts)


def _nothing(count: int, draw: torch.Generator) -> torch.Tensor:
    """Noise of several grains, and plain colours."""
    found_ = []
    for number in range(count):
        grain = (1, 2, 4, 8, 16, 32, 64, 64)[number % 8]
        noise = torch.rand(1, 3, -(-_SIDE // grain), -(-_SIDE // grain), generator=draw) * 2 - 1
        found_.append(F.interpolate(noise, (_SIDE, _SIDE)) * (0.2 + 0.8 * torch.rand(1, generator=draw)))
    return torch.cat(found_)


def measure_changes(pictures: Sequence[Image.Image], classes: Sequence[str], suite: MetricSuite) -> pd.DataFrame:
    """Means of the shown metrics, a row for each change."""
    rows: dict[str, list[dict[str, Any]]] = {}
    with bar("measure", len(pictures)) as progress:
        for number, picture in enumerate(pictures):
            others = [(number + step) % len(pictures) for step in range(1, len(pictures))]
            changed = {name: change(picture) for name, change in CHANGES.items()}
            changed["same class"] = pictures[next(one for one in others if classes[one] == classes[number])]
            changed["other class"] = pictures[next(one for one in others if classes[one] != classes[number])]
            changed |= {"noise": noise_of(picture.size), "flat": flat_of(picture)}
            (reference,) = suite.look_at([picture])
            table = suite.measure(suite.look_at(list(changed.values())), [reference] * len(changed))
            for name, row in zip(changed, table.to_dict("records"), strict=True):
                rows.setdefault(name, []).append({key: row[key] for key in _SHOWN if key in row})
            progress.advance()
    return pd.DataFrame({name: pd.DataFrame(some).mean() for name, some in rows.items()}).T


def as_table(frame: pd.DataFrame) -> str:
    """Markdown."""
    lines = ["| change | " + " | ".join(map(str, frame.columns)) + " |", "|---" * (len(frame.columns) + 1) + "|"]
    for name, row in frame.iterrows():
        cells = ["absent" if pd.isna(value) else f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}" for value in row]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ruler_lines(ruler: Ruler) -> list[str]:
    """The marks of each loss in their order, and the encoder's check."""
    lines = []
    for loss, marks in ruler.marks.items():
        ordered = sorted(marks.items(), key=lambda mark: mark[1])
        lines.append(f"{loss}: " + " < ".join(f"{name} {value:.3f}" for name, value in ordered))
    return [*lines, f"encoder: {ruler.encoder}"]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="", help="as evaluation.encoder; trained here when not given")
    parser.add_argument("--steps", type=int, default=500, help="of the training")
    arguments = parser.parse_args()
    show_lines()
    paths, classes = found(arguments.folder)
    pictures = [load_picture(path) for path in paths]
    if len(set(classes)) < 2:
        parser.error("FOLDER holds photographs of less than two classes")
    held = range(0, len(pictures), _HELD_OUT)
    seen = [number for number in range(len(pictures)) if number % _HELD_OUT]
    if arguments.encoder:
        encoder = load_encoder(arguments.encoder)
    else:
        encoder = train_encoder([pictures[one] for one in seen], [classes[one] for one in seen], arguments.steps)
    suite = MetricSuite(encoder, _WEIGHTS, asked_for(("lora",), ("ciede2000", "masked_color"), encoder=True))
    ruler = lay_ruler(RealPictures(suite.look_at([pictures[one] for one in held])), suite, known=None)
    say("\n".join(ruler_lines(ruler)))
    say(as_table(measure_changes(pictures, classes, suite)))


if __name__ == "__main__":
    main()
