"""Published weight files: what each is for, its terms, where it comes from, and whether it is there and intact.

Sizes and hashes of files whose authors name none (SyncNet, Wav2Lip) are those of public mirrors. Hashes of eight
characters are the ones torchvision writes into its file names.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from talkingface.errors import TalkingFaceError, unknown
from talkingface.files import file_sha256
from talkingface.weights.download import DownloadError, archive_of, download, part_of, take_out

log = logging.getLogger("talkingface")

_TORCHVISION = "BSD-3-Clause (torchvision's code); trained on ImageNet, whose terms apply"
_WAV2LIP = "personal, research and non-commercial use (authors' page)"
_ARCFACE = "non-commercial research (InsightFace model zoo)"
_MAKEITTALK = "CC BY-NC 4.0 (authors' repository)"
_SOURCE = "see source"


@dataclass(frozen=True)
class Archive:
    """A zip, for example a wheel, that a file is published in.

    Attributes:
        member: name of the file inside.
        size: bytes of the zip, exactly.
        sha256: of the zip.
    """

    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class WeightFile:
    """A published file.

    Attributes:
        name: on the command line; the name of the file will do as well.
        path: below `weights_dir`.
        purpose: what needs it.
        licence: as published; `see source` where we know of none.
        source: page or repository of the authors.
        url: direct address; empty: it must be fetched by hand.
        size: bytes; 0 where it is not known.
        exact: whether `size` is known to the byte; otherwise it is only shown.
        sha256: hash, or the front of it; empty where none is published.
        inside: the zip that `url` leads to, where the file lies in one.
    """

    name: str
    path: str
    purpose: str
    licence: str
    source: str
    url: str = ""
    size: int = 0
    exact: bool = False
    sha256: str = ""
    inside: Archive | None = None

    @property
    def fetchable(self) -> bool:
        """Whether `weights --download` offers it: only where what arrives can be told from anything else."""
        return bool(self.url) and len(self.sha256) == 64

    @property
    def most_bytes(self) -> int:
        """More than this cannot be the file."""
        return self.size if self.exact else round(1.05 * self.size)


def _torchvision(name: str, file: str, purpose: str, size: int) -> WeightFile:
    url = f"https://download.pytorch.org/models/{file}"
    prefix = Path(file).stem.rpartition("-")[2]
    return WeightFile(name, file, purpose, _TORCHVISION, "https://github.com/pytorch/vision", url, size, sha256=prefix)


def _wav2lip(name: str, purpose: str, size: int, sha256: str) -> WeightFile:
    source = "https://github.com/Rudrabha/Wav2Lip (links to Google Drive)"
    path = f"Wav2Lip/{name}.pth"
    return WeightFile(name, path, purpose, _WAV2LIP, source, size=size, exact=True, sha256=sha256)


def _hyperlips(name: str, purpose: str) -> WeightFile:
    source = "https://github.com/semchan/HyperLips (links to Baidu disk)"
    return WeightFile(name, f"HyperLips/{name}.pth", purpose, _SOURCE, source)


def _makeittalk(name: str, file: str, purpose: str, size: int = 0) -> WeightFile:
    source = "https://github.com/yzhou359/MakeItTalk (links to Google Drive; texts lie in the repository)"
    return WeightFile(f"makeittalk_{name}", f"MakeItTalk/{file}", purpose, _MAKEITTALK, source, size=size)


def _arcface(network: str, size: int) -> WeightFile:
    source = (
        "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch"
        f" (model zoo: ms1mv3_arcface_{network}_fp16/backbone.pth)"
    )
    purpose = f"metric CSIM, csim_network={network}"
    return WeightFile(f"arcface_{network}", f"arcface/{network}/backbone.pth", purpose, _ARCFACE, source, size=size)


FILES: tuple[WeightFile, ...] = (
    WeightFile(
        "syncnet_v2",
        "LSE/syncnet_v2.model",
        "metric LSE; preprocess.filters.sync",
        _SOURCE,
        "https://www.robots.ox.ac.uk/~vgg/software/lipsync/",
        "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
        54_600_000,
        sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
    ),
    WeightFile(
        "s3fd",
        "s3fd-619a316812.pth",
        "face detector: LSE protocol track, landmark provider s3fd",
        _SOURCE,
        "https://github.com/1adrianb/face-alignment",
        "https://www.adrianbulat.com/downloads/python-fan/s3fd-619a316812.pth",
        89_800_000,
        sha256="619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
    ),
    WeightFile(
        "inception",
        "pt_inception-2015-12-05-6726825d.pth",
        "metric FID",
        "Apache-2.0 (pytorch-fid, and the TensorFlow model it converts)",
        "https://github.com/mseitzer/pytorch-fid",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        95628359,
        exact=True,
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    _torchvision("alexnet", "alexnet-owt-7be5be79.pth", "metric LPIPS, lpips_net=alex", 244_400_000),
    _torchvision("vgg16", "vgg16-397923af.pth", "metric LPIPS, lpips_net=vgg", 553_400_000),
    _torchvision(
        "vgg19",
        "vgg19-dcbb9e9d.pth",
        "perceptual losses, training only",
        574_700_000,
    ),
    _arcface("r50", 166_000_000),
    _arcface("r100", 249_000_000),
    _wav2lip(
        "wav2lip",
        "Wav2Lip without GAN, for `import`",
        435807851,
        "b78b681b68ad9fe6c6fb1debc6ff43ad05834a8af8a62ffc4167b7b34ef63c37",
    ),
    _wav2lip(
        "wav2lip_gan",
        "Wav2Lip with GAN, for `import`",
        435801865,
        "ca9ab7b7b812c0e80a6e70a5977c545a1e8a365a6c49d5e533023c034d7ac3d8",
    ),
    _wav2lip(
        "lipsync_expert",
        "sync expert of Wav2Lip: loss, or judge of expert_sync",
        197357631,
        "9b9936c721696446eeed353032cab242a8cf0eed8c46cde540366f6ae5493be5",
    ),
    _wav2lip(
        "visual_quality_disc",
        "quality discriminator of Wav2Lip, for `import`",
        169382040,
        "b3f8f6f7e954af02f2ffe0f3ea11f3259af89bff6e70933001c7c6bc8c145d96",
    ),
    WeightFile(
        "iplap_landmark",
        "IPLAP/landmarkgenerator_checkpoint.pth",
        "first stage of IPLAP, for `import`",
        _SOURCE,
        "https://github.com/Weizhi-Zhong/IP_LAP",
    ),
    WeightFile(
        "iplap_renderer",
        "IPLAP/renderer_checkpoint.pth",
        "second stage of IPLAP, for `import`; holds a VGG19",
        _SOURCE,
        "https://github.com/Weizhi-Zhong/IP_LAP",
    ),
    *(
        _hyperlips(f"hyperlipsbase_{data}", "generator of HyperLipsBase, for `import`")
        for data in ("mead", "lrs2", "multi")
    ),
    *(
        _hyperlips(f"hyperlipshr_{data}_{side}", f"decoder of HyperLipsHR, {side} px, for `import`")
        for data in ("mead", "lrs2")
        for side in (128, 256, 512)
    ),
    WeightFile(
        "hyperlips_expert",
        "HyperLips/pretrain_sync_expert.pth",
        "sync expert of HyperLips (64x128), for `import`",
        _SOURCE,
        "https://github.com/semchan/HyperLips",
    ),
    WeightFile(
        "face_segmentation",
        "HyperLips/face_segmentation.pth",
        "face parser BiSeNet, known as 79999_iter.pth too: pasting by `inference.paste: parsing`",
        _SOURCE,
        "https://github.com/zllrunning/face-parsing.PyTorch",
    ),
    _makeittalk("autovc", "ckpt_autovc.pth", "voice conversion of MakeItTalk's front end autovc", 172_000_000),
    _makeittalk("voice", "obama_emb.txt", "the voice that the front end autovc converts to"),
    _makeittalk("content", "ckpt_content_branch.pth", "speech content branch of MakeItTalk", 7_900_000),
    _makeittalk("speaker", "ckpt_speaker_branch.pth", "speaker-aware branch of MakeItTalk", 15_400_000),
    _makeittalk("translate", "ckpt_116_i2i_comb.pth", "image translation of MakeItTalk", 839_000_000),
    _makeittalk("face", "STD_FACE_LANDMARKS.txt", "mean face that the published MakeItTalk was trained with"),
    _makeittalk("mel", "MEAN_STD_AUTOVC_RETRAIN_MEL_AU.txt", "means and deviations of the published MakeItTalk's mel"),
    WeightFile(
        "resemblyzer",
        "Resemblyzer/pretrained.pt",
        "speaker encoder of MakeItTalk",
        "Apache-2.0 (Resemblyzer)",
        "https://github.com/resemble-ai/Resemblyzer (version 0.1.4, inside its wheel)",
        "https://files.pythonhosted.org/packages/d9/b5/d897d5de5b2123a1ad5d32e8e007d83f76582f5c32c60992577263bd7c7e"
        "/Resemblyzer-0.1.4-py3-none-any.whl",
        17090379,
        exact=True,
        sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        inside=Archive(
            "resemblyzer/pretrained.pt",
            15747704,
            "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        ),
    ),
    WeightFile(
        "deepspeech2",
        "DeepSpeech/LibriSpeech_Pretrained_v3.ckpt",
        "audio front end deepspeech2, of LawDNet",
        _SOURCE,
        "https://github.com/SeanNaren/deepspeech.pytorch (release V3.0)",
    ),
    WeightFile(
        "deepspeech",
        "DeepSpeech/output_graph.pb",
        "audio front end deepspeech_tf, and by `convert-deepspeech` deepspeech_onnx, of DINet and LawDNet",
        _SOURCE,
        "https://github.com/mozilla/DeepSpeech (release v0.1.0 or v0.1.1, inside its models archive; linked by DINet)",
    ),
    WeightFile(
        "hubert",
        "HuBERT/hubert_fairseq_large_ll60k_asr_ls960.pth",
        "audio front end hubert_ds, of DINet and LawDNet",
        "MIT (fairseq, redistributed by torchaudio)",
        "https://docs.pytorch.org/audio/ (pipelines.HUBERT_ASR_LARGE)",
        "https://download.pytorch.org/torchaudio/models/hubert_fairseq_large_ll60k_asr_ls960.pth",
    ),
    WeightFile(
        "wav2vec_ds",
        "DeepSpeech/wav2vecDS.pt",
        "audio front end hubert_ds: from HuBERT's letters to DeepSpeech's",
        _SOURCE,
        "https://github.com/Elsaam2y/DINet_optimized (links to Google Drive)",
    ),
    WeightFile(
        "dinet",
        "DINet/clip_training_DINet_256mouth.pth",
        "DINet, for `import`",
        _SOURCE,
        "https://github.com/MRzzm/DINet (links to Google Drive)",
    ),
    WeightFile(
        "syncnet_dinet",
        "DINet/syncnet_256mouth.pth",
        "sync expert of DINet and LawDNet: loss, or for `import`",
        _SOURCE,
        "https://github.com/MRzzm/DINet (links to Google Drive)",
    ),
    WeightFile(
        "lawdnet",
        "LawDNet/checkpoint_epoch_170.pth",
        "LawDNet, for `import`; one name for two files, of DeepSpeech 0.1 and of DeepSpeech 2",
        _SOURCE,
        "the authors' repository, named in arXiv:2409.09326",
    ),
    WeightFile(
        "face_landmarker",
        "mediapipe/face_landmarker.task",
        "landmark provider mediapipe_tasks, as preprocess.landmarks.model_path",
        "Apache-2.0 (MediaPipe); see its model card",
        "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker",
        "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
        3_760_000,
    ),
)


class WeightsError(TalkingFaceError):
    """A weight file is not known, has no direct address, or another file lies in its place."""


def find(name: str) -> WeightFile:
    """The entry called `name`: its name, file name or path, in any case.

    Raises:
        WeightsError: there is none, or several files have that name.
    """
    wanted = name.lower()
    found = [f for f in FILES if wanted in (f.name.lower(), f.path.lower(), Path(f.path).name.lower())]
    if len(found) != 1:
        names = [file.name for file in found] or [file.name for file in FILES]
        raise WeightsError(unknown("weight file", name, names))
    return found[0]


def locate(weights_dir: str | Path, name: str) -> Path:
    """Where the file called `name` is looked for, whether it is there or not."""
    return Path(weights_dir) / find(name).path


def verify(path: str | Path, name: str) -> str:
    """sha256 of a file that stands for the published `name`; warns when it is another one."""
    digest = sha256_of(path)
    if is_published(name, digest) is False:
        log.warning("%s is not the published %s (sha256 %s...); used all the same", path, find(name).path, digest[:12])
    return digest


def sha256_of(path: str | Path) -> str:
    """sha256 of a file, computed once as long as the file does not change."""
    path = Path(path).resolve()
    found = path.stat()
    return _sha256(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    return file_sha256(path)


def is_published(name: str, sha256: str) -> bool | None:
    """Whether a hash is the published one of the file called `name`; None where none is published."""
    known = find(name).sha256
    return sha256.startswith(known) if known else None


def how_to_get(name: str, weights_dir: str | Path) -> str:
    """One line for messages about the absent file."""
    file = find(name)
    if not file.fetchable:
        return f"by hand from {file.url or file.source}, to {Path(weights_dir) / file.path}"
    folder = "" if Path(weights_dir) == Path("checkpoints") else f" --weights_dir={weights_dir}"
    return f"get it with `python run_talkingface.py weights --download={file.name}{folder}`"


def status(file: WeightFile, weights_dir: str | Path) -> str:
    """`ok`, `present` (no hash is published), `absent`, `unfinished`, `WRONG SIZE` or `WRONG HASH`."""
    path = Path(weights_dir) / file.path
    if not path.is_file():
        arriving = archive_of(path) if file.inside else path
        return "unfinished" if part_of(arriving).is_file() else "absent"
    if file.exact and path.stat().st_size != file.size:
        return "WRONG SIZE"
    if not file.sha256:
        return "present"
    return "ok" if is_published(file.name, sha256_of(path)) else "WRONG HASH"


def fetch(name: str, weights_dir: str | Path) -> tuple[WeightFile, str | None]:
    """Download the file called `name` to its place below `weights_dir`, unless it is there.

    Returns:
        Its entry, and its sha256; None for one that was there already.

    Raises:
        WeightsError: no such entry, no direct address or no full hash, or another file lies in its place.
        DownloadError: it cannot be fetched, or is not the published one.
    """
    file = find(name)
    path = Path(weights_dir) / file.path
    if path.is_file():
        found = status(file, weights_dir)
        if found.startswith("WRONG"):
            raise WeightsError(f"{path} is not the published file ({found.lower()}); move it away and try again")
        return file, None
    if not file.fetchable:
        known = f" (sha256 {file.sha256}{'...' if len(file.sha256) < 64 else ''})" if file.sha256 else ""
        why = "no full hash is published to check it with" if file.url else "it has no direct address"
        raise WeightsError(f"{file.name} is not fetched, {why}: get it {how_to_get(file.name, weights_dir)}{known}")
    try:
        if file.inside is None:
            return file, download(file.url, path, file.sha256, file.most_bytes)
        archive = archive_of(path)
        download(file.url, archive, file.inside.sha256, file.inside.size)
        return file, take_out(archive, file.inside.member, path, file.sha256)
    except DownloadError as error:
        raise DownloadError(f"{error}; authors' page: {file.source}") from error
