"""What changed in a layer since the last capture: by stat cache, by scan, or by what the kernel reports.

Called by captures. Reads only; a stat cache that is lost costs time and nothing else.
"""
