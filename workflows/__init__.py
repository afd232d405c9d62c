"""What runs (the YAML files), and what runs it (`engine`)."""
