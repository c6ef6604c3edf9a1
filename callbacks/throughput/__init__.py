"""How fast a run trains, and what its time is spent on."""
