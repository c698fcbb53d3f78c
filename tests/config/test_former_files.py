"""Configuration files of the earlier toolkit load as they were meant there."""

from __future__ import annotations

import pytest

from talkingface.config.layers import to_plain
from talkingface.plugin.configuration import load_config, load_settings

OVERALL = """\
# general
gpu_id: '3, 4, 5'
worker: 0
use_gpu: False
seed: 2021
checkpoint_dir: 'old_saved'
show_progress: True
log_wandb: False
shuffle: True
device: 'cpu'
reproducibility: True
state: INFO
# training
epochs: 300
train_batch_size: 2048
learner: adam
learning_rate: 0.0001
eval_step: 1
stopping_step: 10
weight_decay: 0.0
saved: True
resume: True
train: True
# evaluation
metrics: ["LSE", "SSIM"]
evaluate_batch_size: 50
lse_checkpoint_path: 'checkpoints/LSE/syncnet_v2.model'
temp_dir: 'results/temp'
lse_reference_dir: 'lse'
valid_metric_bigger: False
"""
DATASET = """\
train_filelist: 'dataset/lrs2/filelist/train.txt'
val_filelist: 'dataset/lrs2/filelist/val.txt'
test_filelist: 'dataset/lrs2/filelist/test.txt'
data_root: 'dataset/lrs2/data'
preprocessed_root: 'dataset/lrs2/preprocessed_data'
need_preprocess: True
preprocess_batch_size: 32
"""
MODEL = """\
checkpoint_sub_dir: "/wav2lip"
temp_sub_dir: "/wav2lip"
batch_size: 16
ngpu: 1
img_size: 96
fps: 25
nepochs: 50
initial_learning_rate: 0.0001
disc_initial_learning_rate: 0.0001
eval_interval: 3000
checkpoint_interval: 3000
syncnet_T: 5
syncnet_batch_size: 64
syncnet_lr: 0.0001
syncnet_wt: 0.03
syncnet_checkpoint_path: "checkpoints/Wav2Lip/lipsync_expert.pth"
disc_wt: 0.07
mel_step_size: 16
num_mels: 80
pads: [0, 10, 0, 0]
static: False
nosmooth: False
face_det_batch_size: 16
wav2lip_batch_size: 128
resize_factor: 1
vshift: 15
"""


@pytest.fixture
def files(tmp_path):
    """The three files, by name."""
    for name, text in {"overall": OVERALL, "lrs2": DATASET, "wav2lip": MODEL}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return {name: tmp_path / f"{name}.yaml" for name in ("overall", "lrs2", "wav2lip")}


def test_the_whole_overall_yaml_stands_below_every_model(files, caplog):
    with caplog.at_level("WARNING", logger="talkingface"):
        loaded = load_config("IPLAP", "lrs2", [files["overall"]])
    plain, own = to_plain(loaded.config), to_plain(load_config("IPLAP", "lrs2").config)
    assert (plain["seed"], plain["device"], plain["saved_dir"], plain["resume"]) == (2021, "cpu", "old_saved", "none")
    assert plain["metrics"] == ["LSE", "SSIM"] and plain["log_level"] == "info"
    assert plain["evaluation"]["lse_checkpoint"] == "checkpoints/LSE/syncnet_v2.model"
    assert plain["stages"] == own["stages"] and plain["model"] == own["model"], "no default beats a model"
    said = [record.message for record in caplog.records]
    assert all(line.startswith(f"{files['overall']}: ") for line in said)
    assert sum("are the weakest" in line and "epochs" in line for line in said) == 1
    for key in (
        "gpu_id",
        "train_batch_size",
        "evaluate_batch_size",
        "shuffle",
        "saved",
        "temp_dir",
        "valid_metric_bigger",
    ):
        assert sum(f": {key} is ignored: " in line for line in said) == 1


def test_the_overall_yaml_serves_commands_without_a_model(files):
    assert load_settings([files["overall"]]).config.seed == 2021


