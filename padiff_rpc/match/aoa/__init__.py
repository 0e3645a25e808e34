"""Read and write AOA statements, in which Paddle says how one checkpoint becomes another."""
