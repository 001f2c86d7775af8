from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from fashion_ml.config import (
    SHORT_NAMES,
    Evaluation,
    LoraExperiment,
    StarganExperiment,
    checked,
    evaluated_again,
    flat,
    load_config,
    of_evaluation,
    to_yaml,
    validate,
    validate_evaluation,
)
from fashion_ml.errors import InputError

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.yaml"
    path.write_text("data: {train_data_dir: photos}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(PROJECT.glob("experiments/lora/*.yaml")), ids=lambda path: path.name)
def test_every_shipped_experiment_is_valid_and_opens_with_what_it_is_for(path: Path):
    assert isinstance(load_config(path), LoraExperiment)
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_defaults_are_those_of_the_recipe_it_replaces(minimal: Path):
    config = load_config(minimal)
    assert (config.data.resolution, config.network.rank, config.training.train_batch_size) == (512, 32, 1)
    assert (config.training.max_train_steps, config.optimizer.learning_rate, config.training.save_every_n_epochs) == (
        200,
        5e-5,
        50,
    )
    assert (config.data.caption_extension, config.training.gradient_accumulation_steps) == (".txt", 1)


def test_alpha_is_the_rank_unless_given(minimal: Path):
    assert load_config(minimal, {"rank": "8"}).network.alpha == 8
    assert load_config(minimal, {"rank": "8", "alpha": "1"}).network.alpha == 1


@pytest.mark.parametrize("path", sorted(PROJECT.glob("experiments/lora/*.yaml")), ids=lambda path: path.name)
def test_alpha_of_every_shipped_experiment_follows_the_rank_also_over_its_resolved_yaml(path: Path, tmp_path: Path):
    assert load_config(path, {"rank": 8}).network.alpha == 8
    resolved = tmp_path / "config.yaml"
    resolved.write_text(to_yaml(load_config(path)), encoding="utf-8")
    assert load_config(resolved) == load_config(path)
    assert load_config(resolved, {"rank": 8}).network.alpha == 8


def test_an_alpha_of_the_users_own_file_stands(minimal: Path):
    minimal.write_text("data: {train_data_dir: x}\nnetwork: {rank: 32, alpha: 16}\n", encoding="utf-8")
    assert load_config(minimal, {"rank": 8}).network.alpha == 16
    minimal.write_text(to_yaml(load_config(minimal)), encoding="utf-8")
    assert load_config(minimal, {"rank": 8}).network.alpha == 16


def test_an_empty_override_is_not_given(minimal: Path):
    assert load_config(minimal, {"rank": "", "lr": "", "steps": ""}) == load_config(minimal)


def test_short_and_kohya_names_mean_the_same_field(minimal: Path):
    for names in (("rank", "network_dim", "network-dim", "network.rank"), ("lr", "learning_rate", "optimizer.learning_rate")):
        assert len({to_yaml(load_config(minimal, {name: "8"})) for name in names}) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        {
            "rank": 8,
            "alpha": 2.0,
            "flip_aug": True,
            "min_snr_gamma": None,
            "output_dir": Path("out"),
            "sample_prompts": ("a", "[b]"),
        },
        {
            "network": {"rank": 8, "alpha": 2},
            "data.flip_aug": "true",
            "loss": {"min_snr_gamma": None},
            "output.output_dir": "out",
            "training": {"sample_prompts": ["a", "[b]"]},
        },
    ],
)
def test_overrides_are_python_values_text_or_nested_as_in_the_file(minimal: Path, overrides: dict[str, object]):
    minimal.write_text("data: {train_data_dir: photos}\nloss: {min_snr_gamma: 5}\n", encoding="utf-8")
    config = load_config(minimal, overrides)
    assert (config.network.rank, config.network.alpha, config.data.flip_aug) == (8, 2, True)
    assert (config.loss.min_snr_gamma, config.output.output_dir) == (None, "out")
    assert config.training.sample_prompts == ("a", "[b]")
    assert config.data.train_data_dir == "photos"


@pytest.mark.parametrize("words", ["null", "[draft]", "[a, b]", "[1, 2", "[x]: y", "a, b", "true", "7"])
def test_words_stay_words_where_words_are_meant(minimal: Path, words: str):
    names = ("name", "training_comment", "output_name", "model.base", "evaluation.encoder", "tracking.experiment")
    config = load_config(minimal, {**dict.fromkeys(names, words), "evaluation": {"attributes": words}})
    found = (config.output.training_comment, config.output.output_name, config.model.base)
    assert (*found, config.evaluation.encoder, config.tracking.experiment, config.evaluation.attributes) == (words,) * 6
    gan = load_config({}, {"name": words, "latents_dir": words, "vae": words}, kind="stargan")
    assert (gan.data.latents_dir, gan.model.vae) == (words,) * 2
    assert {config.name, gan.name} == {None if words == "null" else words}  # without a name runs are called by what they are


def test_null_takes_back_an_optional_setting_and_is_no_number(minimal: Path):
    given = {"references": "photos", "output_dir": "[out]", "alpha": 3, "cache_dir": "[a, b]", "min_snr_gamma": 5}
    config = load_config(given | {"train_data_dir": "x"})
    assert (config.output.output_dir, config.data.cache_dir) == ("[out]", "[a, b]")
    config = load_config(given | {"train_data_dir": "x"}, dict.fromkeys(given, "null"))
    assert (config.evaluation.references, config.output.output_dir, config.data.cache_dir) == (None, None, None)
    assert (config.network.alpha, config.loss.min_snr_gamma) == (32, None)
    with pytest.raises(InputError, match=r"network\.rank: 'null' is not accepted; input should be a valid integer"):
        load_config(given, {"rank": "null", "train_data_dir": "x"})


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("a red dress, zarya style", ("a red dress, zarya style",)),
        ("[draft] a red dress", ("[draft] a red dress",)),
        ("[a red dress, a hat]", ("a red dress", "a hat")),
        ('["a red dress, zarya style", "[b]", "null", "1.0"]', ("a red dress, zarya style", "[b]", "null", "1.0")),
        ("[no, 1.0, null]", ("no", "1.0", "null")),
        ("null", ("null",)),
    ],
)
def test_a_prompt_may_hold_commas_and_brackets(minimal: Path, given: str, prompts: tuple[str, ...]):
    assert load_config(minimal, {"sample_prompts": given}).training.sample_prompts == prompts
    minimal.write_text(
        f"data: {{train_data_dir: x}}\ntraining: {{sample_prompts: {json.dumps(list(prompts))}}}\n", encoding="utf-8"
    )
    assert load_config(minimal).training.sample_prompts == prompts


def test_lists_of_numbers_and_choices_are_read_from_the_command_line_in_both_forms(minimal: Path):
    for text in ("[0, 0.5, 1]", "0,0.5,1"):
        assert load_config(minimal, {"strengths": text}).evaluation.strengths == (0, 0.5, 1)
    for text in ("[kid, lpips]", '["kid", "lpips"]', "kid,lpips"):
        assert load_config(minimal, {"extra_metrics": text}).evaluation.extra_metrics == ("kid", "lpips")


def test_an_experiment_can_be_a_mapping_by_short_names_paths_or_sections_and_is_not_changed(minimal: Path):
    given = {"data": {"train_data_dir": "photos"}, "rank": 8, "evaluation.seed": 3}
    config = load_config(given, {"rank": "4", "data": {"resolution": 64}})
    assert given == {"data": {"train_data_dir": "photos"}, "rank": 8, "evaluation.seed": 3}
    assert config == load_config(minimal, {"rank": 4, "evaluation.seed": 3, "resolution": 64})
    with pytest.raises(InputError, match=r"network\.rnk: unknown key; did you mean rank\?"):
        load_config({**given, "network": {"rnk": 8}})


def test_a_stargan_experiment_is_loaded_by_its_kind():
    config = load_config({"w_ds": 0.5, "training": {"epochs": 3}}, kind="stargan")
    assert isinstance(config, StarganExperiment)
    assert (config.loss.w_ds, config.training.epochs) == (0.5, 3)
    with pytest.raises(InputError, match="kind: 'gan' is not known; give lora or stargan"):
        load_config({}, kind="gan")  # type: ignore[call-overload]


def test_every_short_name_leads_to_a_field(minimal: Path):
    for dotted in SHORT_NAMES.values():
        section, _, field = dotted.rpartition(".")
        if not section:  # the run's name
            assert field in LoraExperiment.model_fields
            continue
        assert field in LoraExperiment.model_fields[section].annotation.model_fields  # type: ignore[union-attr]


def test_scientific_notation_that_yaml_reads_as_text_is_a_number(minimal: Path):
    minimal.write_text("data: {train_data_dir: photos}\noptimizer: {learning_rate: 1e-4}\n", encoding="utf-8")
    assert load_config(minimal).optimizer.learning_rate == 1e-4


def test_all_problems_come_at_once_with_path_value_and_fix(minimal: Path):
    overrides = {"network.rnk": "4", "rank": "0", "lr": "fast", "steps": "-1", "nonsense": "1"}
    with pytest.raises(InputError) as caught:
        load_config(minimal, overrides)
    problems = caught.value.problems
    assert len(problems) == 6
    assert problems[-1].startswith("data.train_data_dir: 'photos' does not exist")
    assert "network.rnk: unknown key; did you mean rank?" in problems
    assert any(p.startswith("network.rank: '0' is not accepted; ") and "greater than or equal to 1" in p for p in problems)
    assert any(p.startswith("optimizer.learning_rate: 'fast' is not accepted; ") for p in problems)
    assert any(p.startswith("nonsense: unknown key; known here: name, model") for p in problems)


def test_of_many_problems_the_first_are_told_and_how_many_more_there_are(minimal: Path):
    began = time.process_time()
    for value in (1, 10**200):
        tree = {"data": {"train_data_dir": "embedded"}, **{f"k{number}": value for number in range(20_000)}}
        with pytest.raises(InputError) as caught:
            checked(tree, LoraExperiment)
        assert len(caught.value.problems) == 21
        assert caught.value.problems[-1] == "config: 19980 more settings are wrong; mend these first"
    assert time.process_time() - began < 5


@pytest.mark.parametrize(("text", "line"), [("~: 1\n", "config: the key None"), ("network:\n  1: 2\n", "network: the key 1")])
def test_a_key_that_is_no_text_is_told_with_what_it_stands_in(tmp_path: Path, text: str, line: str):
    (tmp_path / "keys.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"(?m)^{line} is no text; give the name of a setting"):
        load_config(tmp_path / "keys.yaml")


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1e-4"])
def test_a_learning_rate_that_cannot_work_is_refused(minimal: Path, value: str):
    with pytest.raises(InputError, match=r"optimizer\.learning_rate"):
        load_config(minimal, {"lr": value})


def test_weights_must_sum_to_one(minimal: Path):
    with pytest.raises(InputError, match=r"evaluation\.weights: the three weights sum to 1\.3; make them sum to 1"):
        load_config(minimal, {"evaluation.weights.visual_loss": "0.5"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "holds no settings"),
        ("a: [1\n", "is not YAML"),
        ("", "holds no settings"),
        ("{}", r"data: is not given; add it"),
    ],
)
def test_a_file_that_is_no_experiment_is_one_clear_line(tmp_path: Path, text: str, said: str):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        load_config(tmp_path / "none.yaml")


def test_the_resolved_yaml_loads_to_an_equal_experiment(minimal: Path):
    config = load_config(minimal, {"rank": "7", "min_snr_gamma": "5"})
    assert validate(yaml.safe_load(to_yaml(config))) == config


def test_flat_has_dotted_keys_and_leaves_out_what_was_not_given(minimal: Path):
    keys = flat(load_config(minimal))
    assert keys["network.rank"] == 32
    assert "loss.min_snr_gamma" not in keys
    assert keys["evaluation.weights.color_loss"] == 0.2


def test_output_name_cannot_leave_the_folder(minimal: Path):
    with pytest.raises(InputError, match=r"output\.output_name"):
        load_config(minimal, {"output_name": "../x"})


@pytest.mark.parametrize("name", ["text_encoder_lr", "text_encoder_2_lr"])
def test_a_rate_of_a_text_encoder_that_does_not_train_or_of_prodigy_is_refused_with_the_fix(name: str):
    tree = {"data": {"train_data_dir": "x"}, "optimizer": {name: 1e-5}}
    with pytest.raises(InputError, match=rf"optimizer\.{name} is given, but .*; add network\.train_text_encoder true"):
        validate(tree)
    given = {**tree, "network": {"train_text_encoder": True}, "optimizer": {name: 1e-5, "optimizer_type": "prodigy"}}
    with pytest.raises(InputError, match=rf"optimizer\.{name}: prodigy takes one learning rate for all"):
        validate(given)


def test_the_old_key_of_the_extra_metrics_is_still_read_in_files_and_on_the_command_line() -> None:
    path = PROJECT / "experiments" / "lora" / "embedded.yaml"
    assert validate_evaluation({"signs": ["kid"]}).extra_metrics == ("kid",)
    assert load_config(path, {"signs": "kid,lpips"}).evaluation.extra_metrics == ("kid", "lpips")
    old = {"data": {"train_data_dir": "photos"}, "evaluation": {"enabled": False, "signs": ["kid"]}}
    for override in ({"extra_metrics": "lpips"}, {"evaluation.signs": ["lpips"]}, {"evaluation": {"signs": ["lpips"]}}):
        for file in (old, {**old, "evaluation": {"extra_metrics": ["kid"]}}):
            assert load_config(file, override).evaluation.extra_metrics == ("lpips",), (file, override)
    with pytest.raises(InputError, match=r"evaluation\.extra_metrics\.0: 'garbage' is not accepted"):
        load_config({**old, "evaluation": {"extra_metrics": ["kid"]}}, {"evaluation.signs": ["garbage"]})
    with pytest.raises(InputError, match="signs is the old name of extra_metrics"):
        validate({**old, "evaluation": {"signs": ["kid"], "extra_metrics": ["lpips"]}})
    lora = {"data": {"train_data_dir": "photos"}}
    assert evaluated_again(lora, {"evaluation.signs": ["lpips"]}, LoraExperiment).evaluation.extra_metrics == ("lpips",)


def test_an_alpha_that_follows_the_rank_goes_on_following_it_in_a_file_that_was_written():
    follows = {"data": {"train_data_dir": "photos"}, "network": {"rank": 16}}
    written = yaml.safe_load(to_yaml(validate(follows)))
    assert validate(written) == validate(follows)
    assert load_config(written, {"rank": 4}).network.alpha == 4
    given = yaml.safe_load(to_yaml(validate({**follows, "network": {"rank": 16, "alpha": 16}})))
    assert load_config(given, {"rank": 4}).network.alpha == 16


def test_an_evaluation_again_takes_every_setting_of_the_evaluation_by_name_or_path_over_the_trainings_own():
    tree = {"data": {"train_data_dir": "photos"}, "evaluation": {"enabled": False, "seed": 3, "signs": ["kid"], "styles": 4}}
    lora = {**tree, "evaluation": {key: value for key, value in tree["evaluation"].items() if key != "styles"}}  # type: ignore[attr-defined]
    given = {
        "seed": "5",
        "evaluation.num_inference_steps": 2,
        "weights": {"visual_loss": 0, "color_loss": "0.4"},
        "encoder": "",
    }
    found = evaluated_again(lora, given, LoraExperiment).evaluation
    assert (found.enabled, found.seed, found.num_inference_steps, found.weights.color_loss) == (True, 5, 2, 0.4)
    assert found.extra_metrics == ("kid",)
    assert evaluated_again(lora, {"signs": "lpips"}, LoraExperiment).evaluation.extra_metrics == ("lpips",)
    gan = {"evaluation": {"styles": 4, "without": ["fashion_clip"]}}
    again = evaluated_again(gan, {"contents-per-domain": 2, "encoder": "x"}, StarganExperiment).evaluation
    assert (again.styles, again.contents_per_domain, again.without) == (4, 2, ())


def test_a_setting_that_the_evaluation_does_not_have_is_refused_by_a_line_that_names_what_there_is():
    with pytest.raises(InputError) as caught:
        evaluated_again({"evaluation": {}}, {"strengths": "0,1", "rank": "4"}, StarganExperiment)
    there = (
        "contents_per_domain, contents_part, vae, precision, seed, styles, encoder, without, fashion_clip_score, attributes, dino, "
        "inception, by_pair, rotations, domain_prompt, "
        "weights.visual_loss, weights.fashion_clip_loss, "
    )
    assert caught.value.problems == [
        f"evaluation.{name}: is not among these settings; a StarGAN's evaluation takes {there}weights.color_loss, resamples"
        for name in ("strengths", "rank")
    ]
    with pytest.raises(InputError, match=r"evaluation\.guidance_scale: is not among these settings; compare takes resamples"):
        of_evaluation({"evaluation": {"guidance_scale": 5}}, Evaluation, "compare", Evaluation.of_comparison)


@pytest.mark.parametrize("field", ["data.train_data_dir", "data.cache_dir", "output.output_dir", "model.base"])
def test_a_text_that_no_file_can_be_called_by_is_refused_by_its_field(field: str):
    with pytest.raises(InputError, match=rf"{field}.*NUL"):
        load_config({"data.train_data_dir": "x", field: "a\0b"})
