"""What a suite found, in three lines, in English and Traditional Chinese: what came out, what the seed alone does, what cannot be said.

They head the report, end the terminal's output and describe the suite's run; numbers and names are the same in both languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fashion_ml.metrics.bootstrap import FEWEST
from fashion_ml.metrics.crossed import FEWEST_SEEDS
from fashion_ml.runtime.language import Language

if TYPE_CHECKING:
    from fashion_ml.evaluation.suites import SuiteComparison, SuiteDifference

NOTHING_VARIES = "nothing varies"
"""Why a difference has no verdict where all values are equal."""
_NAMED = 4
"""Recipes of one verdict that a line names; the table has them all."""

FORMS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "stop": ". ",
        "end": ".",
        "comma": ", ",
        "semicolon": "; ",
        "higher": "higher is better",
        "lower": "lower is better",
        "against": "Against {baseline} by {metric} ({way}), {found}",
        "better": "better: {recipes}",
        "worse": "worse: {recipes}",
        "not shown": "not shown to differ: {recipes}",
        "none": "no verdict on {recipes}",
        "gain": "{recipe} (gain {gain})",
        "more": "{n} more",
        "spread": "Another training seed moves {metric} by {seed} (standard deviation), the recipes lie {apart} apart",
        "one_seed": "What another training seed does is not known: each recipe has one training",
        "shares": "Of what single values scatter, seeds are {seeds}, references {references}, recipes {recipes}, "
        "what suits some recipes {matches}, the rest {rest}",
        "sees": "{seeds} seeds x {references} references can see >= {sees}",
        "settle": "to show what was found takes {seen}, half of it {half}",
        "seeds": "{n} seeds for {recipe}",
        "never": "more references for {recipe}",
        "few_seeds": "Of recipes nothing can be said before each has {fewest} seeds ({seeds} so far)",
        "few_references": "No verdict: {n} references are fewer than {fewest}, with which no test can reach p < 0.05",
        "unread": "No verdict: the encoder cannot read these pictures: {why}",
        "same": "No verdict on {recipe}: it is {baseline} under another name",
        "nothing_varies": "No verdict on {recipes}: nothing varies",
        "waiting": "No verdict on {recipes}: the suite looks from {first} seeds on",
        "seen": "{n} of the references were trained on, so means are optimistic",
        "looks": "Looked at after {looks} seeds, by bounds that keep all looks together at 5 % ({source})",
        "undecided": "another seed may decide {recipes}",
        "left_out": "Not compared: {what}",
    },
    "zh-TW": {
        "stop": "。",
        "end": "。",
        "comma": "、",
        "semicolon": "；",
        "higher": "越高越好",
        "lower": "越低越好",
        "against": "以 {metric}（{way}）與 {baseline} 相比，{found}",
        "better": "較好：{recipes}",
        "worse": "較差：{recipes}",
        "not shown": "未能證實有差異：{recipes}",
        "none": "沒有結論的是 {recipes}",
        "gain": "{recipe}（增益 {gain}）",
        "more": "另外 {n} 個",
        "spread": "換一個訓練種子會使 {metric} 變動 {seed}（標準差），各配方相差 {apart}",
        "one_seed": "不知道換一個訓練種子會怎樣：每個配方只訓練了一次",
        "shares": "單一數值的變異中，種子占 {seeds}、參考圖 {references}、配方 {recipes}、只適合某些配方的參考圖 {matches}、其餘 {rest}",
        "sees": "{seeds} 個種子 x {references} 張參考圖能看出 >= {sees} 的差異",
        "settle": "要證實所見的差異需要 {seen}，要證實一半的差異需要 {half}",
        "seeds": "{recipe} 用 {n} 個種子",
        "never": "{recipe} 用更多參考圖",
        "few_seeds": "每個配方有 {fewest} 個種子之前，對配方不能下任何結論（目前 {seeds} 個）",
        "few_references": "沒有結論：{n} 張參考圖少於 {fewest} 張，任何檢定都無法達到 p < 0.05",
        "unread": "沒有結論：編碼器看不懂這些圖片：{why}",
        "same": "對 {recipe} 沒有結論：它就是 {baseline}，只是換了名字",
        "nothing_varies": "對 {recipes} 沒有結論：數值毫無變化",
        "waiting": "對 {recipes} 沒有結論：這個實驗組從 {first} 個種子起才檢視",
        "seen": "有 {n} 張參考圖曾用於訓練，因此平均值偏樂觀",
        "looks": "在 {looks} 個種子之後各看一次，其界限使所有檢視合計維持在 5 %（{source}）",
        "undecided": "再加一個種子或許能決定 {recipes}",
        "left_out": "未比較：{what}",
    },
}


def suite_lines(found: SuiteComparison, language: Language) -> str:
    """The three lines, in a language."""
    told = _Teller(FORMS[language], found)
    return "\n".join([told.first(), told.second(), told.third()])


class _Teller:
    """Puts a comparison into the forms of a language."""

    def __init__(self, forms: Mapping[str, str], found: SuiteComparison):
        self.forms, self.found, self.primary = forms, found, found.primary()

    def first(self) -> str:
        """Which recipes are better, worse, or not shown to be either."""
        said = []
        for verdict in ("better", "worse", "not shown", ""):
            those = {name: one for name, one in self.primary.items() if one.difference.verdict == verdict}
            if those:
                said.append(self._say(verdict or "none", recipes=self._gains(those)))
        found = self.found
        told = self.forms["semicolon"].join(said)
        return self._line(
            [self._say("against", baseline=found.baseline, metric=found.metric, way=self.forms[found.better], found=told)]
        )

    def second(self) -> str:
        """How far the seed alone moves a recipe, how far the recipes lie apart, and what single values scatter from."""
        spread = self.found.spread
        if spread is None:
            return self._line([self.forms["one_seed"]])
        apart, seed = f"{spread.apart:.4f}", f"{spread.seed_sd:.4f}"
        shares = {name: f"{share:.0%}" for name, share in spread.shares().items()}
        return self._line(
            [self._say("spread", metric=self.found.metric, seed=seed, apart=apart), self._say("shares", **shares)]
        )

    def third(self) -> str:
        """What could be seen and what it would take, what has no verdict and why, how it was looked at, what is missing."""
        found = self.found
        said = [*self._power(), *self._reasons()]
        if found.looks:
            looks = self.forms["comma"].join(str(look) for look in found.looks)
            said.append(self._looks(looks))
        if found.left_out:
            said.append(self._say("left_out", what=self.forms["comma"].join(found.left_out)))
        said += found.noted
        return self._line(said) if said else ""

    def _looks(self, looks: str) -> str:
        from fashion_ml.metrics.sequential import SOURCE

        text = self._say("looks", looks=looks, source=SOURCE)
        if not self.found.undecided:
            return text
        names = self.forms["comma"].join(self.found.undecided)
        return self.forms["semicolon"].join([text, self._say("undecided", recipes=names)])

    def _power(self) -> list[str]:
        """What the least certain of the differences could have shown; of those not shown, how many seeds would show what was found."""
        able = {name: one for name, one in self.primary.items() if one.crossed is not None and one.difference.verdict}
        if not able:
            return []
        worst = max(able.values(), key=lambda one: one.crossed.sees if one.crossed else 0.0)
        assert worst.crossed is not None
        seeds = min(worst.seeds)
        text = self._say("sees", seeds=seeds, references=worst.difference.gain.n, sees=f"{worst.crossed.sees:.4f}")
        open_ = {name: one for name, one in able.items() if one.difference.verdict == "not shown"}
        if not open_:
            return [text]
        shown = list(open_.items())[:_NAMED]
        seen = self.forms["comma"].join(self._seeds(name, one.to_settle) for name, one in shown)
        half = self.forms["comma"].join(self._seeds(name, one.to_settle_half) for name, one in shown)
        return [self.forms["semicolon"].join([text, self._say("settle", seen=seen, half=half)])]

    def _seeds(self, recipe: str, count: int | None) -> str:
        return self._say("never", recipe=recipe) if count is None else self._say("seeds", recipe=recipe, n=count)

    def _reasons(self) -> list[str]:
        """Why there is no verdict, each reason once."""
        found, said = self.found, []
        seeds = {name: min(len(own), len(found.recipes[found.baseline])) for name, own in found.recipes.items()}
        few = {name: count for name, count in seeds.items() if count < FEWEST_SEEDS and name != found.baseline}
        if few:
            told = self.forms["comma"].join(f"{name}: {count}" for name, count in few.items())
            said.append(self._say("few_seeds", fewest=FEWEST_SEEDS, seeds=told))
        if found.references < FEWEST:
            said.append(self._say("few_references", n=found.references, fewest=FEWEST))
        if found.unread:
            said.append(self._say("unread", why=found.unread))
        said += [self._say("same", recipe=name, baseline=found.baseline) for name in found.same]
        still = [name for name, one in self.primary.items() if one.difference.why == NOTHING_VARIES]
        said += [self._say("nothing_varies", recipes=self.forms["comma"].join(still))] if still else []
        waiting = [
            name for name in seeds if found.looks and FEWEST_SEEDS <= seeds[name] < found.looks[0] and name in self.primary
        ]
        said += [self._say("waiting", first=found.looks[0], recipes=self.forms["comma"].join(waiting))] if waiting else []
        return said + ([self._say("seen", n=found.seen)] if found.seen else [])

    def _gains(self, those: Mapping[str, SuiteDifference]) -> str:
        ordered = sorted(those, key=lambda name: -those[name].difference.gain.mean)
        named = [self._say("gain", recipe=name, gain=_shown(those[name])) for name in ordered[:_NAMED]]
        named += [self._say("more", n=len(ordered) - _NAMED)] if len(ordered) > _NAMED else []
        return self.forms["comma"].join(named)

    def _say(self, form: str, **values: object) -> str:
        return self.forms[form].format(**values)

    def _line(self, sentences: Sequence[str]) -> str:
        return self.forms["stop"].join(one.rstrip(".。") for one in sentences) + self.forms["end"]


def _shown(one: SuiteDifference) -> str:
    gain = one.difference.gain
    ends = f" [{gain.ends[0] + 0.0:+.4f}, {gain.ends[1] + 0.0:+.4f}]" if gain.ends else ""
    return f"{gain.mean + 0.0:+.4f}{ends}"