def test_a_batch_size_is_not_beaten_by_one_that_nothing_read(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("train_batch_size: 2048\nbatch_size: 3\n")
    assert {stage.batch_size for stage in load_config("IPLAP", "lrs2", [mine]).config.stages} == {3}
    mine.write_text("train_batch_size: 2048\n")
    assert load_config("IPLAP", "lrs2", [mine]).config.stages == load_config("IPLAP", "lrs2").config.stages


def test_files_of_a_data_set_and_a_model_load_together(files, caplog):
    with caplog.at_level("WARNING", logger="talkingface"):
        config = load_config("Wav2Lip", "lrs2", list(files.values())).config
    stages = {stage.name: stage for stage in config.stages}
    assert config.data_root == "dataset/lrs2/data" and config.distributed.devices == 1
    assert (config.model.loss.sync, config.model.loss.perceptual, config.model.crop.size) == (0.03, 0.07, 96)
    assert config.model.inference.pads == (0, 10, 0, 0) and config.model.inference.batch == 128
    assert config.experts["sync_expert"] == "checkpoints/Wav2Lip/lipsync_expert.pth"
    assert {stage.epochs for stage in stages.values()} == {50} and config.save_every_steps == 3000
    assert stages["generator"].batch_size == 16 and stages["generator"].optim["generator"].lr == 1e-4
    assert not [record for record in caplog.records if "unknown" in record.message]


HYPERLIPS = """\
img_size: 128
fps: 25
batch_size: 28
initial_learning_rate: 0.0001
disc_initial_learning_rate: 0.0005
nepochs: 20
eval_interval: 1000
checkpoint_interval: 1000
disc_wt: 0.2
syncnet_wt: 0.03
syncnet_T: 5
mel_step_size: 16
syncnet_batch_size: 64
syncnet_lr: 0.0001
syncnet_checkpoint_path: 'checkpoints/pretrain_sync_expert.pth'
checkpoint_sub_dir: '/hyperlipsbase'
temp_sub_dir: '/hyperlipsbase'
pads: [0, 10, 0, 0]
face_det_batch_size: 16
resize_factor: 1
wav2lip_batch_size: 128
train_filelist: 'dataset/MEAD/filelist/train.txt'
val_filelist: 'dataset/MEAD/filelist/val.txt'
test_filelist: 'dataset/MEAD/filelist/test.txt'
data_root: 'dataset/MEAD/data'
preprocessed_root: 'dataset/MEAD/preprocessed_data/imgs'
need_preprocess: True
preprocess_batch_size: 32
"""


def test_the_keys_of_an_earlier_port_of_hyperlips_are_translated_or_explained(tmp_path, caplog):
    (tmp_path / "old.yaml").write_text(HYPERLIPS)
    with caplog.at_level("WARNING", logger="talkingface"):
        config = load_config("HyperLipsBase", "MEAD", [tmp_path / "old.yaml"]).config
    assert config.preprocessed_root == "dataset/MEAD/preprocessed_data"
    expert, base = config.stages
    assert (base.batch_size, base.epochs, base.max_steps) == (28, 20, None)
    assert (base.optim["generator"].lr, base.optim["discriminator"].lr) == (1e-4, 5e-4)
    assert expert.optim["sync_expert"].lr == 1e-4 and config.save_every_steps == 1000
    assert config.experts["sync_expert"] == "checkpoints/pretrain_sync_expert.pth"
    assert config.model.inference.pads == (0, 10, 0, 0) and config.model.inference.batch == 128
    explained = {"eval_interval", "syncnet_T", "mel_step_size", "face_det_batch_size", "resize_factor", "temp_sub_dir"}
    assert all(f": {key} is ignored: " in caplog.text for key in explained)


def test_the_same_file_serves_the_second_model(tmp_path, caplog):
    (tmp_path / "old.yaml").write_text(HYPERLIPS.replace("/imgs", "").replace("lipsbase", "lipshr"))
    with caplog.at_level("WARNING", logger="talkingface"):
        config = load_config("HyperLipsHR", "MEAD", [tmp_path / "old.yaml"]).config
    assert config.preprocessed_root == "dataset/MEAD/preprocessed_data" and "sync_expert" not in config.experts
    optim = config.stages[0].optim
    assert (optim["hr_decoder"].lr, optim["hr_discriminator"].lr, config.stages[0].epochs) == (1e-4, 5e-4, 20)
    assert "img_size is ignored: give model.decoder.scale" in caplog.text


@pytest.mark.parametrize("level", ["INFO", "info", "Warning", "CRITICAL", "debug"])
def test_a_log_level_is_meant_in_any_case(level):
    found = load_settings(overrides={"log_level": level}).config.log_level
    assert found == {"critical": "error"}.get(level.lower(), level.lower())


def test_resume_without_a_path_is_a_switch_on_the_command_line_alone(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("resume: True\nresume_checkpoint_path: saved/IPLAP-lrs2/first\n")
    assert load_config("IPLAP", "lrs2", [mine]).config.resume == "saved/IPLAP-lrs2/first"
    assert load_config("IPLAP", "lrs2", [], {"resume": True}).config.resume == "auto"
    asked = {"resume": True, "resume_checkpoint_path": "saved/x"}
    assert load_config("IPLAP", "lrs2", [], asked).config.resume == "saved/x"
