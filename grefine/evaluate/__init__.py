"""Before and after: the long table, its statistics, tables, plots and report."""
