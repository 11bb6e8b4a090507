"""What a panel is: which cells are observed, which asset is which."""
