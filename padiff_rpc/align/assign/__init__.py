"""Carry base's weights over into raw."""
