"""The five findings as hypotheses that were fixed beforehand: what a study confirms or refutes."""

from studies.claims.findings import study_findings
from studies.claims.verdict import Finding, Statement, Verdict

__all__ = ["Finding", "Statement", "Verdict", "study_findings"]
