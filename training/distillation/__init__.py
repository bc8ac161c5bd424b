"""What `distilling` is made of: the plans of its students, their runs and their report."""
