"""Which candidate wins, measured cheap first."""
