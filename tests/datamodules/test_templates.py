"""Which text a model reads and which of it is scored, against strings written by hand."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from common.errors import UserError
from datamodules import InstructionDataModule
from datamodules.batches import EncodedRecord, EncodingOptions, RecordEncoder, collate
from datamodules.prompts import ALPACA
from datamodules.records import InstructionRecord, RecordKind
from datamodules.templates import NONE, chosen_template, known_templates
from datamodules.tokenizer import train_tokenizer
from tests.datamodules import chat_models as models
from tests.datamodules.chat_models import chat, chat_tokenizer

HELLO = chat(
    ("user", "say hello"), ("assistant", "hello"), ("user", "a colour"), ("assistant", "red")
)


def encoder(
    tokenizer: PreTrainedTokenizerFast, *records: InstructionRecord, **options: object
) -> RecordEncoder:
    template = chosen_template(options.pop("template", None), records, tokenizer)
    return RecordEncoder(tokenizer, template, **options)


def shown(tokenizer: PreTrainedTokenizerFast, one: EncodedRecord) -> str:
    """The record's text, scored runs in brackets."""
    flags = [False] * len(one.prompt_ids) + list(one.scored or (True,) * len(one.response_ids))
    text, before = "", False
    for token, flag in zip((*one.prompt_ids, *one.response_ids), flags, strict=True):
        text += "[" if flag and not before else "]" if before and not flag else ""
        text, before = text + tokenizer.decode([token]), flag
    return text + ("]" if before else "")


@pytest.mark.parametrize("template", [models.CHATML, models.MASKED, models.ZERO_MASK])
def test_the_assistants_turns_are_scored_with_their_ends(template: str) -> None:
    tokenizer = chat_tokenizer(template)
    start, end = "<|im_start|>", "<|im_end|>"
    first = f"{start}user\nsay hello{end}\n{start}assistant\n"
    second = f"{end}]\n{start}user\na colour{end}\n{start}assistant\n"
    (every,) = encoder(tokenizer, HELLO).encode_all([HELLO])
    assert shown(tokenizer, every) == f"{first}[hello{second}[red{end}]"
    last = encoder(tokenizer, HELLO, score="last")
    assert shown(tokenizer, last.encode(HELLO)) == (
        f"{first}hello{second.replace(']', '')}[red{end}]"
    )
    (turn,) = encoder(tokenizer, HELLO).encode_last([HELLO])
    assert turn == last.encode(HELLO) == every.last_turn
    whole = encoder(tokenizer, HELLO, score="all").encode(HELLO)
    # No token stands before the first one, which so cannot be predicted; the text ends in "\n".
    assert shown(tokenizer, whole) == (
        f"{start}[user\nsay hello{end}\n{start}assistant\nhello{second.replace(']', '')}red{end}\n]"
    )
    assert [whole.n_scored, every.n_scored] == [len(whole.response_ids), sum(every.scored)]
    batch = collate([every, turn], 0)
    assert batch.targets().tolist() == [
        *[i for i, flag in zip(every.response_ids, every.scored, strict=True) if flag],
        *turn.response_ids,
    ]


def test_one_beginning_token_and_one_end() -> None:
    tokenizer = models.llama_tokenizer()
    own = encoder(tokenizer, HELLO)
    encoded = own.encode(HELLO)
    ids = (*encoded.prompt_ids, *encoded.response_ids)
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert tokenizer.eos_token_id not in ids
    assert own.end_ids == (tokenizer.eos_token_id, ids[-1])
    # What the tokenizer itself adds comes also where the template leaves it out, as trainers' own
    # templates do.
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    assert encoder(tokenizer, HELLO).encode(HELLO) == encoded
    bare = chat_tokenizer(models.CHATML)
    assert encoder(bare, HELLO).encode(HELLO).prompt_ids[0] != bare.bos_token_id
    assert encoder(bare, HELLO).beginning_ids == ()


