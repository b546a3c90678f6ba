"""A card says what the run's scores.json says, and nothing that is not known."""

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
from affect_jax.export import card, groups
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions
from affect_jax.run.load import Checkpoints, TrainedNetwork, Workdir, class_names, load_network
from tests.report.conftest import table, write_run
from tests.trained_runs import settings, weights

MADE = {"onnx": ["model.onnx"], "safetensors": ["model.safetensors"]}
NUMBER = re.compile(r"\d\.\d{3}")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """`evaluated(predictions, data=...)`: a run that was scored at step 200, loaded."""

    def make(given: Predictions, *, data: str = "synthetic_faces", step: int = 200, **changes):
        folder = tmp_path_factory.mktemp("card") / "run"
        config = settings(**changes)
        config.data.name = data
        if data != "synthetic_faces":
            config.data.options = {}
        write_run(folder, given, data=data)
        workdir = Workdir(folder)
        workdir.save_config(card.to_dict(config))
        with Checkpoints.of(config, workdir) as checkpoints:
            checkpoints.save(step, weights(config, seed=step), {"epoch": 1.0})
            checkpoints.require(step)
        return load_network(folder)

    return make


def written(run: TrainedNetwork, form: str, out: pathlib.Path) -> tuple[dict, str]:
    card.write(card.create(run, form, {"files": MADE[form]}), out)
    return json.loads((out / "card.json").read_text()), (out / "README.md").read_text()


def test_every_number_is_of_scores_json(evaluated, tmp_path):
    run = evaluated(table())
    found, text = written(run, "onnx", tmp_path)
    protocol = json.loads((run.folder / "evaluation/validation/scores.json").read_text())
    (one,) = found["evaluations"]
    assert one["scores"] == protocol["scores"] and one["intervals"] == protocol["intervals"]
    known = [v for v in protocol["scores"].values() if v is not None]
    known += [end for ends in protocol["intervals"].values() for end in ends]
    allowed = {f"{abs(round(value, 3)):.3f}" for value in known}
    shown = NUMBER.findall(text.partition("## Scores")[2])
    assert len(shown) > 100 and set(shown) <= allowed
    accuracy = protocol["scores"]["categorical.top1.original.accuracy"]
    low, high = protocol["intervals"]["categorical.top1.original.accuracy"]
    assert re.search(rf"Accuracy.*{accuracy:.3f}.*{low:.3f} to {high:.3f}", text)
    recall = protocol["scores"]["categorical.top1.original.recall.contempt"]
    assert re.search(rf"\| contempt +\| {recall:.3f}", text)


def test_other_data_are_not_called_affectnet(evaluated, tmp_path):
    _, text = written(evaluated(table()), "onnx", tmp_path)
    assert "AffectNet" not in text and "rendered faces (synthetic_faces)" in text
    _, text = written(evaluated(table(), data="csv_faces"), "onnx", tmp_path)
    assert "AffectNet" not in text and "csv_faces" in text
    _, text = written(evaluated(table(), data="affectnet"), "onnx", tmp_path)
    assert not re.search("AffectNet(?!’s layout)", text) and "faces in AffectNet’s layout" in text


def test_affectnets_own_validation_split_is(evaluated, tmp_path):
    small = table(count=400)
    rows = np.concatenate([np.resize(np.flatnonzero(small.expression == c), 500) for c in range(8)])
    arrays = {
        field.name: getattr(small, field.name)[rows]
        for field in dataclasses.fields(Predictions)
        if isinstance(getattr(small, field.name), np.ndarray)
    }
    arrays["id"] = np.array([f"validation/{i:07d}" for i in range(4000)])
    run = evaluated(dataclasses.replace(small, **arrays), data="affectnet")
    found, text = written(run, "onnx", tmp_path)
    assert found["data"] == "AffectNet" and "Trained on AffectNet, its training split." in text


def test_a_checkpoint_that_was_not_scored_shows_no_number(evaluated, tmp_path):
    found, text = written(evaluated(table(), step=100), "onnx", tmp_path)
    assert found["evaluations"] == []
    assert "This checkpoint has not been evaluated" in text
    assert "validation: scored at step 200, this is step 100" in text
    assert not NUMBER.search(text.partition("## Scores")[2])


def test_scores_that_cannot_be_read_are_told(evaluated, tmp_path):
    run = evaluated(table())
    (run.folder / "evaluation/validation/scores.json").write_text("{")
    found, text = written(run, "onnx", tmp_path)
    assert not found["evaluations"] and "Not shown: validation: " in text


def test_a_card_tells_nothing_of_the_machine(evaluated, tmp_path):
    places = {"data__manual_dir": "/home/anna/faces", "init_from": "/home/anna/start.pth"}
    found, text = written(evaluated(table(), **places), "onnx", tmp_path)
    whole = json.dumps(found) + text
    assert "anna" not in whole and str(tmp_path.parent) not in whole
    assert "started from the weights of `start.pth`" in text
    assert "(`start.pth`) have their own licence" in text


def test_a_card_says_what_there_is_to_say(evaluated, tmp_path):
    _, text = written(evaluated(table()), "onnx", tmp_path)
    headings = re.findall("^## (.+)$", text, re.MULTILINE)
    assert headings == [
        "How to run it",
        "Data",
        "Scores",
        "Groups",
        "Intended use",
        "Limits",
        "Licence",
    ]
    assert "No group labels in this data set" in text and "of photographs it knows nothing" in text
    assert "neutral, happiness, sadness" in text and "AU1, AU2" in text and "AU43" in text
    assert "best on this split: it is no true test set" in text
    axes = dataclasses.replace(table(), classes=(), expression=None, probabilities=None)
    run = evaluated(axes, heads=("valence_arousal",), dtype="bfloat16")
    _, text = written(run, "onnx", tmp_path)
    assert "| recall" not in text and "this file computes in float32" in text
    assert "# resnet18 for valence and arousal" in text


