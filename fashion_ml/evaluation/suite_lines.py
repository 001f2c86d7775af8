"""What a suite found, in three lines, in English and Traditional Chinese: what came out, what the seed alone does, what cannot be said.

They head the report, end the terminal's output and describe the suite's run; numbers and names are the same in both languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fashion_ml.metrics.bootstrap import FEWEST
from fashion_ml.metrics.crossed import FEWEST_SEEDS, MOST_SEEDS
from fashion_ml.runtime.language import Language

if TYPE_CHECKING:
    from fashion_ml.evaluation.suite_verdicts import SuiteDifference
    from fashion_ml.evaluation.suites import SuiteComparison

NOTHING_VARIES = "nothing varies"
"""Why a difference has no verdict where all values are equal."""
_RECIPES = "\0"
"""Stands for recipes' names that are not known yet; no name has it."""
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
        "spread": "Another training seed moves {metric} by {seed} (standard deviation); the recipes' means lie {apart} apart, equal ones "
        "would lie {chance} apart by the seeds alone",
        "one_seed": "What another training seed does is not known: each recipe has one training",
        "shares": "Of what single values scatter, seeds are {seeds}, references {references}, recipes {recipes}, "
        "what suits some recipes {matches}, the rest {rest}",
        "sees": "With {seeds} seeds x {references} references a difference below {sees} is easily missed",
        "settle": "To show a difference as large as the one found takes {seen}",
        "seeds": "{n} seeds ({recipes})",
        "most": "more than {n} seeds ({recipes})",
        "never": "more references, not seeds ({recipes})",
        "few_seeds": "Of recipes nothing can be said before each has {fewest} seeds ({seeds} so far)",
        "few_references": "No verdict: {n} references are fewer than {fewest}, with which no test can reach p < 0.05",
        "unread": "No verdict: the encoder cannot read these pictures: {why}",
        "same": "No verdict on {recipe}: it is {baseline} under another name",
        "nothing_varies": "No verdict on {recipes}: nothing varies",
        "waiting": "No verdict on {recipes}: the suite looks from {first} seeds on",
        "seen": "{n} of the references were trained on, so means are optimistic",
        "looks": "Looks at {looks} seeds, so far at {far}; together they stay at 5 % ({source})",
        "no_look": "none",
        "undecided": "Another seed may decide {recipes}",
        "waits": "{ended} of {planned} trainings have ended: no verdict before all have",
        "seeds_changed": "No verdict: seeds were changed after a look (at {was} seeds, now {now}); give max_seeds from the start, or another "
        "name for a new suite with fresh seeds",
        "baseline_changed": "No verdict: the baseline was {was} at the first look and is {now} now; a baseline is chosen before the results",
        "failed": "{failed} of {count} trainings of {recipe} failed: its mean is of those that did not, and no verdict is by it",
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
        "spread": "換一個訓練種子會使 {metric} 變動 {seed}（標準差）；各配方的平均值相差 {apart}，相同的配方單憑種子也會相差 {chance}",
        "one_seed": "不知道換一個訓練種子會怎樣：每個配方只訓練了一次",
        "shares": "單一數值的變異中，種子占 {seeds}、參考圖 {references}、配方 {recipes}、只適合某些配方的參考圖 {matches}、其餘 {rest}",
        "sees": "以 {seeds} 個種子 x {references} 張參考圖，小於 {sees} 的差異很容易看不出來",
        "settle": "要證實所見大小的差異，需要：{seen}",
        "seeds": "{n} 個種子（{recipes}）",
        "most": "超過 {n} 個種子（{recipes}）",
        "never": "更多參考圖，而不是種子（{recipes}）",
        "few_seeds": "每個配方有 {fewest} 個種子之前，對配方不能下任何結論（目前 {seeds} 個）",
        "few_references": "沒有結論：{n} 張參考圖少於 {fewest} 張，任何檢定都無法達到 p < 0.05",
        "unread": "沒有結論：編碼器看不懂這些圖片：{why}",
        "same": "對 {recipe} 沒有結論：它就是 {baseline}，只是換了名字",
        "nothing_varies": "對 {recipes} 沒有結論：數值毫無變化",
        "waiting": "對 {recipes} 沒有結論：這個 suite 從 {first} 個種子起才檢視",
        "seen": "有 {n} 張參考圖曾用於訓練，因此平均值偏樂觀",
        "looks": "在 {looks} 個種子時各檢視一次，目前已檢視 {far}；所有檢視合計維持在 5 %（{source}）",
        "no_look": "零次",
        "undecided": "再加一個種子或許能決定 {recipes}",
        "waits": "{planned} 次訓練中已有 {ended} 次結束：全部結束之前沒有結論",
        "seeds_changed": "沒有結論：檢視之後更改了種子（當時 {was} 個，現在 {now} 個）；請一開始就給 max_seeds，"
        "或以另一個名稱和全新的種子開始新的 suite",
        "baseline_changed": "沒有結論：第一次檢視時的基準是 {was}，現在是 {now}；基準要在看到結果之前選定",
        "failed": "{recipe} 的 {count} 次訓練中有 {failed} 次失敗：其平均值只來自未失敗的訓練，不據此下結論",
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
        sizes = {"seed": spread.seed_sd, "apart": spread.apart, "chance": spread.by_chance}
        told = {name: _number(size) for name, size in sizes.items()}
        shares = {name: f"{share:.0%}" for name, share in spread.shares().items()}
        return self._line([self._say("spread", metric=self.found.metric, **told), self._say("shares", **shares)])

    def third(self) -> str:
        """What has no verdict and why, what could be seen and what it would take, how it was looked at, what is missing."""
        found = self.found
        said = [*self._standing(), *self._reasons(), *self._power()]
        if found.looks and not found.standing.changed:
            said.append(self._looks())
        if found.undecided:
            said.append(self._say("undecided", recipes=self._list(found.undecided)))
        if found.left_out:
            said.append(self._say("left_out", what=self._list(found.left_out)))
        said += found.noted
        return self._line(said) if said else ""

    def _standing(self) -> list[str]:
        """What the suite's plan forbids, and which trainings failed."""
        now, said = self.found.standing, []
        if now.changed and now.plan and now.judged:
            by_baseline = now.changed == "baseline"
            was, is_now = [one.baseline if by_baseline else self._list(one.sizes()) for one in (now.judged, now.plan)]
            said.append(self._say(f"{now.changed}_changed", was=was, now=is_now))
        if now.waits:
            said.append(self._say("waits", ended=now.planned - now.left, planned=now.planned))
        return said + [
            self._say("failed", recipe=name, failed=failed, count=count) for name, (failed, count) in now.failed.items()
        ]

    def _looks(self) -> str:
        from fashion_ml.metrics.sequential import SOURCE

        sizes = {name: len(own) for name, own in self.found.recipes.items()}
        most = min(sizes[self.found.baseline], max(sizes[name] for name in self.primary))
        far = self._list([str(look) for look in self.found.looks if look <= most]) or self.forms["no_look"]
        return self._say("looks", looks=self._list([str(look) for look in self.found.looks]), far=far, source=SOURCE)

    def _power(self) -> list[str]:
        """What the least certain of the differences could have shown; of those not shown, how many seeds would show what was found."""
        able = {name: one for name, one in self.primary.items() if one.crossed is not None and one.difference.verdict}
        if not able:
            return []
        worst = max(able.values(), key=lambda one: one.crossed.sees if one.crossed else 0.0)
        assert worst.crossed is not None
        seeds = min(worst.seeds)
        text = self._say("sees", seeds=seeds, references=worst.difference.gain.n, sees=_number(worst.crossed.sees))
        ways: dict[str, list[str]] = {}
        for name, one in able.items():
            if one.difference.verdict == "not shown":
                ways.setdefault(self._way(one), []).append(name)
        seen = [way.replace(_RECIPES, self._list(names[:_NAMED])) for way, names in ways.items()]
        return [text, self._say("settle", seen=self.forms["semicolon"].join(seen))] if seen else [text]

    def _way(self, one: SuiteDifference) -> str:
        """What would show the difference that was found; the recipes' names are still to come."""
        if one.to_settle is not None:
            return self._say("seeds", n=one.to_settle, recipes=_RECIPES)
        return self._say("never" if one.hidden[0] else "most", n=MOST_SEEDS, recipes=_RECIPES)

    def _list(self, names: Sequence[str]) -> str:
        return self.forms["comma"].join(names)

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
    if not gain.ends:
        return _number(gain.mean, "+")
    mean, low, high = _numbers([gain.mean, *gain.ends], "+")
    return f"{mean} [{low}, {high}]"


def _number(value: float, sign: str = "") -> str:
    return _numbers([value], sign)[0]


def _numbers(values: Sequence[float], sign: str = "") -> list[str]:
    """Four digits behind the point, or two that count where all are below 0.001 and would be 0.0000."""
    largest = max(map(abs, values))
    form = f"{sign}.4f" if largest >= 1e-3 or largest == 0 else f"{sign}.1e"
    return [f"{(round(value, 4) if form.endswith('f') else value) + 0.0:{form}}" for value in values]
