"""Model cards: all numbers are from scores.json; data names, paths, groups and usage code."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from affect_jax.core.errors import UserError
from affect_jax.export import group_scores, model_card
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions
from affect_jax.run.trained_network import (
    Checkpoints,
    TrainedNetwork,
    Workdir,
    class_names,
    load_network,
)
from tests.report.conftest import create_predictions, write_run
from tests.trained_runs import create_config, create_weights

EXPORTED_FILES = {"onnx": ["model.onnx"], "safetensors": ["model.safetensors"]}
NUMBER = re.compile(r"\d\.\d{3}")


@pytest.fixture(scope="module")
def create_evaluated_run(tmp_path_factory):
    """Returns a function that creates and loads a run with an evaluation at step 200."""

    def create(
        predictions: Predictions, *, data: str = "synthetic_faces", step: int = 200, **changes
    ):
        folder = tmp_path_factory.mktemp("card") / "run"
        config = create_config(**changes)
        config.data.name = data
        if data != "synthetic_faces":
            config.data.options = {}
        write_run(folder, predictions, data=data)
        workdir = Workdir(folder)
        workdir.save_config(model_card.to_dict(config))
        with Checkpoints.from_config(config, workdir) as checkpoints:
            checkpoints.save(step, create_weights(config, seed=step), {"epoch": 1.0})
            checkpoints.ensure_saved(step)
        return load_network(folder)

    return create


def write_and_read_card(
    trained: TrainedNetwork, export_format: str, out: pathlib.Path
) -> tuple[dict, str]:
    model_card.write_card(
        model_card.create_card(trained, export_format, {"files": EXPORTED_FILES[export_format]}),
        out,
    )
    return json.loads((out / "card.json").read_text()), (out / "README.md").read_text()


def test_all_numbers_are_from_scores_json(create_evaluated_run, tmp_path):
    trained = create_evaluated_run(create_predictions())
    card_json, text = write_and_read_card(trained, "onnx", tmp_path)
    scores_json = json.loads((trained.folder / "evaluation/validation/scores.json").read_text())
    (evaluation,) = card_json["evaluations"]
    assert evaluation["scores"] == scores_json["scores"]
    assert evaluation["intervals"] == scores_json["intervals"]
    values = [v for v in scores_json["scores"].values() if v is not None]
    values += [end for ends in scores_json["intervals"].values() for end in ends]
    expected = {f"{abs(round(value, 3)):.3f}" for value in values}
    numbers = NUMBER.findall(text.partition("## Scores")[2])
    assert len(numbers) > 100 and set(numbers) <= expected
    accuracy = scores_json["scores"]["categorical.top1.original.accuracy"]
    low, high = scores_json["intervals"]["categorical.top1.original.accuracy"]
    assert re.search(rf"Accuracy.*{accuracy:.3f}.*{low:.3f} to {high:.3f}", text)
    recall = scores_json["scores"]["categorical.top1.original.recall.contempt"]
    assert re.search(rf"\| contempt +\| {recall:.3f}", text)


def test_other_data_are_not_called_affectnet(create_evaluated_run, tmp_path):
    _, text = write_and_read_card(create_evaluated_run(create_predictions()), "onnx", tmp_path)
    assert "AffectNet" not in text and "rendered faces (synthetic_faces)" in text
    _, text = write_and_read_card(
        create_evaluated_run(create_predictions(), data="csv_faces"), "onnx", tmp_path
    )
    assert "AffectNet" not in text and "csv_faces" in text
    _, text = write_and_read_card(
        create_evaluated_run(create_predictions(), data="affectnet"), "onnx", tmp_path
    )
    assert not re.search("AffectNet(?!’s layout)", text) and "faces in AffectNet’s layout" in text


def test_affectnet_is_named_for_its_validation_split(create_evaluated_run, tmp_path):
    predictions = create_predictions(count=400)
    rows = np.concatenate(
        [np.resize(np.flatnonzero(predictions.expression == c), 500) for c in range(8)]
    )
    arrays = {
        field.name: getattr(predictions, field.name)[rows]
        for field in dataclasses.fields(Predictions)
        if isinstance(getattr(predictions, field.name), np.ndarray)
    }
    arrays["id"] = np.array([f"validation/{i:07d}" for i in range(4000)])
    trained = create_evaluated_run(dataclasses.replace(predictions, **arrays), data="affectnet")
    card_json, text = write_and_read_card(trained, "onnx", tmp_path)
    assert (
        card_json["data"] == "AffectNet" and "Trained on the training split of AffectNet." in text
    )


def test_unevaluated_checkpoint_shows_no_number(create_evaluated_run, tmp_path):
    card_json, text = write_and_read_card(
        create_evaluated_run(create_predictions(), step=100), "onnx", tmp_path
    )
    assert card_json["evaluations"] == []
    assert "This checkpoint has not been evaluated" in text
    assert "validation: scored at step 200, this is step 100" in text
    assert not NUMBER.search(text.partition("## Scores")[2])


def test_unreadable_scores_are_reported(create_evaluated_run, tmp_path):
    trained = create_evaluated_run(create_predictions())
    (trained.folder / "evaluation/validation/scores.json").write_text("{")
    card_json, text = write_and_read_card(trained, "onnx", tmp_path)
    assert not card_json["evaluations"] and "Not shown: validation: " in text


def test_card_contains_no_local_paths(create_evaluated_run, tmp_path):
    paths = {"data__manual_dir": "/home/anna/faces", "init_from": "/home/anna/start.pth"}
    card_json, text = write_and_read_card(
        create_evaluated_run(create_predictions(), **paths), "onnx", tmp_path
    )
    content = json.dumps(card_json) + text
    assert "anna" not in content and str(tmp_path.parent) not in content
    assert "started from the weights of `start.pth`" in text
    assert "(`start.pth`) have their own licence" in text


def test_card_has_all_sections(create_evaluated_run, tmp_path):
    _, text = write_and_read_card(create_evaluated_run(create_predictions()), "onnx", tmp_path)
    headings = re.findall("^## (.+)$", text, re.MULTILINE)
    assert headings == [
        "Usage",
        "Data",
        "Scores",
        "Scores by group",
        "Intended use",
        "Limits",
        "Licence",
    ]
    assert "This dataset has no group labels" in text
    assert "trained on rendered faces only, not on photographs" in text
    assert "neutral, happiness, sadness" in text and "AU1, AU2" in text and "AU43" in text
    assert "best on this split, so the scores are not those of an independent test set" in text
    predictions = dataclasses.replace(
        create_predictions(), classes=(), expression=None, probabilities=None
    )
    trained = create_evaluated_run(predictions, heads=("valence_arousal",), dtype="bfloat16")
    _, text = write_and_read_card(trained, "onnx", tmp_path)
    assert "| recall" not in text and "this file computes in float32" in text
    assert "# resnet18 for valence and arousal" in text


def write_group_labels(path: pathlib.Path, predictions: Predictions) -> pathlib.Path:
    """Writes the groups gender and age; the gender of every tenth face is unknown."""
    lines = ["id,gender,age"]
    for row, name in enumerate(predictions.id.tolist()):
        gender = "" if row % 10 == 0 else ("woman", "man")[row % 2]
        quoted = name.replace('"', '""')
        lines.append(f'"{quoted}",{gender},{"old" if row % 3 else "young"}')
    path.write_text("\n".join([*lines, "elsewhere.jpg,woman,old"]) + "\n")
    return path


def test_group_scores_are_those_of_the_members(create_evaluated_run, tmp_path):
    predictions = create_predictions()
    trained = create_evaluated_run(predictions)
    labels = group_scores.read_group_labels(write_group_labels(tmp_path / "g.csv", predictions))
    content = model_card.create_card(trained, "onnx", {"files": EXPORTED_FILES["onnx"]}, labels)
    model_card.write_card(content, tmp_path)
    gender, age = content["evaluations"][0]["groupings"]
    assert (gender["name"], age["name"], gender["unknown"]) == ("gender", "age", 24)
    for name, rows in (("woman", range(0, 240, 2)), ("man", range(1, 240, 2))):
        rows = np.array([row for row in rows if row % 10])
        (group,) = [entry for entry in gender["groups"] if entry["group"] == name]
        expected = protocol.score(predictions.select(rows), draws=1)
        assert group["faces"] == len(rows)
        assert group["scores"].keys() == set(group_scores.GROUP_SCORES)
        for score_name, value in group["scores"].items():
            assert value == expected.values[score_name]
            low, high = group["intervals"][score_name]
            assert low <= value <= high
    text = (tmp_path / "README.md").read_text()
    accuracy = gender["groups"][0]["scores"]["categorical.top1.original.accuracy"]
    assert "By gender, validation split; 24 faces have no group label:" in text
    assert f"{accuracy:.3f} (" in text
    assert "no group labels" not in text
    assert "no group labels" in write_and_read_card(trained, "onnx", tmp_path)[1]


def test_group_without_labels_has_undefined_scores(create_evaluated_run, tmp_path):
    predictions = create_predictions()
    expression = np.where(np.arange(240) % 2, predictions.expression, -1)
    predictions = dataclasses.replace(predictions, expression=expression)
    labels = group_scores.read_group_labels(write_group_labels(tmp_path / "g.csv", predictions))
    content = model_card.create_card(
        create_evaluated_run(predictions), "onnx", {"files": EXPORTED_FILES["onnx"]}, labels
    )
    (group,) = [
        entry
        for entry in content["evaluations"][0]["groupings"][0]["groups"]
        if entry["group"] == "woman"
    ]
    assert group["scores"]["categorical.top1.original.accuracy"] is None
    assert group["scores"]["dimensional.valence.ccc"] is not None
    assert "undefined" in model_card.to_markdown(content)


def test_unknown_ids_in_group_labels_are_an_error(create_evaluated_run, tmp_path):
    (tmp_path / "g.csv").write_text("id,gender\nx,man\ny,woman\n")
    labels = group_scores.read_group_labels(tmp_path / "g.csv")
    with pytest.raises(UserError, match="no id is that of a face on which this checkpoint was sc"):
        model_card.create_card(
            create_evaluated_run(create_predictions()), "onnx", {"files": []}, labels
        )


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "needs at least one row, a column 'id'"),
        ("id\na\n", "needs at least one row, a column 'id'"),
        ("name,gender\na,man\n", "needs at least one row, a column 'id'"),
        ("id,gender\na,man\na,woman\n", "id 'a' appears 2 times"),
        ("id,gender\na,man\nb,\n", "column 'gender' has 1 different values"),
        ("id,n\n" + "".join(f"{i},{i}\n" for i in range(60)), "column 'n' has 60 different"),
        ('id,gender\n"a,man\n', "cannot be read"),
    ],
)
def test_invalid_group_labels_give_one_line(content, message, tmp_path):
    (tmp_path / "g.csv").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        group_scores.read_group_labels(tmp_path / "g.csv")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="No such file"):
        group_scores.read_group_labels(tmp_path / "absent.csv")


def test_class_names_are_escaped_in_tables(create_evaluated_run, tmp_path):
    trained = create_evaluated_run(create_predictions())
    trained.config.data.options = {"classes": ("a|b", "c", "d", "e", "f", "g", "h", "i")}
    trained = dataclasses.replace(trained, classes=class_names(trained.config))
    _, text = write_and_read_card(trained, "onnx", tmp_path)
    rows = [line for line in text.splitlines() if line.startswith("| `expression`")]
    assert len(rows) == 1 and rows[0].replace("\\|", "").count("|") == 5


@pytest.mark.parametrize(
    "export_format, separate_params", [("onnx", False), ("stablehlo", True), ("safetensors", 0)]
)
def test_usage_code_of_the_card_runs(
    export_format, separate_params, create_exported, tmp_path, monkeypatch
):
    trained, folder, result = create_exported(export_format, separate_params=bool(separate_params))
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    model_card.write_card(model_card.create_card(trained, export_format, result), tmp_path)
    text = (tmp_path / "README.md").read_text()
    (code,) = re.findall("```python\n(.+?)```", text, re.DOTALL)
    face = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    Image.fromarray(face).save(tmp_path / "face.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    if export_format == "safetensors":
        assert not names["weights"].report.initialised
    else:
        outputs = names["outputs"]
        assert set(outputs) == {"expression", "valence_arousal", "action_units"}
        np.testing.assert_allclose(np.asarray(outputs["expression"]).sum(), 1, atol=1e-5)
