"""Configuration: layers, types, messages."""

from __future__ import annotations

import re

import pytest
import yaml

from talkingface.config.former_keys import take_table, translate
from talkingface.config.layers import Layer, nest, properties_dir, to_plain
from talkingface.config.sections import Config
from talkingface.config.yaml_files import parse_value, read_yaml
from talkingface.errors import ConfigError, RegistryError
from talkingface.plugin.configuration import load_config
from talkingface.plugin.metrics import METRICS
from talkingface.plugin.registry import describe_datasets, list_models

pytestmark = pytest.mark.usefixtures("toys")


def load(**overrides):
    return load_config("ToyGAN", "folder", (), overrides)


def message(**overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**overrides)
    return str(caught.value)


def test_overall_yaml_states_every_default():
    written = read_yaml(properties_dir() / "overall.yaml")[0]
    given = Config(model_name="x", dataset="y")
    skip = {"model_name", "dataset", "description", "aliases", "plugin", "profile"}
    assert written == {k: v for k, v in to_plain(given).items() if k not in skip}


def test_precedence_model_dataset_files_command_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 5\nlayout: lrs2\nmodel: {width: 12}\n")
    loaded = load_config("toygan", "FOLDER", [file], {"seed": 6})
    assert loaded.config.seed == 6
    assert loaded.config.layout == "lrs2"
    assert loaded.config.model.width == 12
    assert loaded.config.model.dropout == 0.2  # deep merge keeps the neighbours
    assert str(file) in loaded.to_yaml(with_origins=True)


def test_print_config_names_the_origin_of_each_value(tmp_path):
    text = load(**{"stages.gan.epochs": 7}).to_yaml(with_origins=True)
    [line] = [row for row in text.splitlines() if row.startswith("    epochs: 7")]
    assert line.endswith("# command line")
    assert any("properties/overall.yaml:" in row for row in text.splitlines() if row.startswith("seed"))


@pytest.mark.parametrize("model", list_models())
@pytest.mark.parametrize("dataset", list(describe_datasets()))
def test_what_print_config_shows_is_a_file_that_gives_the_same_configuration(model, dataset, tmp_path):
    file = tmp_path / "mine.yaml"
    shown = load_config(model, dataset, (), {"seed": 5, "batch_size": 3})
    file.write_text(shown.to_yaml(with_origins=True))
    again = load_config(model, dataset, [file])
    assert again.as_dict() == shown.as_dict()
    assert again.to_yaml(with_origins=True).count(f"# {file}:") > 100


def test_resolved_yaml_reads_back_to_the_same_configuration():
    loaded = load(**{"stages.gan.batch_size": 2})
    assert yaml.safe_load(loaded.to_yaml()) == loaded.as_dict()


def test_profiles_merge_stages_by_name():
    config = load(profile="short").config
    assert [stage.epochs for stage in config.stages] == [1, 1]
    assert config.stages[0].optim["generator"].lr == 1e-2


def test_top_level_values_reach_every_stage():
    config = load(epochs=9, learning_rate=0.5, batch_size=2, stopping_step=4).config
    assert {s.epochs for s in config.stages} == {9}
    assert {o.lr for s in config.stages for o in s.optim.values()} == {0.5}
    assert {(s.batch_size, s.patience) for s in config.stages} == {(2, 4)}


def test_unknown_key_names_file_line_key_and_nearest(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\nmodel:\n  widht: 12\n")
    with pytest.raises(ConfigError, match=r"mine.yaml:3: unknown key 'model.widht', did you mean 'width'\?"):
        load_config("ToyGAN", "folder", [file])


def test_key_in_the_wrong_section_is_found():
    assert "did you mean 'evaluation.ssim_variant'?" in message(ssim_varian="piq")


def test_all_errors_are_reported_together():
    text = message(seed="x", **{"model.widht": 1, "stages.gan.optim.generator.lr": -1, "stages.warm.kind": "wram"})
    assert "configuration errors" in text
    for part in (
        "'seed': expected",
        "model.widht",
        "stages.gan.optim.generator.lr",
        "kind 'wram'",
        "did you mean 'warm'",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"seed": 1.5}, "expected a valid integer, got 1.5"),
        ({"evaluation.rows": []}, "'evaluation.rows': give at least one row"),
        ({"train": "maybe"}, "expected a valid boolean"),
        ({"stages.gna.epochs": 1}, "no such stage, did you mean 'gan'?"),
        ({"profile": "shrot"}, "profile 'shrot' is not defined"),
        ({"stage": "render"}, "stage 'render' is not one of warm, gan"),
        ({"stages.gan.optim.critic.lr": 1.0}, "this stage trains generator, discriminator"),
        ({"stages.warm.init_from": "gan"}, "neither an earlier stage"),
        ({"stages.gan.data.noize": 1.0}, "did you mean 'noise'?"),
        ({"device": "gpu"}, "must be auto, cpu, mps, cuda"),
        ({"stages.gan.validate_every": {"steps": 1, "epochs": 1}}, "exactly one of steps and epochs"),
    ],
)
def test_wrong_values_get_a_clear_line(overrides, part):
    assert part in message(**overrides)


