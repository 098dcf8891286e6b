"""What ``make demo`` runs: regularizers, each joined in three ways."""
