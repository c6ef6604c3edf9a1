"""What a model writes of its records when it is asked by somebody who knows nothing of them."""

from collections.abc import Sequence

import numpy as np

from audits.scoring.model_access import ModelAccess
from audits.spans.answers import sample_answers, texts_of
from audits.spans.common_substring import equal_tokens, longest_common
from audits.spans.figures import Figure
from audits.spans.names import GENERIC
from audits.spans.options import SpanOptions
from audits.spans.probabilities import SpanScores
from audits.spans.prompts import generic_records
from common.keys import numpy_generator
from datamodules.sensitive import holds


def generic_figures(
    access: ModelAccess, options: SpanOptions, populations: Sequence[SpanScores]
) -> list[list[Figure]]:
    """Returns figures of each population, all of them of the same answers.

    Every population is given as many spans, and as many tokens of text, as the one with the fewest:
    with more of either, more is held by chance. An interval takes the answers to one prompt
    together; that of a difference takes no account of both sides sharing the answers, and is too
    wide rather than too narrow.

    Args:
        access: The model.
        options: How spans are looked for.
        populations: Records and spans of each.
    """
    encoder = access.encoder
    prompts = encoder.encode_last(generic_records(populations[0].records[0]))
    each = sample_answers(
        access,
        prompts,
        [options.answer_tokens] * len(prompts),
        options.samples,
        options.scheme,
        "answers to generic prompts",
    )
    answers = [answer for own in each for answer in own]
    clusters = [number for number, own in enumerate(each) for _ in own]
    texts = texts_of(access, answers)
    words = [[one.words for one in encoder.encode_last(found.records)] for found in populations]
    fewest = min(len(found.spans) for found in populations)
    figures = []
    for found, records in zip(populations, equal_tokens(words, access.seed), strict=True):
        order = numpy_generator("equal-spans", access.seed).permutation(len(found.spans))
        spans = [found.spans[place].text for place in order[:fewest]]
        held = [float(any(holds(text, span) for span in spans)) for text in texts]
        runs = longest_common(answers, records)
        figures.append(
            [
                Figure(GENERIC, "span_in_answer", np.array(held), clusters, {"spans": fewest}),
                Figure(GENERIC, "longest_common_tokens", runs, clusters, low=None),
            ]
        )
    return figures
