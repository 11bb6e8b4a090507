"""Estimates of factor premia that forecasters and mappers share: arrays in, arrays out."""
