"""Looking back and taking back: logs, comparisons, undo and revert.

Called by the SDK. Looking changes nothing. Each undo is itself an operation.
"""
