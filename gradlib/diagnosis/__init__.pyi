from .causes import CAUSES, Cause
from .diagnose import diagnose
from .diagnose_history import diagnose_history
from .diagnose_log import diagnose_log
from .report import Finding, Report
from .rules.table import RULES, Rule

__all__ = [
    "CAUSES",
    "RULES",
    "Cause",
    "Finding",
    "Report",
    "Rule",
    "diagnose",
    "diagnose_history",
    "diagnose_log",
]