def test_keys_of_the_earlier_toolkit_still_load(caplog, tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text("gpu_id: '3, 4, 5'\nuse_gpu: False\nworker: 2\ncheckpoint_dir: runs\nbatch_size: 3\nresume: True\n")
    with caplog.at_level("WARNING", logger="talkingface"):
        config = load_config("ToyGAN", "folder", [file]).config
    assert (config.device, config.num_workers, config.saved_dir, config.resume) == ("cpu", 2, "runs", "none")
    assert config.stages[0].batch_size == 3
    assert sum("gpu_id is ignored" in r.message for r in caplog.records) == 1


def test_a_model_may_name_the_keys_of_its_earlier_ports(caplog, tmp_path):
    file = tmp_path / "port.yaml"
    file.write_text("nhidden: 16\nganmode: wgan\nstate: 0.5\nworker: 2\nmodel: {dropout: 0.1}\n")
    with caplog.at_level("WARNING", logger="talkingface"):
        config = load_config("ToyGAN", "folder", [file], {"warm_lr": 0.5}).config
    assert (config.model.width, config.model.dropout, config.num_workers) == (16, 0.1, 2)
    assert config.stages[0].optim["generator"].lr == 0.5 and config.stages[1].optim["generator"].lr == 0.01
    assert config.stages[1].data.noise == 0.5, "the model's meaning of a key wins over the toolkit's"
    said = [record.message for record in caplog.records]
    assert f"{file}: nhidden is now called model.width" in said
    assert f"{file}: ganmode is ignored: the loss is always hinge" in said
    assert "command line: warm_lr is now called stages.warm.optim.generator.lr" in said
    with pytest.raises(ConfigError, match="unknown key 'nhidden'"):
        load_config("IPLAP", "folder", [], {"nhidden": 16})


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ("{seed: model.width}", "toy.yaml:1: former_keys: 'seed' is a key of today"),
        ("{nhidden: 3}", "toy.yaml:1: former_keys: 'nhidden' must lead to a key or to a sentence, got 3"),
        ("[nhidden]", "toy.yaml:1: former_keys: must be a mapping"),
    ],
)
def test_a_table_of_former_keys_that_cannot_be_meant_is_refused(tmp_path, monkeypatch, table, part):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(f"former_keys: {table}\n")
    with pytest.raises(ConfigError, match=re.escape(part)):
        take_table(Layer.from_file(tmp_path / "toy.yaml"))


@pytest.mark.parametrize(
    "root", ["d/preprocessed_data/imgs", "d/preprocessed_data/imgs/", "d\\preprocessed_data\\imgs"]
)
def test_the_folder_of_old_pictures_stands_for_the_one_around_it(root):
    translated, told = translate({"preprocessed_root": root}, "old.yaml")
    assert translated == {"preprocessed_root": "d/preprocessed_data"}
    assert told == [
        f"old.yaml: preprocessed_root: {root} is the folder of HyperLips' pictures, clips lie beside it:"
        " d/preprocessed_data"
    ]


def test_a_folder_of_that_name_in_which_clips_lie_is_what_it_is(tmp_path):
    for root in (tmp_path / "imgs", tmp_path / "preprocessed_data/imgs"):
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/clip.json").write_text("{}")
        assert translate({"preprocessed_root": str(root)}, "")[0] == {"preprocessed_root": str(root)}
    picture = tmp_path / "other/imgs/a/b/0.jpg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"")
    assert translate({"preprocessed_root": str(tmp_path / "other/imgs")}, "")[0] == {
        "preprocessed_root": str(tmp_path / "other")
    }
    assert translate({"preprocessed_root": "new/imgs"}, "")[0] == {"preprocessed_root": "new/imgs"}


@pytest.mark.parametrize("first", ["metrics_strict", "evaluation.max_clips"])
def test_short_names_and_keys_of_their_section_go_together_in_any_order(first):
    given = {"metrics_strict": True, "evaluation.max_clips": 4, "lse_checkpoint_path": "x", "fid_weights_path": "y"}
    found = load(**{first: given[first], **given}).config.evaluation
    assert (found.strict, found.max_clips, found.lse_checkpoint, found.fid_weights_path) == (True, 4, "x", "y")


def test_a_section_beside_short_names_is_left_as_it_was():
    section = {"max_clips": 4}
    translated, _ = translate({"evaluation": section, "metrics_strict": True}, "here")
    assert translated == {"evaluation": {"max_clips": 4, "strict": True}} and section == {"max_clips": 4}
    assert translate({"metrics_strict": True, "evaluation": None}, "here")[0] == {"evaluation": {"strict": True}}


