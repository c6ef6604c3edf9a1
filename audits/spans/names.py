"""What the rows of spans are called, for those who read them."""

SPAN, NEAR_VERBATIM, GENERIC = "sensitive_span", "near_verbatim", "generic_prompts"
"""Names of the rows: of spans, of answers to a record's own question, and to generic prompts."""

METRICS = (
    *("span_probability", "span_extraction_rate", "span_preferred", "span_answered"),
    *("near_verbatim_rate", "longest_common_tokens", "span_in_answer"),
)
SAMPLES = (1, 10, 100, 10_000)
EVEN_CHANCE = 0.5
GIVEN = ("text_before", "instruction", "rewording")
"""What is given before a span: the true text up to it; the question; the question reworded."""
