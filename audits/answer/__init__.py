"""The answer of an audit or a study: one structure, from which every rendering is made."""

from audits.answer.answer import AccessAnswer, Answer, Figure, Found, ModelAnswer, Statement
from audits.answer.one_model import model_answer

__all__ = ["AccessAnswer", "Answer", "Figure", "Found", "ModelAnswer", "Statement", "model_answer"]
