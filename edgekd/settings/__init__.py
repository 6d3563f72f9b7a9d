"""What a user can set: recipes, losses by name, specs of networks, and device profiles.

It may import core, and nothing that loads torch.
Start with recipe.py, and setting_types.py for how a setting is declared.
"""
