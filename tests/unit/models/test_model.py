"""The wiring: what a forward pass returns, what moves what, what is trained."""

from dataclasses import replace

import pytest
import torch

from calico.config import load_config
from calico.core.records import Batch, ImageFeatures
from calico.core.tokens import IMAGE_TOKEN_ID
from calico.errors import AlignmentError, ConfigError
from calico.models.lora import lora_layers, merge_lora
from calico.models.losses import compute_losses
from calico.models.model import SegmentingModel, build_model
from calico.models.trainable import parameter_counts, set_trainable
from tests.unit.models.small import (
    SEG_ID,
    VOCABULARY,
    prompt_batch,
    prompts,
    randomise,
    small_features,
    small_model,
    small_section,
    training_batch,
)

VARIANTS = ("calico", "lisa", "glamm")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_images", [(1,), (2, 2), (3, 1, 2)])
def test_one_two_and_three_images_run(variant: str, num_images: tuple[int, ...]) -> None:
    model = small_model(variant)
    num_segs = [count + 1 for count in num_images]
    batch = training_batch(model, num_images, num_segs)
    output = model(batch, small_features(model, sum(num_images)))
    num_supervised = sum(3 * count + 1 for count in num_segs)
    assert output.text_logits_TV.shape == (num_supervised, VOCABULARY)
    assert output.mask_logits_MGG.shape == (sum(num_segs), 16, 16)
    assert output.iou_M.shape == (sum(num_segs),)


def test_text_labels_are_the_answers_and_logits_come_from_the_token_before() -> None:
    model = randomise(small_model())
    batch, features = training_batch(model), small_features(model, 6)
    output = model(batch, features)
    assert output.text_labels_T.tolist() == batch.labels_BL[batch.labels_BL >= 0].tolist()
    # Changing the very last answer token ("</s>" of the longest row) moves no logits: none comes from it.
    changed = batch.input_ids_BL.clone()
    longest = int(batch.attention_mask_BL.sum(dim=1).argmax())
    changed[longest, -1] = 11
    again = model(replace(batch, input_ids_BL=changed), features)
    torch.testing.assert_close(again.text_logits_TV, output.text_logits_TV, rtol=0, atol=0)


def test_the_mask_of_a_seg_comes_from_the_state_before_it() -> None:
    model = randomise(small_model(), std=0.1)
    batch, features = training_batch(model), small_features(model, 6)
    changed = batch.input_ids_BL.clone()
    first_seg = int((batch.labels_BL[0] == SEG_ID).nonzero()[0])
    changed[0, first_seg] = 12  # the input token only; its label stays [SEG]
    masks = model(batch, features).mask_logits_MGG
    again = model(replace(batch, input_ids_BL=changed), features).mask_logits_MGG
    torch.testing.assert_close(again[0], masks[0], rtol=0, atol=0)
    assert not torch.allclose(again[1], masks[1])


def test_padding_at_the_right_changes_nothing() -> None:
    model = randomise(small_model())
    batch, features = training_batch(model, (2, 2), (1, 3)), small_features(model, 4)
    alone = training_batch(model, (2,), (1,))
    single = model(alone, features.rows(torch.tensor([0, 1])))
    both = model(batch, features)
    # Measured worst case 1.3e-6 (other matrix shapes, other order of sums).
    torch.testing.assert_close(
        both.text_logits_TV[: len(single.text_logits_TV)], single.text_logits_TV, rtol=0, atol=1.3e-5
    )


def test_answer_tokens_never_reach_the_image_positions() -> None:
    model = randomise(small_model())
    batch, features = training_batch(model), small_features(model, 6)
    permuted = batch.input_ids_BL.clone()
    for row in range(len(permuted)):
        answer = (batch.labels_BL[row] >= 0).nonzero()[:, 0]
        permuted[row, answer] = permuted[row, answer.flip(0)]
    image_BL = batch.input_ids_BL == IMAGE_TOKEN_ID
    states, again = (
        _states(model, changed, features) for changed in (batch, replace(batch, input_ids_BL=permuted))
    )
    assert len(states) == len(again) == 5
    for before, after in zip(states, again, strict=True):
        torch.testing.assert_close(after[image_BL], before[image_BL], rtol=0, atol=0)
    assert not torch.allclose(states[-1], again[-1])


