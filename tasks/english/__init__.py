"""Plain English for pretrained models: facts of one word, two people and a thing, occupations. It is all harmless."""
