"""What a model achieved, for people to read: error metrics, figures and the HTML report.

This layer draws and writes; it trains nothing and runs no dynamics.
"""
