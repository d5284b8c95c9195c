"""What the published study measures where it differs: for the protocol ``paper`` and the audit, never for a score."""
