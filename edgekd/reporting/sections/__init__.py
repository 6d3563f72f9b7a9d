"""The sections of report.html: each turns one block of report.json into what the template shows."""
