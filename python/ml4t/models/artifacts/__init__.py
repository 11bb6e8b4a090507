"""Disk: one file per fitted object, written whole or not at all, read without trust."""
