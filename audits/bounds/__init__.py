"""Proven ceilings to print beside what attacks measure."""