def test_short_names_that_contradict_are_one_clear_line():
    assert "'metrics_strict' stands for 'evaluation.strict', but 'evaluation' is set to 3" in message(
        **{"evaluation": 3, "metrics_strict": True}
    )
    assert "'metrics_strict' and 'evaluation.strict' are the same key, set to True and False" in message(
        **{"evaluation.strict": False, "metrics_strict": True}
    )


def test_unknown_names_list_the_known_and_the_closest():
    with pytest.raises(RegistryError, match=r"unknown model 'IPLAB', did you mean 'IPLAP'\?.*known:.*IPLAP"):
        load_config("IPLAB", "folder")
    with pytest.raises(RegistryError, match=r"unknown data set 'lsr2', did you mean 'lrs2'\?"):
        load_config("ToyGAN", "lsr2")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("3", 3), ("[1, 2]", [1, 2]), ("(1, 2)", [1, 2]), ("{a: 1}", {"a": 1}), ("true", True),
        ("True", True), ("None", None), ("null", None), ("25/1", "25/1"), ("max", "max"), ("'7'", "7"),
        ("__import__('os')", "__import__('os')"), ("a=b", "a=b"), ("", None), ("-1.5", -1.5),
    ],
)  # fmt: skip
def test_command_line_values(text, value):
    assert parse_value(text) == value


def test_yaml_refuses_code_and_duplicates(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("a: 1\na: 2\n")
    with pytest.raises(ConfigError, match=r"bad.yaml:2: key 'a' is given twice"):
        read_yaml(file)
    file.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(file)


def test_contradicting_overrides_are_an_error():
    with pytest.raises(ConfigError, match="contradicts"):
        nest({"a": 1, "a.b": 2})


def test_strict_config_warn_drops_unknown_keys_with_a_warning(caplog):
    with caplog.at_level("WARNING", logger="talkingface"):
        config = load(strict_config="warn", **{"model.widht": 3, "nonsense": 1}).config
    assert config.model.width == 8
    assert sum("it is ignored" in r.message for r in caplog.records) == 2
    with pytest.raises(ConfigError, match="seed"):
        load(strict_config="warn", seed="x")


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"metrics": ["SSMI"]}, "SSMI"),
        ({"stages.gan.precision": "foo"}, "'stages.gan.precision': expected '32', 'bf16', '16' or 'bf16-auto'"),
        ({"evaluation.precision": 16}, "'evaluation.precision': expected '32' or 'bf16'"),
        ({"stages.gan.monitor": "eval/ssim"}, "needs eval_step"),
        ({"stages.warm.monitor": "eval/ssim"}, "cannot generate videos yet"),
        ({"stages": 3}, "'stages': expected"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(overrides, part):
    assert part in message(**overrides)


def test_a_precision_may_be_written_as_a_number():
    config = load(precision=32, **{"stages.gan.precision": 16, "evaluation.precision": 32}).config
    assert (config.precision, config.stages[1].precision, config.evaluation.precision) == ("32", "16", "32")


def test_who_names_no_metric_gets_those_that_the_table_of_metrics_marks(monkeypatch):
    assert load().config.metrics[:2] == ("SSIM", "PSNR") and "CSIM" not in load().config.metrics
    monkeypatch.setitem(METRICS, "CSIM", METRICS["CSIM"]._replace(default=True))
    assert load().config.metrics == tuple(name for name, metric in METRICS.items() if metric.default)
    assert "CSIM" in load().config.metrics
    assert load(metrics=["LSE"]).config.metrics == ("LSE",) and load(metrics=[]).config.metrics == ()


def test_a_length_in_one_unit_replaces_the_limit_in_the_other():
    config = load(**{"stages.gan.max_steps": 5, "epochs": 2}).config
    assert [(s.epochs, s.max_steps) for s in config.stages] == [(2, None), (2, None)]


def test_origins_of_values_for_all_stages_and_of_sections():
    text = load(learning_rate=0.5).to_yaml(with_origins=True)
    lines = [row for row in text.splitlines() if row.lstrip().startswith("lr: 0.5")]
    assert lines and all(row.endswith("# command line") for row in lines)


def test_what_the_user_asked_for_is_told_from_the_built_in_values(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("model: {width: 12}\n")
    loaded = load_config("ToyGAN", "folder", [file], {"model.dropout": 0.5, "seed": 3})
    assert loaded.asked("model") == {"model.width": 12, "model.dropout": 0.5}
    assert load().asked("model") == {}


def test_a_preset_that_x264_does_not_have_is_refused_with_the_names():
    with pytest.raises(ConfigError, match=r"output\.preset.*'veryfast'.*got \"quickly\"") as caught:
        load_config("IPLAP", "folder", (), {"output.preset": "quickly"})
    assert "\n" not in str(caught.value)
    assert load_config("IPLAP", "folder", (), {"output.preset": "veryfast"}).config.output.preset == "veryfast"
