"""What ``make demo`` runs: eight ways to fine-tune, from two sources."""
