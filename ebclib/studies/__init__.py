"""Many runs to the paper's tables, where a model errs, and bins for a data set."""
