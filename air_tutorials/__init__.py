"""The tested code behind the notebooks: import what you need from its modules."""

__version__ = "0.1.0"
