"""Proven ceilings to print beside what attacks measure, and the accounting that they rest on."""
