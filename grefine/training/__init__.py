"""Data sets, losses, one loop, and one recipe per trained thing."""
