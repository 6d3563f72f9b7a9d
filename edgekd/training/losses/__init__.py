"""Loss functions on logits, features, relations and explanations: pure functions of tensors."""
