"""HTTP: dialects in front, one engine behind. A dialect knows its own shapes and none of the others'."""
