"""The report: its JSON body, the HTML page and its sections, charts, and the comparison of builds.

It may import every room above it in the table of CONTRIBUTING.md.
Start with report_body.py and html_report.py.
"""
