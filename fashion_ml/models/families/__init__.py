"""The families of bases: what differs between them is in one object each, of which everything else asks."""
