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
from affect_jax.evaluate.scoring import score_groups
from affect_jax.export import model_card
from affect_jax.metrics import calibration
from affect_jax.metrics.predictions import Predictions
from affect_jax.models.network import create_network
from affect_jax.run.trained_network import TrainedNetwork, class_names
from affect_jax.train.experiment import load_registries
from tests.report.conftest import create_predictions, write_run
from tests.trained_runs import create_config

EXPORTED_FILES = {"onnx": ["model.onnx"], "safetensors": ["model.safetensors"]}
NUMBER = re.compile(r"\d\.\d{3}")


@pytest.fixture
def create_evaluated_run(tmp_path):
    """Returns a function that writes an evaluation at step 200; a card needs no weights."""

    def create(
        predictions: Predictions, *, data: str = "synthetic_faces", step: int = 200, **changes
    ):
        config = create_config(**changes)
        config.data.name = data
        if data != "synthetic_faces":
            config.data.options = {}
        folder = tmp_path / f"run_{data}_{len(changes)}"
        write_run(folder, predictions, data=data)
        load_registries()
        network = create_network(config)
        return TrainedNetwork(folder, config, network, {}, class_names(config), step)

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


def test_data_of_a_mixture_are_its_parts(create_evaluated_run, tmp_path):
    trained = create_evaluated_run(create_predictions(), data="mixture")
    parts = {"a": {"name": "affectnet"}, "b": {"name": "synthetic_faces"}, "c": {"name": "raf_db"}}
    trained.config.data.options = {"parts": parts}
    card, _ = write_and_read_card(trained, "onnx", tmp_path)
    expected = "faces in AffectNet’s layout and rendered faces (synthetic_faces) and raf_db"
    assert card["data"] == expected


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
    assert "selected as the best on this split, so the scores are not those of an" in text
    predictions = dataclasses.replace(
        create_predictions(), classes=(), expression=None, probabilities=None
    )
    trained = create_evaluated_run(predictions, heads=("valence_arousal",), dtype="bfloat16")
    _, text = write_and_read_card(trained, "onnx", tmp_path)
    assert "| recall" not in text and "this file computes in float32" in text
    assert "# resnet18 for valence and arousal" in text


def test_groups_are_those_of_scores_json(create_evaluated_run, tmp_path):
    predictions = create_predictions()
    trained = create_evaluated_run(predictions)
    path = trained.folder / "evaluation/validation/scores.json"
    ids = predictions.id.tolist()
    labels = {id: ("woman", "man")[row % 2] for row, id in enumerate(ids) if row >= 10}
    groups, *_ = score_groups(predictions, {"gender": labels}, bootstrap=20)
    groups["gender"]["man"]["scores"]["dimensional.valence.ccc"] = None
    path.write_text(json.dumps(json.loads(path.read_text()) | {"groups": groups}))
    card_json, text = write_and_read_card(trained, "onnx", tmp_path)
    assert card_json["evaluations"][0]["groups"] == groups
    assert "By gender, validation split; 10 faces have no group label:" in text
    table = text.partition("By gender")[2].splitlines()
    assert table[2].startswith("| gender | faces | Accuracy | F1, macro | CCC, valence | CCC, ar")
    for line, (name, group) in zip(table[4:6], groups["gender"].items(), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:2] == [name, "115"]
        accuracy = group["scores"]["categorical.top1.original.accuracy"]
        low, high = group["intervals"]["categorical.top1.original.accuracy"]
        assert cells[2] == f"{accuracy:.3f} ({low:.3f} to {high:.3f})"
        assert cells[4].startswith("undefined") == (name == "man")
    assert "no group labels" not in text


def test_class_names_are_escaped_in_tables(create_evaluated_run, tmp_path):
    trained = create_evaluated_run(create_predictions())
    names = ("a|b", "<b>c", "[d](x)", "e\nf", "*g*", "$h$", "`i`", "&j")
    trained.config.data.options = {"classes": names}
    trained = dataclasses.replace(trained, classes=class_names(trained.config))
    _, text = write_and_read_card(trained, "onnx", tmp_path)
    rows = [line for line in text.splitlines() if line.startswith("| `expression`")]
    assert len(rows) == 1 and rows[0].replace("\\|", "").count("|") == 5
    escaped = r"a\|b, &lt;b&gt;c, \[d\](x), e f, \*g\*, \$h\$, \`i\`, &amp;j"
    assert f"| {escaped} |" in rows[0]


@pytest.mark.slow
@pytest.mark.parametrize("export_format", ["onnx", "stablehlo"])
def test_usage_code_of_the_card_runs(export_format, create_exported, tmp_path, monkeypatch):
    trained, folder, result = create_exported(export_format)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    model_card.write_card(model_card.create_card(trained, export_format, result), tmp_path)
    text = (tmp_path / "README.md").read_text()
    (code,) = re.findall("```python\n(.+?)```", text, re.DOTALL)
    face = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    Image.fromarray(face).save(tmp_path / "face.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    outputs = names["outputs"]
    assert set(outputs) == {"expression", "valence_arousal", "action_units"}
    np.testing.assert_allclose(np.asarray(outputs["expression"]).sum(), 1, atol=1e-5)


def test_calibration_is_fitted_to_the_faces_of_a_part(create_evaluated_run):
    predictions = create_predictions(count=400)
    is_other = np.arange(400) % 2 == 1
    ids = np.char.add(np.where(is_other, "other/", "photos/"), predictions.id)
    # The other part has wrong labels, from which nothing may be fitted.
    labels = np.where(is_other, (predictions.expression + 1) % 8, predictions.expression)
    trained = create_evaluated_run(dataclasses.replace(predictions, id=ids, expression=labels))
    about = model_card.calibrate(trained, "photos")
    rows = ~is_other & (labels >= 0)
    expected = calibration.fit_temperature(labels[rows], predictions.probabilities[rows])
    assert about["temperature"] == pytest.approx(expected)
    assert (about["split"], about["part"], about["faces"]) == ("validation", "photos", rows.sum())
    assert about["after"] < about["before"]
    assert model_card.calibrate(trained)["temperature"] != pytest.approx(expected, rel=0.01)
    for changes in ({"temperature": 2.0}, {"classes": ()}):
        with pytest.raises(UserError, match="that is not calibrated yet"):
            model_card.calibrate(dataclasses.replace(trained, **changes))
    with pytest.raises(UserError, match="validation was not scored at step 100"):
        model_card.calibrate(dataclasses.replace(trained, step=100))