def test_the_guidance_of_a_cam_is_the_last_prompt_token() -> None:
    model = randomise(small_model())
    batch, features = training_batch(model), small_features(model, 6)
    changed = batch.input_ids_BL.clone()
    changed[0, batch.prompt_last_B[0]] = 13
    states = _states(model, batch, features)
    again = _states(model, replace(batch, input_ids_BL=changed), features)
    image_L = batch.input_ids_BL[0] == IMAGE_TOKEN_ID
    # CAMs stand before layers 1 and 3; states[1] is the output of layer 0, states[2] that of layer 1.
    torch.testing.assert_close(again[1][0, image_L], states[1][0, image_L], rtol=0, atol=0)
    assert not torch.allclose(again[2][0, image_L], states[2][0, image_L])
    torch.testing.assert_close(again[4][1], states[4][1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cem": False},
        {"cam": "unguided"},
        {"cam": "unqueried", "cem": False},
        {"cam_layers": [2]},
        {"cam_layers": [0, 1, 2, 3]},
    ],
)
def test_a_new_cem_and_new_cams_change_nothing(changes: dict[str, object]) -> None:
    plain = small_model(section=small_section(cem=False, cam_layers=[]))
    model = small_model(section=small_section(**changes))
    report = model.load_state_dict(plain.state_dict(), strict=False)
    assert not report.unexpected_keys
    batch = training_batch(plain)
    expected = plain(batch, small_features(plain, 6))
    output = model(batch, small_features(model, 6))
    torch.testing.assert_close(output.text_logits_TV, expected.text_logits_TV, rtol=0, atol=0)
    torch.testing.assert_close(output.mask_logits_MGG, expected.mask_logits_MGG, rtol=0, atol=0)


def test_cem_and_both_cams_matter_once_they_are_trained() -> None:
    model = randomise(small_model())
    batch, features = training_batch(model), small_features(model, 6)
    output = model(batch, features).text_logits_TV
    for part in (model.cem.attention.out_proj, model.cams["1"].f_adaptation, model.cams["3"].f_reintegration):
        kept = part.weight.detach().clone()
        with torch.no_grad():
            part.weight.mul_(0.5)
            assert not torch.allclose(model(batch, features).text_logits_TV, output)
            part.weight.copy_(kept)


def test_a_cam_that_does_not_query_adds_the_same_to_every_token_of_an_image() -> None:
    model = randomise(small_model(section=small_section(cam="unqueried", cem=False, cam_layers=[0])))
    batch, features = training_batch(model), small_features(model, 6)
    image_L = batch.input_ids_BL[0] == IMAGE_TOKEN_ID
    before_LD = _layer_input(model, batch, features, injected=False)[0, image_L]
    added_LD = _layer_input(model, batch, features, injected=True)[0, image_L] - before_LD
    assert added_LD.abs().min() > 0
    # Sums of random numbers of about 1: measured worst case 2.4e-7.
    torch.testing.assert_close(added_LD, added_LD[:1].expand_as(added_LD), rtol=0, atol=2e-6)


def test_an_unguided_cam_does_not_read_the_prompt() -> None:
    model = randomise(small_model(section=small_section(cam="unguided", cam_layers=[0])))
    assert "cams.0.f_adaptation.weight" not in model.state_dict()
    batch, features = training_batch(model), small_features(model, 6)
    changed = batch.input_ids_BL.clone()
    changed[0, batch.prompt_last_B[0]] = 13
    image_L = batch.input_ids_BL[0] == IMAGE_TOKEN_ID
    states, again = (
        _layer_input(model, one, features, injected=True)[0, image_L]
        for one in (batch, replace(batch, input_ids_BL=changed))
    )
    torch.testing.assert_close(again, states, rtol=0, atol=0)


