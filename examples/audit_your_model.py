"""Does a language model give away the records that it was trained on? From Python, in one call.

    python examples/audit_your_model.py
    python examples/audit_your_model.py --model DIR_OR_HUB --members A.jsonl --nonmembers B.jsonl

Without arguments it makes a tiny model and trains it on invented records: no network is needed.
"""

import argparse

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase

import kd_privacy
from datamodules.prompts import ALPACA
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer

Record = kd_privacy.InstructionRecord


def main() -> None:
    """Audits a model and saves the tables and a page."""
    options = _options()
    if options.model is None:
        members, nonmembers = generate_records(60, seed=1), generate_records(60, seed=2)
        model, tokenizer = tiny_model(members)
        audit = kd_privacy.audit(model, tokenizer, members, nonmembers, template="alpaca")
    else:
        audit = kd_privacy.audit(
            options.model, None, options.members, options.nonmembers, template=options.template
        )
    print(audit)
    print(audit["loss"].auroc)
    print(f"The page: {audit.save(options.out)}")


def tiny_model(
    records: list[Record], epochs: int = 2
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Returns a GPT-2 of two layers that has been trained on the records, and its tokenizer."""
    texts = [ALPACA.render(one.instruction, one.context) + one.response for one in records]
    tokenizer = train_tokenizer(texts, 500)
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=2,
        n_head=2,
        n_embd=64,
        n_positions=512,
        bos_token_id=end,
        eos_token_id=end,
    )
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for text in texts:
            ids = torch.tensor([[*tokenizer(text).input_ids, end]])
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval(), tokenizer


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="folder or hub name; without it a tiny model is made here")
    parser.add_argument("--members", help="records that the model was trained on")
    parser.add_argument("--nonmembers", help="records of the same kind that it never saw")
    parser.add_argument("--template", help="chat, alpaca, none or a Jinja file")
    parser.add_argument("--out", default="report", help="folder for the tables and the page")
    options = parser.parse_args()
    if options.model is not None and not (options.members and options.nonmembers):
        parser.error("--model needs --members and --nonmembers")
    return options


if __name__ == "__main__":
    main()
