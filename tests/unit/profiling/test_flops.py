import pytest
import torch
from deepspeed.profiling.flops_profiler import FlopsProfiler

from benchmarks.flop_counters import only_deepspeed
from calico.config import load_config
from calico.core.tokens import IMAGE_TOKEN_ID
from calico.data.loading.canonical import canonical_batch
from calico.errors import ConfigError
from calico.profiling.deepspeed_flops import count_with_deepspeed
from calico.profiling.flops import CanonicalPair, count_flops
from tests.unit.models.small import VOCABULARY, small_section


@pytest.fixture
def profile():
    return load_config("tiny").profile


def test_canonical_batch_is_what_the_params_say(profile):
    batch = canonical_batch(8, num_text_tokens=profile.num_text_tokens, num_seg_tokens=profile.num_seg_tokens)
    assert batch.input_ids_BL.shape == (1, profile.num_text_tokens + 2 * 8)
    assert int((batch.input_ids_BL == IMAGE_TOKEN_ID).sum()) == 16
    assert int((batch.labels_BL == 1).sum()) == profile.num_seg_tokens
    assert batch.mask_image_index_M.tolist() == [0, 0, 1, 1]


def test_more_seg_tokens_than_answer_is_an_error():
    with pytest.raises(ConfigError, match=r"7 \[SEG\] tokens do not fit .* half of 12 text tokens"):
        canonical_batch(8, num_text_tokens=12, num_seg_tokens=7)


@pytest.mark.parametrize("variant", ["calico", "lisa", "glamm"])
def test_components_add_up(profile, variant):
    flops = count_flops(CanonicalPair(small_section(), variant, profile, vocabulary_size=VOCABULARY))
    assert flops.total == sum(flops.components.values())
    assert min(flops.components.values()) > 0
    assert ("cem" in flops.components) == (variant == "calico")


def test_language_model_is_counted_as_by_hand(profile):
    section = small_section()
    llm, num_images = section.language_model, 2
    length = profile.num_text_tokens + num_images * 4  # LISA: 32 px in patches of 16
    num_answer = profile.num_text_tokens // 2
    hidden, inner = llm.hidden_size, llm.intermediate_size
    per_layer = 2 * length * (4 * hidden * hidden + 3 * hidden * inner) + 4 * length * length * hidden
    # LoRA on the query and the value projection; the head runs where there is something to predict.
    per_layer += 2 * 2 * length * 2 * hidden * section.lora.rank
    expected = llm.num_layers * per_layer + 2 * num_answer * hidden * VOCABULARY
    flops = count_flops(CanonicalPair(section, "lisa", profile, vocabulary_size=VOCABULARY))
    assert flops.components["language_model"] == expected


def test_paper_size_agrees_with_independent_counts(profile):
    """The expected numbers are counts of the stock modules alone, at the paper's sizes."""
    paper = load_config("paper")
    flops = count_flops(CanonicalPair(paper.model, "calico", profile, vocabulary_size=32007))
    assert flops.components["vision_encoder"] == 2 * 520_719_260_160
    assert flops.components["grounding_encoder"] == 2 * 5_961_082_830_848
    assert flops.components["qformer"] == 2 * 12_747_866_112
    assert flops.components["cem"] == 2 * 4_623_106_048
    assert flops.components["cams"] == 2 * (2 * 12_747_866_112 + 408_944_640)
    # 13,214,212,096 S + 524,288 S^2 with all logits; LoRA comes on top, and 124 of 184 positions have none.
    length, lora, head = 184, 2 * 4_194_304, 2 * 4096 * 32007
    expected = 13_214_212_096 * length + 524_288 * length**2 + lora * length - head * 124
    assert flops.components["language_model"] == expected
    assert flops.total == pytest.approx(16.7e12, rel=0.005)


@pytest.mark.parametrize("variant", ["calico", "lisa", "glamm"])
def test_deepspeed_counts_products_alike_and_element_by_element_work_besides(profile, variant):
    pair = CanonicalPair(small_section(), variant, profile, vocabulary_size=VOCABULARY)
    parts = only_deepspeed(pair)
    assert {"native_layer_norm", "convolution", "relu"} <= parts.keys()
    gap = count_with_deepspeed(pair) - count_flops(pair).total
    # It reads the operations of an einsum from a printed number of four digits: measured worst case 3 off.
    assert gap == pytest.approx(sum(parts.values()), abs=30)


@pytest.mark.parametrize("variant", ["calico", "lisa"])
def test_deepspeed_counts_on_the_meta_device_as_on_a_cpu(profile, variant):
    pair = CanonicalPair(small_section(), variant, profile, vocabulary_size=VOCABULARY)
    on_meta = count_with_deepspeed(pair)
    pair.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*pair.parameters(), *pair.buffers()):
            tensor.zero_()
    pair.views = {name: torch.zeros(view.shape) for name, view in pair.views.items()}
    profiler = FlopsProfiler(pair)
    profiler.start_profile()
    pair()
    on_cpu = profiler.get_total_flops()
    profiler.end_profile()
    assert on_meta == on_cpu


def test_counting_leaves_torch_as_it_was(profile):
    before = (torch.mm, torch.nn.functional.linear, torch.Tensor.matmul)
    pair = CanonicalPair(small_section(), "lisa", profile, vocabulary_size=VOCABULARY)
    count_with_deepspeed(pair)
    assert (torch.mm, torch.nn.functional.linear, torch.Tensor.matmul) == before
    del pair.views["global"]
    with pytest.raises(KeyError):
        count_with_deepspeed(pair)
    assert (torch.mm, torch.nn.functional.linear, torch.Tensor.matmul) == before
