"""Face tracks of the LSE pipeline against the published implementation."""

from __future__ import annotations

import numpy as np

from talkingface.lipsync.public import face_track


def jittered_track(v):
    f = np.arange(40)
    x, y = 20 * np.sin(f / 9), 10 * np.cos(f / 7)
    box = np.stack([60 + x, 40 + y, 170 + x, 170 + y], axis=1) + 2 * v.input("track_jitter")
    box[7] += 25
    box[20, 2:] += 40
    return face_track.FaceTrack(0, box)


def test_smoothed_track_equals_the_published_one(vector):
    v = vector("metrics", "face_track")
    ours = {"medfilt": face_track.KERNEL, "crop_scale": face_track.CROP_SCALE, "pad_value": face_track.PAD_VALUE}
    assert ours.items() <= v["constructor"].items()
    smooth = face_track.smooth(jittered_track(v))
    v.check("smoothed_half_size", smooth.half_size, 1e-6)
    v.check("smoothed_cx", smooth.x, 1e-6)
    v.check("smoothed_cy", smooth.y, 1e-6)


def test_crops_equal_the_published_ones(vector):
    v = vector("metrics", "face_track")
    smooth = face_track.smooth(jittered_track(v))
    assert [list(smooth.rectangle(index)) for index in range(40)] == v["crop_rectangles"]
    image = np.floor(256 * v.input("track_image")).astype(np.uint8)
    crops = np.stack([smooth.crop(image, index) for index in (0, 6, 20, 39)])
    v.check("crop_frames_0_6_20_39", crops, 1e-6)


def test_two_faces_are_linked_as_published(vector):
    v = vector("metrics", "face_track")
    ours = {
        "min_track": face_track.MIN_TRACK,
        "num_failed_det": face_track.MAX_GAP,
        "min_face_size": face_track.MIN_SIDE,
        "iou": face_track.MIN_OVERLAP,
    }
    assert ours.items() <= v["constructor"].items()
    jitter = v.input("shot_jitter")
    detections = []
    for f in range(200):
        a, b = (50 + 0.3 * f, 60, 190 + 0.3 * f, 220), (400 - 0.2 * f, 80, 520 - 0.2 * f, 230)
        faces = [a + jitter[f, 0]] if not 60 <= f < 80 else []
        faces += [b + jitter[f, 1]] if 30 <= f < 170 else []
        detections.append(np.array(faces).reshape(-1, 4))
    tracks = face_track.link(detections)
    assert [(track.first, track.last) for track in tracks] == [(t["first"], t["last"]) for t in v["tracks"]]
    for track, stored in zip(tracks, v["tracks"]):
        v.check_stored(stored["bbox"], track.boxes, 1e-6, f"track from frame {track.first}")
