"""Writes small datasets in every layout. Each returns the options that read it."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from affect_jax.data import DATASETS, aff_wild2
from tests.data.affectnet_releases import picture


def save(path: pathlib.Path, seed: int = 0, side: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, side).save(path)


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def content(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def folder_faces(base: pathlib.Path) -> dict[str, Any]:
    for i, path in enumerate(("happy/a.jpg", "happy/b.PNG", "Sad/c.jpg", "3_Surprised/d.webp")):
        save(base / "train" / path, i)
    save(base / "val/happy/e.jpg", 4)
    save(base / "PrivateTest/Sad/f.jpg", 5)
    save(base / "train/no_class.jpg")
    write(base / "train/happy/Thumbs.db", "")
    write(base / "readme.txt", "")
    return {}


def yolo_faces(base: pathlib.Path) -> dict[str, Any]:
    write(base / "data.yaml", "train: images/train\nval: images/val\nnames: {0: Anger, 1: happy}\n")
    for i, path in enumerate(("train/a.jpg", "train/b.png", "val/c.jpg", "train/background.jpg")):
        save(base / "images" / path, i)
    write(base / "labels/train/a.txt", "1 0.5 0.5 0.5 0.25\n0 0.25 0.25 0.5 0.5\n")
    write(base / "labels/train/b.txt", "0 0.9 0.5 0.4 0.5\n")  # is clipped
    write(base / "labels/val/c.txt", "1 0.5 0.5 1 1\n")
    write(base / "labels/train/background.txt", "")
    return {}


def parquet_faces(base: pathlib.Path) -> dict[str, Any]:
    (base / "data").mkdir(parents=True)
    for name, labels, order in (
        ("train-00000-of-00001", [1, 0, None], ["angry", "happy"]),
        ("test-00000-of-00001", [1], ["happy", "angry"]),
    ):
        feature = {"label": {"names": order, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
        images = [{"bytes": content(i), "path": f"{i}.png"} for i in range(len(labels))]
        table = pa.table({"image": images, "label": pa.array(labels, pa.int64())})
        pq.write_table(table.replace_schema_metadata(metadata), base / f"data/{name}.parquet")
    return {}


def raf_db(base: pathlib.Path) -> dict[str, Any]:
    lines = {"train_00001": 5, "train_00002": 4, "test_0001": 7}
    text = "".join(f"{name}.jpg {label}\n" for name, label in lines.items())
    write(base / "EmoLabel/list_patition_label.txt", text)
    for i, name in enumerate(lines):
        save(base / f"Image/aligned/{name}_aligned.jpg", i)
        save(base / f"Image/original/{name}.jpg", i)
        write(base / f"Annotation/boundingbox/{name}_boundingbox.txt", "4.0 6.0 34.0 46.0 \n")
    return {"images": "original"}


def raf_db_compound(base: pathlib.Path) -> dict[str, Any]:
    write(
        base / "compound/EmoLabel/list_patition_label.txt", "train_0001.jpg 11\ntest_0001.jpg 1\n"
    )
    for i, name in enumerate(("train_0001", "test_0001")):
        save(base / f"compound/Image/aligned/{name}_aligned.jpg", i)
    return {}


VOTES = {
    "Training": ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)),
    "PublicTest": ((0, 9, 1, 0, 0, 0, 0, 0, 0, 0),),
    "PrivateTest": ((0, 0, 0, 0, 0, 0, 0, 2, 8, 0),),
}


def fer_plus_votes(base: pathlib.Path) -> list[tuple[str, str]]:
    """Writes the table of votes and returns (usage, name) of each face."""
    rows = [(usage, votes) for usage, all_votes in VOTES.items() for votes in all_votes]
    faces = [
        (usage, "" if votes[-1] == 10 else f"fer{i:07d}.png")
        for i, (usage, votes) in enumerate(rows)
    ]
    base.mkdir(parents=True, exist_ok=True)
    with open(base / "fer2013new.csv", "w", newline="") as file:
        writer = csv.writer(file)
        names = "neutral happiness surprise sadness anger disgust fear contempt unknown NF".split()
        writer.writerow(["Usage", "Image name", *names])
        writer.writerows([*face, *votes] for face, (_, votes) in zip(faces, rows, strict=True))
    return faces


def fer_plus_pixels(base: pathlib.Path) -> dict[str, Any]:
    with_pixels = ["emotion,pixels,Usage"]
    for i, (usage, _) in enumerate(fer_plus_votes(base)):
        pixels = np.asarray(picture(i).convert("L")).ravel()
        with_pixels.append(f"0,{' '.join(map(str, pixels))},{usage}")
    write(base / "fer2013.csv", "\n".join(with_pixels))
    return {}


def affectnet_plus(base: pathlib.Path) -> dict[str, Any]:
    soft = [0.1, 0.6, 0.0, 0.1, 0.0, 0.0, 0.0, 0.2]
    points = np.linspace(4, 40, 136).tolist()
    metadata = {"valence": 0.5, "arousal": -0.25, "age": 30, "landmark-68": points}
    complete = {"human-label": 1, "soft-label": soft, "subset": 0, "meta-data": metadata}
    for split, contents in (
        ("train_set", [complete, {"human-label": 2}, {"soft-label": soft, "subset": 2}]),
        ("validation_set", [complete]),
    ):
        for i, annotation in enumerate(contents):
            save(base / f"human_annotated/{split}/images/{i}.jpg", i)
            path = base / f"human_annotated/{split}/annotations/{i}.json"
            write(path, json.dumps(annotation))
    return {}


def aff_wild2_frames(base: pathlib.Path) -> dict[str, Any]:
    names = ",".join(aff_wild2.NAMES)
    units = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
    expression, dimensions = "EXPR_Recognition_Challenge", "VA_Estimation_Challenge"
    write(base / expression / "Train_Set/a.txt", f"{names}\n4\n-1\n7\n1\n")
    write(base / expression / "Train_Set/b_left.txt", f"{names}\n0\n")
    write(base / expression / "Validation_Set/c.txt", f"{names}\n6\n")
    write(base / dimensions / "Train_Set/a.txt", "valence,arousal\n0.5,-0.5\n-5,-5\n0.1,0.2\n0,0\n")
    write(base / dimensions / "Train_Set/c.txt", "valence,arousal\n0.9,0.9\n")  # in another split
    ones = "AU_Detection_Challenge/Train_Set/a.txt"
    write(base / ones, f"{units}\n{','.join('1' * 12)}\n{','.join(['-1'] * 12)}\n")
    for i, path in enumerate(("a/00001", "a/00002", "a/00003", "b_left/00001", "c/00001")):
        save(base / f"cropped_aligned/{path}.jpg", i)
    return {}


WRITERS = {
    "folder_faces": folder_faces,
    "yolo_faces": yolo_faces,
    "parquet_faces": parquet_faces,
    "raf_db": raf_db,
    "raf_db_compound": raf_db_compound,
    "fer_plus": fer_plus_pixels,
    "affectnet_plus": affectnet_plus,
    "aff_wild2": aff_wild2_frames,
}


def prepare(name: str, base: pathlib.Path, **options) -> Any:
    """Prepares the dataset `name` of the folder `base`; records go beside the folder."""
    options = {"image_size": 32, "num_workers": 1, "data_dir": str(base.parent / "data")} | options
    return DATASETS[name](manual_dir=str(base), **options)


def table(path: pathlib.Path) -> list[list[str]]:
    """Reads the rows of a CSV file without its header."""
    with open(path, newline="") as file:
        return list(csv.reader(file))[1:]
