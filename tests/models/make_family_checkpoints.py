"""Make the small random checkpoints of tests/data/families and the logits that they must give.

    python tests/models/make_family_checkpoints.py [tests/data/families]

Needs torch, safetensors and transformers (made with 5.23).  Each folder becomes config.json and
model.safetensors, as save_pretrained writes them, and golden.safetensors: `ids` [T] int64 and
`logits` [T, V] float32 of Hugging Face's own model, eager attention, float32 on the CPU.
Weights are drawn so that nothing hides: norms are away from 1, biases away from 0, products of
queries and keys are large enough for attention to choose.
"""
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

TOKENS = 32
COMMON = dict(vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
              max_position_embeddings=64, initializer_range=0.02)
ROTARY = dict(COMMON, intermediate_size=48, num_key_value_heads=2, rms_norm_eps=1e-5)
OPT = dict(COMMON, ffn_dim=48, dropout=0.0, attention_dropout=0.0)
del OPT["initializer_range"]


def rope(theta, **more):
    return {"rope_type": "default", "rope_theta": theta, **more}


# name: (config class, its arguments, whether the leading "model." of the names is left out)
CASES = {
    "llama3": ("LlamaConfig", dict(
        ROTARY, tie_word_embeddings=True,
        rope_parameters=rope(500000.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                             high_freq_factor=4.0, original_max_position_embeddings=16)), False),
    # The heads are together wider than the block, and the window is shorter than the row.
    "mistral": ("MistralConfig", dict(ROTARY, head_dim=16, sliding_window=7,
                                      rope_parameters=rope(10000.0)), False),
    "qwen2": ("Qwen2Config", dict(ROTARY, tie_word_embeddings=True,
                                  rope_parameters=rope(1000000.0)), False),
    "qwen3": ("Qwen3Config", dict(ROTARY, head_dim=12, rope_parameters=rope(1000000.0)), False),
    "opt": ("OPTConfig", dict(OPT), False),
    "opt-post-norm": ("OPTConfig", dict(OPT, do_layer_norm_before=False, word_embed_proj_dim=24),
                      True),
}


def fill(model):
    """Draw every parameter anew, by its kind."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
            elif name.endswith("bias"):
                tensor.normal_(0.0, 0.2)
            elif "embed" in name:
                tensor.normal_(0.0, 1.0)
            else:
                # Twice what keeps the size of a random input.
                tensor.normal_(0.0, 2.0 * tensor.size(1) ** -0.5)


def make(folder, config_class, settings, bare):
    config = getattr(transformers, config_class)(**settings)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    fill(model)
    ids = torch.randint(3, config.vocab_size, (TOKENS,))
    with torch.no_grad():
        logits = model(ids.unsqueeze(0)).logits[0]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    weights = folder / "model.safetensors"
    if bare:
        save_file({name.removeprefix("model."): tensor
                   for name, tensor in load_file(weights).items()}, weights,
                  metadata={"format": "pt"})
    save_file({"ids": ids, "logits": logits.contiguous()}, folder / "golden.safetensors",
              metadata={"transformers": transformers.__version__})
    spread = logits.std().item()
    print(f"{folder.name}: {sum(path.stat().st_size for path in folder.iterdir())} bytes, "
          f"standard deviation of the logits {spread:.2f}")


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "data" / "families"
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    for number, (name, (config_class, settings, bare)) in enumerate(CASES.items()):
        torch.manual_seed(100 + number)
        make(target / name, config_class, settings, bare)


if __name__ == "__main__":
    main()
