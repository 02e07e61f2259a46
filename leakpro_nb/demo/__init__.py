"""The demonstration: a length-of-stay model, trained on half of SUPPORT2 and audited."""