def write_groups(path: pathlib.Path, given: Predictions) -> pathlib.Path:
    """Women get the labels as predictions, men what the model said; every tenth is unknown."""
    lines = ["id,gender,age"]
    for row, name in enumerate(given.id.tolist()):
        gender = "" if row % 10 == 0 else ("woman", "man")[row % 2]
        quoted = name.replace('"', '""')
        lines.append(f'"{quoted}",{gender},{"old" if row % 3 else "young"}')
    path.write_text("\n".join([*lines, "elsewhere.jpg,woman,old"]) + "\n")
    return path


def test_groups_have_the_scores_of_their_faces(evaluated, tmp_path):
    given = table()
    run = evaluated(given)
    groupings = groups.read(write_groups(tmp_path / "g.csv", given))
    made = card.create(run, "onnx", {"files": MADE["onnx"]}, groupings)
    card.write(made, tmp_path)
    gender, age = made["evaluations"][0]["groupings"]
    assert (gender["name"], age["name"], gender["unknown"]) == ("gender", "age", 24)
    for one, rows in (("woman", range(0, 240, 2)), ("man", range(1, 240, 2))):
        rows = np.array([row for row in rows if row % 10])
        (found,) = [part for part in gender["groups"] if part["group"] == one]
        wanted = protocol.score(given.take(rows), draws=1)
        assert found["faces"] == len(rows)
        assert found["scores"].keys() == set(groups.SHOWN)
        for name, value in found["scores"].items():
            assert value == wanted.values[name]
            low, high = found["intervals"][name]
            assert low <= value <= high
    text = (tmp_path / "README.md").read_text()
    accuracy = gender["groups"][0]["scores"]["categorical.top1.original.accuracy"]
    assert "By gender, validation split; 24 faces are in none:" in text
    assert f"{accuracy:.3f} (" in text
    assert "No group labels" not in text and "No group labels" in written(run, "onnx", tmp_path)[1]


def test_a_group_without_labels_of_a_model_has_no_score_of_it(evaluated, tmp_path):
    given = table()
    expression = np.where(np.arange(240) % 2, given.expression, -1)
    given = dataclasses.replace(given, expression=expression)
    groupings = groups.read(write_groups(tmp_path / "g.csv", given))
    made = card.create(evaluated(given), "onnx", {"files": MADE["onnx"]}, groupings)
    (women,) = [
        part
        for part in made["evaluations"][0]["groupings"][0]["groups"]
        if part["group"] == "woman"
    ]
    assert women["scores"]["categorical.top1.original.accuracy"] is None
    assert women["scores"]["dimensional.valence.ccc"] is not None
    assert "undefined" in card.markdown(made)


def test_groups_of_other_faces_are_an_error(evaluated, tmp_path):
    (tmp_path / "g.csv").write_text("id,gender\nx,man\ny,woman\n")
    with pytest.raises(UserError, match="no id is a face that this checkpoint was scored on"):
        card.create(evaluated(table()), "onnx", {"files": []}, groups.read(tmp_path / "g.csv"))


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "needs rows, a column 'id'"),
        ("id\na\n", "needs rows, a column 'id'"),
        ("name,gender\na,man\n", "needs rows, a column 'id'"),
        ("id,gender\na,man\na,woman\n", "id 'a' is there 2 times"),
        ("id,gender\na,man\nb,\n", "column 'gender' has 1 different values"),
        ("id,n\n" + "".join(f"{i},{i}\n" for i in range(60)), "column 'n' has 60 different"),
        ('id,gender\n"a,man\n', "cannot be read"),
    ],
)
def test_a_bad_file_of_groups_is_one_line(content, message, tmp_path):
    (tmp_path / "g.csv").write_text(content)
    with pytest.raises(UserError, match=message) as told:
        groups.read(tmp_path / "g.csv")
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="No such file"):
        groups.read(tmp_path / "absent.csv")


def test_names_of_classes_cannot_break_a_table(evaluated, tmp_path):
    run = evaluated(table())
    run.config.data.options = {"classes": ("a|b", "c", "d", "e", "f", "g", "h", "i")}
    run = dataclasses.replace(run, classes=class_names(run.config))
    _, text = written(run, "onnx", tmp_path)
    rows = [line for line in text.splitlines() if line.startswith("| `expression`")]
    assert len(rows) == 1 and rows[0].replace("\\|", "").count("|") == 5


@pytest.mark.parametrize("form, beside", [("onnx", False), ("stablehlo", True), ("safetensors", 0)])
def test_the_lines_of_a_card_run(form, beside, exported, tmp_path, monkeypatch):
    run, folder, made = exported(form, beside=bool(beside))
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    card.write(card.create(run, form, made), tmp_path)
    text = (tmp_path / "README.md").read_text()
    (code,) = re.findall("```python\n(.+?)```", text, re.DOTALL)
    face = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    Image.fromarray(face).save(tmp_path / "face.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    if form == "safetensors":
        assert not names["weights"].report.fresh
    else:
        outputs = names["outputs"]
        assert set(outputs) == {"expression", "valence_arousal", "action_units"}
        np.testing.assert_allclose(np.asarray(outputs["expression"]).sum(), 1, atol=1e-5)
