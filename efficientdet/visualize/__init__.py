"""Pictures, plots and the HTML reports."""
