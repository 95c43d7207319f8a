"""Repositories that avfs did not make: taking one over, and making its git directory anew.

Nothing in them is run or obeyed.
"""
