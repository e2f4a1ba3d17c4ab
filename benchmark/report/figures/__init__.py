"""What draws, and the rows behind each drawing. A change to any module here draws every figure anew."""
