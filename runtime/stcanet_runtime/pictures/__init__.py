"""What a person would rather see than read: sheets of ranked lists, curves of thresholds."""
