import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from calico.assembly import open_pretrained
from calico.checkpoints.loader import save_component
from calico.cli import main
from calico.errors import CheckpointError, DataError
from calico.segmenter import Segmenter, _pixels
from tests.small_artifacts import small_config, write_checkpoints, write_finetuned

REAL_IMAGES = os.environ.get("CALICO_REAL_IMAGES", "")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A working directory with a finetuned model of random weights, under the profile "tiny"."""
    root, config = tmp_path_factory.mktemp("root"), small_config()
    artifacts_path = root / "artifacts" / "tiny"
    (root / "params.yaml").write_text(yaml.safe_dump({"tiny": config.model_dump()}))
    write_checkpoints(artifacts_path, config)
    write_finetuned(artifacts_path, config, "calico")
    return root


@pytest.fixture(scope="module")
def segmenter(root):
    return Segmenter.from_artifacts("tiny", root=root)


@pytest.fixture
def image_path(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)).save(path)
    return path


def test_files_pil_images_and_arrays_give_the_same_answer(segmenter, image_path):
    picture = Image.open(image_path)
    answers = {
        segmenter.segment([image, image], task="common_parts").answer.text
        for image in (image_path, str(image_path), picture, np.array(picture))
    }
    assert len(answers) == 1


@pytest.mark.parametrize("num_images", [1, 2, 3])
def test_a_question_of_ones_own_takes_any_number_of_images(segmenter, image_path, num_images):
    prediction = segmenter.segment([image_path] * num_images, question="What is [SEG] <image> here?")
    assert prediction.answer.task == "question"


def test_photographs_are_turned_upright(image_path, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(image_path).save(tmp_path / "sideways.png", exif=exif)
    Image.open(image_path).rotate(-90, expand=True).save(tmp_path / "upright.png")
    for sideways in (tmp_path / "sideways.png", Image.open(tmp_path / "sideways.png")):
        assert (_pixels(sideways) == _pixels(tmp_path / "upright.png")).all()


def test_16_bit_pictures_keep_their_shades():
    shades_HW = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert _pixels(Image.fromarray(shades_HW))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_one_pixel_image_works(segmenter, tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    segmenter.segment([tmp_path / "dot.png"] * 2, task="unique_parts")


@pytest.mark.parametrize(
    ("num_images", "arguments", "message"),
    [
        (1, {"task": "common_parts"}, "compares images: give two or more instead of 1"),
        (0, {"task": "common_objects"}, "give two or more instead of 0"),
        (0, {"question": "What?"}, "a prompt shows 1 to 9 images, not 0"),
        (10, {"task": "common_parts"}, "a prompt shows 1 to 9 images, not 10"),
        (2, {}, "nothing is asked; name a task"),
        (2, {"question": "  "}, "the question is empty"),
        (2, {"task": "parts"}, "no task 'parts'; choose one of common_objects"),
        (2, {"question": "why? " * 500}, r"the prompt has \d+ tokens, the model takes 512"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(segmenter, image_path, num_images, arguments, message):
    with pytest.raises(DataError, match=message):
        segmenter.segment([image_path] * num_images, **arguments)


def test_a_huge_image_is_refused_before_it_is_decoded(segmenter, image_path, tmp_path):
    Image.new("1", (12_000, 9_000)).save(tmp_path / "huge.png")
    with pytest.raises(DataError, match=r"huge.png: 9000 x 12000 pixels is more than 64 megapixels"):
        segmenter.segment([image_path, tmp_path / "huge.png"], task="common_parts")


def test_weights_changed_after_finetuning_are_refused(root, tmp_path):
    (tmp_path / "params.yaml").symlink_to(root / "params.yaml")
    artifacts_path = tmp_path / "artifacts" / "tiny"
    artifacts_path.mkdir(parents=True)
    for name in ("align", "finetune"):
        (artifacts_path / name).symlink_to(root / "artifacts" / "tiny" / name)
    write_checkpoints(artifacts_path, small_config())
    model = open_pretrained(small_config().model, "calico", artifacts_path).model
    model.f_image.weight.data += 1
    save_component(model.f_image, artifacts_path / "checkpoints" / "f_image.safetensors")
    with pytest.raises(
        CheckpointError, match=r"finetuned on other weights than those present: f_image changed"
    ):
        Segmenter.from_artifacts("tiny", root=tmp_path)


def segment_with_cli(root, images, monkeypatch, capsys):
    """Run the command in `root`; return what it wrote and printed."""
    monkeypatch.chdir(root)
    main(["segment", *map(str, images), "--out", "out"])
    return json.loads((root / "out" / "result.json").read_text()), capsys.readouterr().out


def test_the_command_writes_overlays_and_a_result(root, image_path, monkeypatch, capsys):
    result, printed = segment_with_cli(root, [image_path, image_path], monkeypatch, capsys)
    assert result["task"] == "common_parts"
    assert result["text"] in printed
    assert [image["overlay"] for image in result["images"]] == ["overlay_1.png", "overlay_2.png"]
    for image in result["images"]:
        with Image.open(root / "out" / image["overlay"]) as overlay:
            assert (overlay.height, overlay.width) == (image["height"], image["width"]) == (30, 50)


@pytest.mark.skipif(not REAL_IMAGES, reason="CALICO_REAL_IMAGES names no folder of photographs")
def test_real_photographs_work(root, monkeypatch, capsys):
    photographs = sorted(Path(REAL_IMAGES).resolve().glob("photos/*.jpg"))
    assert len(photographs) > 1
    result, _ = segment_with_cli(root, photographs[:2], monkeypatch, capsys)
    assert len(result["images"]) == 2
