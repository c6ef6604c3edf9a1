"""Tiny tokenizers with the chat templates of well-known models, shortened to what matters."""

from collections.abc import Mapping, Sequence

from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from datamodules.records import InstructionRecord, records_from_rows
from datamodules.tokenizer import train_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}<call>{{ c.function.name }}</call>"
    "{% endfor %}{% endif %}{{ m.content or '' }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MASKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>\n{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ZERO_MASK = CHATML + "{% generation %}{% endgeneration %}"
LLAMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% set parts = m.content.split('</think>') %}"
    "{% if loop.last %}<think>\n{{ parts[0].replace('<think>', '') if parts | length > 1 else '' }}"
    "\n</think>\n\n{% endif %}{{ parts[-1].strip() }}{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Thinking stands in the last turn alone, where it is never left out, as with Qwen3."""

TEXT = (
    "user assistant system name a colour of the sky and sea blue green red is it they say hello "
    "Below is an instruction that describes a task. Write a response. ### Instruction:\n\n"
)


def chat_tokenizer(
    template: str | None, specials: Sequence[str] = ("<|im_start|>", "<|im_end|>"), bos: str = ""
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with special tokens of its own; with `bos` it begins texts with it."""
    tokenizer = train_tokenizer([TEXT] * 3, 300)
    tokenizer.add_special_tokens({"additional_special_tokens": list(specials)})
    if bos:
        tokenizer.add_special_tokens({"bos_token": bos})
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    tokenizer.chat_template = template
    return tokenizer


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """The template writes a beginning token, and the tokenizer adds one."""
    specials = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return chat_tokenizer(LLAMA, specials, bos="<|begin_of_text|>")


def chat(*turns: tuple[str, str], name: str = "c") -> InstructionRecord:
    """A conversation of (role, text)."""
    return messages_of([{"role": role, "content": text} for role, text in turns], name)


def messages_of(messages: Sequence[Mapping[str, object]], name: str = "c") -> InstructionRecord:
    """A conversation as a file holds it."""
    return records_from_rows([(f"chats.jsonl:{name}", {"id": name, "messages": messages})], "")[0]
