"""The table needs what Optax has since 0.2.6: ``freeze`` and ``snapshot``."""

import optax

collect_ignore = [] if hasattr(optax, "snapshot") else ["test_composition.py"]
