"""The report: its record, its HTML page with sections and charts, and the comparison of builds.

It may import every room above it in the table of CONTRIBUTING.md.
Start with report_record.py, which names all that a report holds; then html_report.py.
"""