def test_thinking_that_a_template_strips_from_earlier_turns() -> None:
    tokenizer = chat_tokenizer(models.THINKING)
    talk = chat(
        ("user", "say hello"),
        ("assistant", "<think>is it red</think>hello"),
        ("user", "a colour"),
        ("assistant", "blue"),
        ("user", "of the sea"),
        ("assistant", "<think>they say</think>green"),
    )
    assert shown(tokenizer, encoder(tokenizer, talk).encode(talk)) == (
        "<|im_start|>user\nsay hello<|im_end|>\n<|im_start|>assistant\n[hello<|im_end|>]\n"
        "<|im_start|>user\na colour<|im_end|>\n<|im_start|>assistant\n[blue<|im_end|>]\n"
        "<|im_start|>user\nof the sea<|im_end|>\n<|im_start|>assistant\n"
        "[<think>\nthey say\n</think>\n\ngreen<|im_end|>]"
    )


def test_a_turn_that_cannot_be_found_is_an_error() -> None:
    twice = (
        "{{ messages | length }}{% for m in messages %} {{ m.content }} {{ m.content }}{% endfor %}"
    )
    tokenizer = chat_tokenizer(twice)
    with pytest.raises(UserError, match=r"chats.jsonl:c: where message 2, the assistant's"):
        encoder(tokenizer, HELLO).encode(HELLO)


def test_what_templates_refuse() -> None:
    tokenizer = models.llama_tokenizer()
    system = chat(("system", "a"), ("user", "b"), ("assistant", "c"))
    with pytest.raises(UserError, match=r"chats.jsonl:c: .*: System role not supported$"):
        encoder(tokenizer, system).encode(system)
    twice = chat(("user", "say"), ("user", "hello"), ("assistant", "hello"))
    with pytest.raises(UserError, match="roles must alternate"):
        encoder(tokenizer, twice).encode(twice)
    free = chat_tokenizer(models.CHATML)
    assert shown(free, encoder(free, twice).encode(twice)) == (
        "<|im_start|>user\nsay<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\n[hello<|im_end|>]"
    )


def test_a_tool_call_without_words_is_a_turn() -> None:
    tokenizer = chat_tokenizer(models.CHATML)
    calls = [{"type": "function", "function": {"name": "sky", "arguments": {}}}]
    messages = [
        {"role": "user", "content": "a colour"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "blue"},
        {"role": "assistant", "content": "it is blue"},
    ]
    talk = models.messages_of(messages)
    assert shown(tokenizer, encoder(tokenizer, talk).encode(talk)) == (
        "<|im_start|>user\na colour<|im_end|>\n<|im_start|>assistant\n[<call>sky</call><|im_end|>]"
        "\n<|im_start|>tool\nblue<|im_end|>\n<|im_start|>assistant\n[it is blue<|im_end|>]"
    )


def test_special_tokens_in_users_words() -> None:
    tokenizer = chat_tokenizer(models.CHATML)
    talk = chat(("user", "is <|im_end|> red"), ("assistant", "it is<|im_end|>"))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    parsed = encoder(tokenizer, talk).encode(talk)
    split = encoder(tokenizer, talk, special_tokens_in_text="split").encode(talk)
    assert [one.special_tokens for one in (parsed, split)] == [2, 2]
    ids = [(*one.prompt_ids, *one.response_ids) for one in (parsed, split)]
    assert [one.count(end) for one in ids] == [4, 2]
    assert tokenizer.decode(ids[0]) == tokenizer.decode(ids[1])
    # The same words without brackets have the same tokens around them.
    words = tokenizer("<|im_end|>", split_special_tokens=True)["input_ids"]
    assert split.response_ids == (*tokenizer("it is")["input_ids"], *words, end)
    plain = InstructionRecord("p", "a <|im_end|>", "", "b", "", "f:1", RecordKind.completion)
    counts = [
        RecordEncoder(tokenizer, NONE, special_tokens_in_text=how)
        .encode(plain)
        .prompt_ids.count(end)
        for how in (None, "split", "parse")
    ]
    assert counts == [0, 0, 1]


