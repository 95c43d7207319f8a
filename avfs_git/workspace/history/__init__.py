"""Looking back and taking back: logs, comparisons, undo; and looking after: doctor, gc.

Called by the SDK. Looking changes nothing. Each undo is itself an operation.
"""
