"""Load a model folder in transformers and print what it makes of a text, as JSON.

Usage: transformers_perplexity.py FOLDER TEXT WINDOW COUNT
In float32; the text's first COUNT windows of WINDOW tokens, each alone, no BOS unless the tokenizer
adds one.  Needs torch and transformers, and nothing of the network.
"""
import json
import math
import os
import pathlib
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch  # noqa: E402 (the environment comes first)
import transformers  # noqa: E402


def main():
    folder, text, window, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(pathlib.Path(text).read_text(encoding="utf-8"))["input_ids"]
    losses = []
    with torch.no_grad():
        for first in range(0, window * count, window):
            row = torch.tensor([ids[first:first + window]])
            losses.append(model.eval()(input_ids=row, labels=row).loss.item())
    print(json.dumps({"perplexity": math.exp(sum(losses) / len(losses)),
                      "class": type(model).__name__,
                      "parameters": len(model.state_dict()),
                      "missing": sorted(told["missing_keys"]),
                      "unexpected": sorted(told["unexpected_keys"]),
                      "transformers": transformers.__version__}))


if __name__ == "__main__":
    main()
