"""What the models cost at the paper's size, counted on the meta device: no weights, no memory, no GPU.

python -m benchmarks.paper_scale

`tflop` gives the language model's head all positions, as the stock modules do; `tflop_as_run` only those that
an answer is learnt from, as this project runs it. The peer is the paper itself (Table 4), and its protocol as
far as it can be told: its figures fit a forward pass over one pair in which SAM's encoder ran once more over
both images (LISA: twice more).
"""

import json
import logging

import torch

from calico.config import Config, ModelSection, load_config
from calico.language_models.tokenizer import tokens_per_image
from calico.models.model import build_model
from calico.models.trainable import parameter_counts, set_trainable
from calico.profiling.flops import CanonicalPair, count_flops

NUM_IMAGES = 2
VOCABULARY_SIZE = 32007  # Vicuna's 32,000 and GLaMM's seven
PARTS = {"lora": "lora", "cem": "cem", "cam": "cams", "mask_decoder": "mask_decoder"}
# Table 4, TFLOPS; and how many more passes of SAM's encoder over both images explain it.
PAPER_TFLOP = {"calico": 28.5, "glamm": 42.3, "lisa": 44.0}
EXTRA_SAM_PASSES = {"calico": 1, "glamm": 1, "lisa": 2}


def main() -> None:
    """Count, print a table, and last one line of JSON."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    config = load_config("paper")
    models = {
        name: config.model.model_copy(update={"variants": {name: variant}})
        for name, variant in {**config.model.variants, **config.ablations}.items()
    }
    parameters = {name: count_parameters(section, name) for name, section in models.items()}
    operations = {name: count_operations(config, section, name) for name, section in models.items()}
    for name, counts in parameters.items():
        share = counts["trainable"] / counts["total"]
        print(
            f"{name:20} {counts['total']:>14,} parameters, {counts['trainable']:>11,} trainable "
            f"({share:.3%}), {operations[name]['tflop']:6.2f} TFLOP a pair"
        )
    main_models, ablations = list(config.model.variants), list(config.ablations)
    print(
        json.dumps(
            {
                "parameters": {name: parameters[name] for name in main_models},
                "tflop": {name: operations[name]["tflop"] for name in main_models},
                "tflop_as_run": {name: operations[name]["tflop_as_run"] for name in main_models},
                "tflop_paper_protocol": {
                    name: {"ours": operations[name]["tflop_paper_protocol"], "paper": PAPER_TFLOP[name]}
                    for name in main_models
                },
                "calico_saves": {
                    protocol: {
                        name: round(1 - operations["calico"][protocol] / operations[name][protocol], 4)
                        for name in main_models
                        if name != "calico"
                    }
                    for protocol in ("tflop", "tflop_paper_protocol")
                },
                "ablations": {
                    name: {**parameters[name], "tflop": operations[name]["tflop"]} for name in ablations
                },
            }
        )
    )


def count_parameters(section: ModelSection, name: str) -> dict[str, int]:
    """Return the parameters of one model: all, trainable in finetuning, and of the trainable parts."""
    with torch.device("meta"):
        model = build_model(section, name, vocabulary_size=VOCABULARY_SIZE, seg_id=0, eos_id=0)
    set_trainable(model, "finetune")
    counts = parameter_counts(model)
    parts = {label: counts[part]["total"] if part in counts else 0 for label, part in PARTS.items()}
    return {"total": counts["all"]["total"], "trainable": counts["all"]["trainable"], **parts}


def count_operations(config: Config, section: ModelSection, name: str) -> dict[str, float]:
    """Return the TFLOP of one forward pass over the canonical pair, by each definition."""
    flops = count_flops(CanonicalPair(section, name, config.profile, vocabulary_size=VOCABULARY_SIZE))
    num_unread = NUM_IMAGES * tokens_per_image(section, name) + -(-config.profile.num_text_tokens // 2)
    total = flops.total + 2 * num_unread * section.language_model.hidden_size * VOCABULARY_SIZE
    extra = EXTRA_SAM_PASSES.get(name, EXTRA_SAM_PASSES["calico"]) * flops.components["grounding_encoder"]
    return {
        "tflop": round(total / 1e12, 3),
        "tflop_as_run": round(flops.total / 1e12, 3),
        "tflop_paper_protocol": round((total + extra) / 1e12, 3),
    }


if __name__ == "__main__":
    main()
