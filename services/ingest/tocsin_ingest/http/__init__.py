"""What other systems already speak."""
