"""Many runs: matrices, campaigns, workers, results and what is made of them."""
