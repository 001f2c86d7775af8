"""Pairs of files measured as they are read, and their controls and ruler: of so many references, for pictures are read again for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from PIL import Image

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import load_picture
from fashion_ml.evaluation.controls import Controls, losses_of, others_of
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.ruler import RealPictures
from fashion_ml.metrics.picture import Picture
from fashion_ml.runtime.console import bar, say
from fashion_ml.runtime.language import tr

_AT_ONCE = 8
MOST = 64
"""References that are held against each other; of more, so many spread over all of them."""


def without_pixels(picture: Picture) -> Picture:
    """What a picture was looked at for, without its pixels: of thousands of files these alone stay."""
    return Picture(Image.new("RGB", (1, 1)), picture.embedding, picture.labels)


@dataclass(frozen=True)
class MeasuredPairs:
    """Scores of every pair, and both sides without their pixels."""

    table: pd.DataFrame
    made: list[Picture]
    targets: list[Picture]


def measure_pairs(pairs: Sequence[tuple[str, CaptionedImage, CaptionedImage]], suite: MetricSuite) -> MeasuredPairs:
    """The scores of every pair; files are decoded while others are measured."""
    tables, made_, targets = [], list[Picture](), list[Picture]()
    with bar(tr("measure pairs"), len(pairs)) as progress, ThreadPoolExecutor(2) as pool:
        parts = [pairs[first : first + _AT_ONCE] for first in range(0, len(pairs), _AT_ONCE)]
        coming = deque(pool.submit(_load, part) for part in parts[:2])
        for number in range(len(parts)):
            made, wanted = coming.popleft().result()
            if number + 2 < len(parts):
                coming.append(pool.submit(_load, parts[number + 2]))
            looked, references = suite.look_at(made), suite.look_at(wanted, keep=True)
            tables.append(suite.measure(looked, references))
            made_ += [without_pixels(picture) for picture in looked]
            targets += [without_pixels(picture) for picture in references]
            progress.advance(len(made))
    return MeasuredPairs(pd.concat(tables, ignore_index=True), made_, targets)


def _load(part: Sequence[tuple[str, CaptionedImage, CaptionedImage]]) -> tuple[list[Image.Image], list[Image.Image]]:
    return [load_picture(made.path) for _, made, _ in part], [load_picture(wanted.path) for _, _, wanted in part]


@dataclass(frozen=True)
class Sample:
    """Different references with what was seen of them (`without_pixels`), training images, and which of all these are near-duplicates."""

    items: Sequence[CaptionedImage]
    looked: Sequence[Picture]
    training: Sequence[CaptionedImage]
    alike: Sequence[int]

    @property
    def chosen(self) -> list[int]:
        """The references that are held against each other."""
        count = min(len(self.items), MOST)
        return [index * len(self.items) // count for index in range(count)]

    def real(self) -> RealPictures:
        """The chosen references with their pixels."""
        first = len(self.items)
        alike = [*(self.alike[number] for number in self.chosen), *self.alike[first:]]
        return RealPictures([self._whole(number) for number in self.chosen], self.training, alike)

    def measure(
        self,
        pairs: Sequence[tuple[str, CaptionedImage, CaptionedImage]],
        made_of: Sequence[int],
        made: Sequence[Picture],
        own: pd.DataFrame,
        rotations: int,
        suite: MetricSuite,
    ) -> pd.DataFrame:
        """`others_<loss>` and `specific_<loss>` of the pairs of the chosen references, NaN for the rest."""
        chosen = self.chosen
        if len(chosen) < len(self.items):
            say(
                tr(
                    "Controls and ruler are of {count} of {count_2} references: each is held against all others",
                    count=len(chosen),
                    count_2=len(self.items),
                )
            )
        place = {number: index for index, number in enumerate(chosen)}
        real = self.real()
        controls = Controls(real.references, others_of(len(chosen), rotations, real.of_references), losses_of(suite))
        rows = []
        for index, number in enumerate(made_of):
            if number in place:
                picture = replace(made[index], image=load_picture(pairs[index][1].path))
                rows.append(controls.measure([picture], [place[number]], own.iloc[[index]]))
        found = pd.concat(rows) if rows else pd.DataFrame()
        return found.reindex(np.arange(len(own)))

    def _whole(self, number: int) -> Picture:
        return replace(self.looked[number], image=load_picture(self.items[number].path))