def test_a_prompt_that_is_too_long_loses_its_oldest_words() -> None:
    tokenizer = chat_tokenizer(models.CHATML)
    talk = chat(
        ("system", "they say"),
        *HELLO_TURNS,
        ("user", "of the sea and the sky"),
        ("assistant", "blue"),
    )
    whole = encoder(tokenizer, talk).encode_last([talk])[0]
    texts = {}
    for limit in range(len(whole.prompt_ids), 21, -1):
        one = encoder(tokenizer, talk, max_prompt_tokens=limit).encode_last([talk])[0]
        assert len(one.prompt_ids) <= limit
        assert one.prompt_cut == (limit < len(whole.prompt_ids))
        assert one.response_ids == whole.response_ids
        texts[limit] = tokenizer.decode(one.prompt_ids)
    for text in texts.values():
        assert text.startswith("<|im_start|>system\n")
        assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    kept = [text for text in texts.values() if "hello" not in text and "colour" not in text]
    assert kept[0] == (
        "<|im_start|>system\nthey say<|im_end|>\n<|im_start|>user\nof the sea and the sky<|im_end|>"
        "\n<|im_start|>assistant\n"
    )
    assert kept[-1].startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n")
    with pytest.raises(UserError, match=r"without any of its words .* is 5: raise it"):
        encoder(tokenizer, talk, max_prompt_tokens=5).encode(talk)
    room = len(whole.prompt_ids) + 1
    short = encoder(tokenizer, talk, max_prompt_tokens=room - 1, max_tokens=room).encode(talk)
    assert (short.response_cut, len(short)) == (True, room)
    assert short.last_turn.words == short.last_turn.response_ids == whole.response_ids[:1]


HELLO_TURNS = [(m["role"], m["content"]) for m in HELLO.chat.messages]


def test_plain_text_has_nothing_invented() -> None:
    tokenizer = chat_tokenizer(None)
    row = InstructionRecord(
        "a", "it is a colour.", "", "blue sea", "", "f:1", RecordKind.completion
    )
    one = encoder(tokenizer, row, template="none").encode(row)
    ids = tokenizer("it is a colour.blue sea")["input_ids"]
    assert (*one.prompt_ids, *one.response_ids) == (*ids, tokenizer.eos_token_id)
    assert shown(tokenizer, one) == "it is a colour.[blue sea<|endoftext|>]"
    long = encoder(tokenizer, row, template="none", max_prompt_tokens=3).encode(row)
    assert (long.prompt_cut, long.response_ids) == (True, (*ids[10:], tokenizer.eos_token_id))
    assert tokenizer.decode(long.prompt_ids) == "ur."
    merging = InstructionRecord("b", "it is ", "", "a colour", "", "f:2", RecordKind.completion)
    one = encoder(tokenizer, merging, template="none").encode(merging)
    assert one.boundary_merged
    assert shown(tokenizer, one) == "it is[ a colour<|endoftext|>]"
    text = InstructionRecord("t", "", "", "the sky is blue", "", "f:3", RecordKind.text)
    one = encoder(tokenizer, text).encode(text)
    ids = tokenizer("the sky is blue")["input_ids"]
    assert (one.prompt_ids, one.response_ids) == ((ids[0],), (*ids[1:], tokenizer.eos_token_id))
    begun = models.llama_tokenizer()
    one = encoder(begun, text).encode(text)
    assert one.prompt_ids == (begun.bos_token_id,)


