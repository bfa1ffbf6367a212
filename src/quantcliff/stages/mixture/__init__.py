"""Mixed precision and mixed calibration text: which units need bits, by task and by general loss."""
