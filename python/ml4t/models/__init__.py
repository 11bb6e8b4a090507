"""Finance-native models for empirical asset pricing and portfolio learning."""
