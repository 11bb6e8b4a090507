"""How weights are chosen from windows of features: one network per policy."""
