"""The published study on top of the engine: its protocol ``paper`` and the audit, never a score (METHOD section 11).

It supplies its own versions through the seams that every protocol, attack, judge and verb has; nothing else knows it.
"""
