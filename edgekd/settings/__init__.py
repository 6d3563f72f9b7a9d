"""What a user can set: the recipe, the losses by name, the specs of networks, and the profiles of devices.

It may import core.
Start with recipe.py.
"""
