"""Sensitive spans that are recognised in responses, for records that name none: an extra.

Microsoft Presidio's pattern recognisers (github.com/microsoft/presidio) find mail addresses, phone
and card numbers and the like. Names of persons need a language model of spaCy that is installed
already; nothing is downloaded.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Literal, get_args

from common.errors import UserError
from datamodules.records import InstructionRecord
from datamodules.sensitive import SensitiveSpan

Detector = Literal["presidio"]

_LEAST_SCORE = 0.4
"""Of a pattern's confidence, from 0 to 1: below it stand any nine digits."""

_Finder = Callable[[str], Iterator[tuple[int, int, str]]]
"""From a text to first and last character and type of what is found."""


def require_detector(detector: str | None) -> None:
    """Refuses a detector that is none, or not installed, before anything is read.

    Raises:
        UserError: Saying how to have it.
    """
    if detector is None:
        return
    if detector not in get_args(Detector):
        raise UserError(f"detect_pii is {detector!r}: choose presidio, or leave it out")
    if find_spec("presidio_analyzer") is None:
        raise UserError(
            "detect_pii presidio needs a package that is not installed: pip install "
            "'kd-privacy[presidio]'"
        )


def with_detected(
    records: Sequence[InstructionRecord], detector: str | None
) -> list[InstructionRecord]:
    """Returns records with what is recognised in their responses beside the spans that they name.

    Args:
        records: The records.
        detector: See `Detector`; None recognises nothing.
    """
    require_detector(detector)
    if detector is None:
        return list(records)
    finders = [_patterns(), *_names()]
    return [replace(one, sensitive=_spans(one, finders)) for one in records]


def _spans(record: InstructionRecord, finders: Sequence[_Finder]) -> tuple[SensitiveSpan, ...]:
    """Returns the named spans, then those found, each text once; none lies inside another."""
    text = record.response
    found = sorted(
        (one for finder in finders for one in finder(text)), key=lambda one: (one[0], -one[1])
    )
    spans, end = {span.text: span for span in record.sensitive}, 0
    for first, last, kind in found:
        if last > end:
            end = last
            spans.setdefault(text[first:last], SensitiveSpan(text[first:last], kind))
    return tuple(spans.values())


def _patterns() -> _Finder:
    from presidio_analyzer import PatternRecognizer, RecognizerRegistry
    from presidio_analyzer.predefined_recognizers import EmailRecognizer, PhoneRecognizer
    from tldextract import TLDExtract

    # Its own check of a mail address fetches the list of domain endings; the package has a copy.
    offline = TLDExtract(suffix_list_urls=(), cache_dir=None)

    class OfflineEmailRecognizer(EmailRecognizer):
        def validate_result(self, pattern_text: str) -> bool:
            return bool(offline(pattern_text).top_domain_under_public_suffix)

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    kept: list[Any] = [
        one
        for one in registry.recognizers
        if isinstance(one, PatternRecognizer | PhoneRecognizer)
        and not isinstance(one, EmailRecognizer)
    ]
    kept.append(OfflineEmailRecognizer())

    def find(text: str) -> Iterator[tuple[int, int, str]]:
        for recognizer in kept:
            for one in recognizer.analyze(text, recognizer.supported_entities, None) or ():
                if one.score >= _LEAST_SCORE:
                    yield one.start, one.end, str(one.entity_type).lower()

    return find


def _names() -> list[_Finder]:
    import spacy

    models = [name for name in spacy.util.get_installed_models() if name.startswith("en_")]
    if not models:
        return []
    model = spacy.load(models[0])

    def find(text: str) -> Iterator[tuple[int, int, str]]:
        for entity in model(text).ents:
            if entity.label_ == "PERSON":
                yield entity.start_char, entity.end_char, "person"

    return [find]
