"""What the package is measured against, and how: `make bench`. README.md in this directory says how to read it."""