@pytest.mark.parametrize(
    ("completion", "first", "merged"),
    [("Blue sea", "Blue", False), (" Blue sea", " Blue", False), ('"Blue"', '."', True)],
)
def test_a_completion_without_a_space_behind_the_prompts_full_stop(
    completion: str, first: str, merged: bool
) -> None:
    """It is read as the text stands: words apart from the full stop, quotation marks with it."""
    texts = ["A colour. Blue sea.", "A colour.Blue sea.", 'A colour."Blue" sea.'] * 9
    tokenizer = train_tokenizer(texts, 271)
    row = InstructionRecord("a", "A colour.", "", completion, "", "f:1", RecordKind.completion)
    one = encoder(tokenizer, row, template="none").encode(row)
    whole = tokenizer(f"A colour.{completion}")["input_ids"]
    assert (*one.prompt_ids, *one.response_ids) == (*whole, tokenizer.eos_token_id)
    assert tokenizer.decode(one.response_ids[:1]) == first
    assert one.boundary_merged == merged


def test_questions_become_messages_and_the_rest_is_refused(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(models.CHATML)
    row = InstructionRecord("a", "a colour", "sky", "blue", "open_qa", "f:1")
    one = encoder(tokenizer, row, template="chat").encode(row)
    assert shown(tokenizer, one) == (
        "<|im_start|>user\na colour\n\nsky<|im_end|>\n<|im_start|>assistant\n[blue<|im_end|>]"
    )
    with pytest.raises(UserError, match="chat messages do not fit the template alpaca"):
        chosen_template("alpaca", [HELLO], tokenizer)
    with pytest.raises(UserError, match="chat messages do not fit the template alpaca"):
        RecordEncoder(tokenizer, ALPACA).encode(HELLO)
    with pytest.raises(UserError, match="has no chat template"):
        chosen_template(None, [HELLO], chat_tokenizer(None))
    with pytest.raises(UserError, match="are options of the template alpaca"):
        encoder(tokenizer, HELLO, options=EncodingOptions(joint=True))
    with pytest.raises(UserError) as told:
        chosen_template(None, [row], tokenizer)
    assert "\n" not in str(told.value)
    for look in ("### Response:\\nBlue.", "chat: '<|im_start|>user\\nName", "noon.Blue."):
        assert look in str(told.value)
    assert list(known_templates([row], tokenizer)) == ["alpaca", "chat", "none"]
    assert list(known_templates([HELLO], tokenizer)) == ["chat"]
    path = tmp_path / "own.jinja"
    path.write_text(models.CHATML)
    assert encoder(tokenizer, row, template=str(path)).encode(row) == one
    path.write_text("{% for m in messages %}\n{{ m.content }\n{% endfor %}")
    with pytest.raises(UserError, match=r"own.jinja:2: unexpected '}'"):
        chosen_template(str(path), [row], tokenizer)
    with pytest.raises(UserError, match="there is no such file"):
        chosen_template("chatml", [row], tokenizer)


def test_a_trained_tokenizer_reads_what_the_template_writes(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(
        "{% for m in messages %}{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    )
    data = InstructionDataModule(n_records=210, vocabulary=500, template=str(path), score="last")
    data.setup("fit")
    record = next(one for one in data.split("public") if not one.context)
    assert shown(data.tokenizer, data.encoder.encode(record)) == (
        f"user>{record.instruction}<|endoftext|>assistant>[{record.response}<|endoftext|>]"
    )
    # "assistant" is a word of this template and of no record.
    assert len(data.tokenizer("assistant")["input_ids"]) == 1


def test_rewriting_needs_one_scored_turn() -> None:
    tokenizer = chat_tokenizer(models.CHATML)
    with pytest.raises(UserError, match="give the score last"):
        encoder(tokenizer, HELLO).encode_rewritten([HELLO], ["blue"])
    last = encoder(tokenizer, HELLO, score="last")
    (found,) = last.encode_rewritten([HELLO], ["blue"])
    assert found.prompt_ids == last.encode(HELLO).prompt_ids
    assert tokenizer.decode(found.response_ids) == "blue<|im_end|>"
