"""What tables, pages and figures call sides, columns, marks and verdicts, in the language."""

from __future__ import annotations

from fashion_ml.runtime.language import tr


def word(name: str) -> str:
    """A side, a column, a mark of the ruler, a verdict, or a way that metrics are better, as people read it; other names as they are."""
    words = {
        **{"base": tr("base"), "generated": tr("generated"), "reference": tr("reference"), "content": tr("content")},
        **{
            "latent": tr("latent"),
            "gain": tr("gain"),
            "verdict": tr("verdict"),
            "can see ≥": tr("can see ≥"),
            "mean": tr("mean"),
        },
        **{"better": tr("better"), "worse": tr("worse"), "not shown": tr("not shown")},
        **{"higher": tr("higher"), "lower": tr("lower")},
        **{"identity": tr("identity"), "nearest_real": tr("nearest real"), "mean_real": tr("mean real"), "flat": tr("flat")},
        **{"noise": tr("noise"), "lora_others": tr("lora others"), "base_others": tr("base others")},
        **{"generated_others": tr("generated others"), "reference_others": tr("reference others")},
        **{"date": tr("date"), "steps": tr("steps"), "rate": tr("rate"), "seconds": tr("seconds")},
    }
    return words.get(name, name)
