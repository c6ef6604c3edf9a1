"""Special tokens that users spell out are found again in the rendered text, or refused."""

import re

import pytest

from common.errors import UserError
from datamodules.chat_template import ChatTemplate
from datamodules.records import InstructionRecord
from datamodules.spelled_tokens import places_of


def test_a_mark_in_users_words_is_refused() -> None:
    template = ChatTemplate("chat", "{{ messages[0].content }}{{ messages[1].content }}", {}, ())
    record = InstructionRecord("a", "What is <end>?\ue000\ue100", "", "An end.", "", "f:1")
    with pytest.raises(UserError, match="f:1: it spells a special token and holds U"):
        places_of(record, template.render(record), template, re.compile("<end>"))