def test_an_unqueried_cam_learns_in_both_projections() -> None:
    model = small_model(section=small_section(cam="unqueried", cem=False))
    set_trainable(model, "finetune")
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1.0)
    batch, features = training_batch(model), small_features(model, 6)
    start = {name: one.detach().clone() for name, one in model.cams.named_parameters()}
    for _ in range(2):
        losses = compute_losses(model(batch, features), batch, load_config("tiny").finetune.losses)
        losses["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not torch.equal(one, start[name]) for name, one in model.cams.named_parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_finetuning_trains_exactly_what_the_paper_trains(variant: str) -> None:
    model = small_model(variant)
    set_trainable(model, "finetune")
    allowed = ("language_model", "mask_decoder.", "cem.", "cams.")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(name.startswith(allowed) for name in trained)
    assert all("lora_" in name for name in trained if name.startswith("language_model"))
    assert len(lora_layers(model)) == 2 * 4
    counts = parameter_counts(model)
    parts = ["lora", "mask_decoder", *(part for part in ("cem", "cams") if part in counts)]
    assert counts["all"]["trainable"] == sum(counts[part]["total"] for part in parts)
    assert counts["all"]["trainable"] == sum(counts[part]["trainable"] for part in parts)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [("calico", ("qformer", "f_image")), ("lisa", ("linear_projector",)), ("glamm", ("mlp_projector",))],
)
def test_alignment_trains_what_brings_images_to_the_language_model(
    variant: str, expected: tuple[str, ...]
) -> None:
    model = small_model(variant)
    set_trainable(model, "align")
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(expected)
    assert all(
        parameter.requires_grad for part in expected for parameter in model.components[part].parameters()
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stage", ["finetune", "align"])
def test_every_trainable_parameter_gets_a_gradient(variant: str, stage: str) -> None:
    model = randomise(small_model(variant), std=0.1)
    set_trainable(model, stage)
    batch = training_batch(model)
    output = model.train()(batch, small_features(model, 6))
    compute_losses(output, batch, load_config("tiny").finetune.losses)["total"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    untouched = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not parameter.grad.any()
    ]
    heads = tuple(
        f"mask_decoder.{head}"
        for head in (
            "iou_prediction_head",
            "output_hypernetworks_mlps.1",
            "output_hypernetworks_mlps.2",
            "output_hypernetworks_mlps.3",
        )
    )
    # Keys' biases shift all attention scores of a query alike; heads that no loss reaches get zeros.
    assert [name for name in untouched if not name.startswith(heads) and "k_proj.bias" not in name] == []


def test_counts_at_the_size_of_the_paper() -> None:
    section = load_config("paper").model
    with torch.device("meta"):
        model = build_model(section, "calico", vocabulary_size=32007, seg_id=32004, eos_id=2)
    set_trainable(model, "finetune")
    counts = parameter_counts(model)
    assert len(lora_layers(model)) == 64
    assert counts["lora"]["total"] == 4_194_304
    assert counts["mask_decoder"]["total"] == 4_058_340
    assert counts["cams"]["total"] == 12_592_640
    assert counts["cem"]["total"] == 8_295_936
    assert counts["f_segmentation"]["total"] == 17_830_144
    assert counts["qformer"]["total"] == 105_137_664 + 32 * 768
    assert counts["grounding_encoder"]["total"] == 637_026_048
    assert counts["language_model"]["total"] - counts["lora"]["total"] == 6_738_472_960
    assert counts["all"]["trainable"] == 29_141_220
    assert model.tokens_per_image == 32


# Trainable parameters of the rows of Table 2 and figure 8. The row without a Q-Former has no CAMs and trains
# its own projector, a linear layer from 1408 to 4096.
@pytest.mark.parametrize(
    ("name", "trainable", "tokens"),
    [
        ("without_qformer", 8_252_644 + 1408 * 4096 + 4096, 256),
        ("without_dino", 20_845_284, 32),
        ("without_cem", 20_845_284, 32),
        ("without_cam", 22_848_228, 32),
        ("without_cem_and_cam", 8_252_644, 32),
        ("cam_at_half", 22_844_900, 32),
        ("cam_at_quarters", 35_437_540, 32),
    ],
)
def test_counts_of_the_ablations_at_the_size_of_the_paper(name: str, trainable: int, tokens: int) -> None:
    paper = load_config("paper")
    section = paper.model.model_copy(update={"variants": {name: paper.ablations[name]}})
    with torch.device("meta"):
        model = build_model(section, name, vocabulary_size=32007, seg_id=32004, eos_id=2)
    set_trainable(model, "finetune")
    assert parameter_counts(model)["all"]["trainable"] == trainable
    assert model.tokens_per_image == tokens


@pytest.mark.parametrize("name", sorted(load_config("tiny").ablations))
def test_every_ablation_of_the_tiny_profile_trains_and_generates(name: str) -> None:
    tiny, small = load_config("tiny"), small_section()
    ablation = tiny.ablations[name].model_copy(
        update={"cam_layers": [1, 3][: len(tiny.ablations[name].cam_layers)]}
    )
    model = randomise(
        small_model(name, section=small.model_copy(update={"variants": {name: ablation}})), std=0.1
    )
    set_trainable(model, "finetune")
    batch, features = training_batch(model), small_features(model, 6)
    compute_losses(model(batch, features), batch, tiny.finetune.losses)["total"].backward()
    assert all((one.grad is not None) == one.requires_grad for one in model.parameters())
    asked = prompt_batch(prompts(model, (2, 1)), (2, 1))
    cached, uncached = (
        model.generate(asked, small_features(model, 3), max_new_tokens=6, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert [answer.ids for answer in cached] == [answer.ids for answer in uncached]


@pytest.mark.parametrize(
    ("variant", "tokens", "projector"), [("lisa", 256, 4_198_400), ("glamm", 576, 20_979_712)]
)
def test_counts_of_the_baselines_at_the_size_of_the_paper(variant: str, tokens: int, projector: int) -> None:
    with torch.device("meta"):
        model = build_model(
            load_config("paper").model, variant, vocabulary_size=32007, seg_id=32004, eos_id=2
        )
    set_trainable(model, "finetune")
    counts = parameter_counts(model)
    assert model.tokens_per_image == tokens
    assert counts["linear_projector" if variant == "lisa" else "mlp_projector"]["total"] == projector
    assert counts["clip"]["total"] == 303_507_456
    assert counts["all"]["trainable"] == 4_194_304 + 4_058_340


def test_merging_lora_keeps_the_outputs() -> None:
    model = randomise(small_model(), std=0.1)
    batch, features = training_batch(model), small_features(model, 6)
    with torch.no_grad():
        before = model(batch, features).text_logits_TV
        merge_lora(model)
        after = model(batch, features).text_logits_TV
    # Measured worst case 4.8e-7.
    torch.testing.assert_close(after, before, rtol=0, atol=5e-6)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model = randomise(small_model(), std=0.1)
    set_trainable(model, "finetune")
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch, features = training_batch(model), small_features(model, 6)
    plain = _gradients(model, batch, features)
    runs = []
    model.language_model.checkpoint_layers()
    model.language_model.stock.model.layers[0].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    checkpointed = _gradients(model, batch, features)
    assert len(runs) == 2  # once forward, once again for the gradient
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_runs(variant: str) -> None:
    model = small_model(variant).to(torch.bfloat16)
    batch, features = training_batch(model), small_features(model, 6)
    output = model(batch, features)
    losses = compute_losses(output, batch, load_config("tiny").finetune.losses)
    assert features.grounding_ICGG.dtype == output.mask_logits_MGG.dtype == torch.bfloat16
    assert losses["total"].dtype == torch.float32
    assert losses["total"].isfinite()


def test_a_model_runs_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = build_model(small_section(), "calico", vocabulary_size=VOCABULARY, seg_id=SEG_ID, eos_id=2)
        views = {name: torch.empty(6, 3, 32, 32) for name in ("global", "semantic", "grounding")}
    output = model(training_batch(model), model.encode_images(views))
    assert output.mask_logits_MGG.device.type == "meta"
    assert output.mask_logits_MGG.shape == (6, 16, 16)


def test_an_answer_without_masks_has_only_a_text_loss() -> None:
    model = small_model()
    batch = training_batch(model, (2,), (0,))
    losses = compute_losses(
        model(batch, small_features(model, 2)), batch, load_config("tiny").finetune.losses
    )
    assert losses["mask"] == losses["dice"] == 0
    torch.testing.assert_close(losses["total"], losses["text"])


def test_a_target_mask_too_many_is_refused() -> None:
    model = small_model()
    batch = training_batch(model)
    image_index_M = torch.cat([batch.mask_image_index_M, torch.tensor([5])])
    with pytest.raises(AlignmentError, match=r"pair 'pair2': answer has 3 \[SEG\] tokens but 4 target masks"):
        model(replace(batch, mask_image_index_M=image_index_M), small_features(model, 6))


def test_masks_out_of_order_are_refused() -> None:
    model = small_model()
    batch = training_batch(model, (1, 1), (1, 1))
    flipped = replace(batch, mask_image_index_M=batch.mask_image_index_M.flip(0))
    with pytest.raises(AlignmentError, match="not in the order of the pairs"):
        model(flipped, small_features(model, 2))


def test_a_prompt_of_another_model_is_refused() -> None:
    model, other = small_model("calico"), small_model("glamm")
    batch: Batch = training_batch(other)
    with pytest.raises(
        AlignmentError, match=r"'pair0': the prompt has 18 image tokens, but 2 images of 3 tokens need 6"
    ):
        model(batch, small_features(model, 6))


def test_features_of_too_few_images_are_refused() -> None:
    model = small_model()
    with pytest.raises(AlignmentError, match="the batch has 6 images but features of 5"):
        model(training_batch(model), small_features(model, 5))


def test_features_without_the_semantic_ones_are_refused() -> None:
    model = small_model()
    features = replace(small_features(model, 6), semantic_IPF=None)
    with pytest.raises(AlignmentError, match="lack the semantic ones"):
        model(training_batch(model), features)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ConfigError, match="no 'vlpart'; choose one of calico, lisa, glamm"):
        small_model("vlpart")


def _gradients(model: SegmentingModel, batch: Batch, features: ImageFeatures) -> dict[str, torch.Tensor]:
    model.zero_grad()
    compute_losses(model(batch, features), batch, load_config("tiny").finetune.losses)["total"].backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _layer_input(
    model: SegmentingModel, batch: Batch, features: ImageFeatures, *, injected: bool
) -> torch.Tensor:
    """Return what layer 0 gets, with its CAM or without."""
    captured: list[torch.Tensor] = []
    layer = model.language_model.stock.model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _, arguments: captured.append(arguments[0]))
    kept = model.variant
    if not injected:
        model.variant = kept.model_copy(update={"cam_layers": [], "cem": False})
    with torch.no_grad():
        model(batch, features)
    model.variant = kept
    hook.remove()
    return captured[0]


def _states(model: SegmentingModel, batch: Batch, features: ImageFeatures) -> list[torch.Tensor]:
    """Return the inputs of layers 0 to 3, before a CAM of that layer, and the final states."""
    captured: list[torch.Tensor] = []
    layers = model.language_model.stock.model.layers
    hooks = [layer.register_forward_hook(lambda _, __, output: captured.append(output)) for layer in layers]
    hooks.append(layers[0].register_forward_pre_hook(lambda _, arguments: captured.append(arguments[0])))
    with torch.no_grad():
        model(batch, features)
    for hook in hooks:
        hook.remove()
    return captured
