"""Speed against peers and against the machine's limits: `bp-lcz bench`. Committed results are in ``results``."""
