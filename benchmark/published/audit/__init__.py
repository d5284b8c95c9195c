"""The audit: each defect of the published study shown on the model organism, beside the same thing without it.

A pair measures one quantity twice, strictly and with one switch of the protocol ``paper`` on, on the same examples and,
wherever that is possible, the same perturbations. Nothing is assumed about the sign: where the cause of a defect is
absent, a pair shows no difference (METHOD section 11).
"""
