"""Callbacks for frameworks that own the loop, each in the module of its framework."""
